"""A whole engine for imported models as a board: its sizes, and the image that the link loads.

The link's memories (`ternac.compile.geometry.Mem`) are here: BIAS registers, PROGRAM instructions, WEIGHT
descriptors of matrices, NORM the one word that enables the engine, BANK states of sessions and logits. Words
are 16 bits. Weights, constants and rows of the embedding lie in external memory, which the link does not see.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry, Mem, MemoryShape
from ternac.compile.image import Image, Symbol
from ternac.compile.stream_layout import Encoding
from ternac.compile.wide import lower
from ternac.compile.wide_code import WORD_BYTES, WideCode, encode
from ternac.compile.wide_memory import MemoryMap, lay_out
from ternac.errors import require
from ternac.program.program import Program

__all__ = [
    "CODE_WORDS", "LANES", "MATRIX_WORDS", "PORT_BITS", "REGISTERS", "WIDE", "WideBoardImage", "WideGeometry",
    "compile_wide", "geometry_for", "is_wide_board",
]  # fmt: skip

WIDE = "axi-wide"
"""Board that is an engine made for a program; ``axi-wide-PORTxLANES`` has another port and other lanes."""
LANES, PORT_BITS = 8, 128
"""Of the engine that a program gets where none is named: what docs/wide.md has as the default."""
CODE_WORDS = 16
"""Words from one instruction to the next; the first 12 are it."""
MATRIX_WORDS = 8
"""Words of a descriptor: address, beats and rows of two each, words, first word of activations."""
REGISTERS = {
    "last_matrix": 0, "rows_words": 1, "state_words": 2,
    "constants_base": 4, "constants_words": 6, "rows_base": 8,
}  # fmt: skip
"""First word of each register; bases and constants' words have two."""
_SPARE_SESSIONS = 4
_LINK_WORDS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class WideGeometry(Geometry):
    """Sizes of a whole engine, of which a column is a lane: element ``e`` of a state is word ``e // columns``
    of column ``e % columns``. ``bank_depth`` words hold the states of all sessions.

    The other parameters of `Geometry` mean nothing here.
    """

    port_bits: int
    vector_words: int
    activation_words: int
    instructions: int
    matrices: int
    vocab: int
    curves: int = 2
    fifo: int = 512
    address_bits: int = 32
    chain: int = 1
    weight_block_bits: int = 16
    weight_depth: int = 1
    x_depth: int = 1
    bias_depth: int = 16
    bias_bits: int = 16
    embed_depth: int = 1

    @property
    def logits_at(self) -> int:
        """Word of BANK from which on it is logits: the last ones."""
        return _LINK_WORDS - self.slots(self.vocab)

    def memory(self, mem: Mem) -> MemoryShape:
        if mem == Mem.BANK:
            return MemoryShape(self.columns, _LINK_WORDS, 16)
        depths = {
            Mem.PROGRAM: CODE_WORDS * self.instructions, Mem.WEIGHT: MATRIX_WORDS * self.matrices,
            Mem.BIAS: 16, Mem.NORM: 1,
        }  # fmt: skip
        return MemoryShape(1, depths.get(mem, 0), 16)

    @property
    def hash(self) -> bytes:
        return hashlib.sha256(json.dumps(["wide", asdict(self)]).encode()).digest()[:8]


@dataclass(frozen=True)
class WideBoardImage(Image):
    """The image of a wide program: what the link writes, and ``external``, what is read through the port."""

    code: WideCode | None = None
    external: MemoryMap | None = None


def is_wide_board(name: str) -> bool:
    """Return whether a board is named as an engine that is made for a program."""
    return name.startswith(WIDE)


def geometry_for(program: Program, *, lanes: int = LANES, port_bits: int = PORT_BITS) -> WideGeometry:
    """Return an engine for a program, named by port and lanes. Every memory is a power of two of at least 64
    words, so that programs of like sizes share one.

    Raises UnsupportedOp if the wide unit has no form of the program.
    """
    code = _code(program, lanes, port_bits)

    def words(needed: int) -> int:
        return 1 << max(6, (needed - 1).bit_length())

    image = code.image
    return WideGeometry(
        name=f"{WIDE}-{port_bits}x{lanes}", columns=lanes, lanes=lanes, port_bits=port_bits,
        vector_words=words(-(-image.vectors // lanes)),
        activation_words=words(image.activations // code.port_bytes),
        instructions=words(len(code.words)), matrices=words(len(code.matrices)), vocab=words(program.vocab),
        bank_depth=words(_SPARE_SESSIONS * _state_words(code)), curves=image.slots,
    )  # fmt: skip


def compile_wide(program: Program, geometry: WideGeometry) -> WideBoardImage:
    """Return the image of a program for an engine.

    Raises UnsupportedOp if the wide unit has no form of it, DoesNotFit if the engine is too small.
    """
    code = _code(program, geometry.columns, geometry.port_bits)
    state_words = _state_words(code)
    for resource, needed, limit in (
        ("instructions", len(code.words), geometry.instructions),
        ("words of vectors", -(-code.image.vectors // geometry.columns), geometry.vector_words),
        ("words of activations", code.image.activations // code.port_bytes, geometry.activation_words),
        ("matrices", len(code.matrices), geometry.matrices),
        ("logits", program.vocab, geometry.vocab),
        ("curves", code.image.slots, geometry.curves),
        ("words of states", state_words, geometry.bank_depth),
    ):
        text = f"the program needs {needed:,} {resource}, {geometry.name} has {limit:,}"
        require(resource, needed, limit, text)
    external = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
    limit = 1 << geometry.address_bits
    text = f"external memory is {external.image.size:,} bytes, {geometry.name} addresses {limit:,}"
    require("bytes of external memory", external.image.size, limit, text)
    states = {
        name: Symbol(at // geometry.columns, program.states[name], "i16")
        for name, at in code.image.states.items()
    }
    return WideBoardImage(
        geometry=geometry, program_hash=program.hash, memories=_memories(code, external, state_words),
        instructions=(), names=(), symbols={}, states=states, state_base=0, state_slots=state_words,
        sessions=min(geometry.bank_depth, geometry.logits_at) // state_words,
        logits=Symbol(geometry.logits_at, program.vocab, "i16"), code=code, external=external,
    )  # fmt: skip


def _code(program: Program, lanes: int, port_bits: int) -> WideCode:
    size = port_bits // 8
    return encode(lower(program, word=max(size, lanes)), lanes, port_bytes=size, encoding=Encoding.FIVE)


def _state_words(code: WideCode) -> int:
    """Words of vector memory that a session's states take, from word 0 on."""
    ends = [at + code.image.program.states[name] for name, at in code.image.states.items()]
    return max(1, -(-max(ends, default=0) // code.lanes))


def _halves(value: int, count: int = 2) -> list[int]:
    return [value >> 16 * i & 0xFFFF for i in range(count)]


def _memories(code: WideCode, external: MemoryMap, state_words: int) -> dict[Mem, npt.NDArray[np.uint32]]:
    """What is loaded, in the order in which it is: any register stops the engine, NORM lets it begin."""
    registers = np.zeros(16, np.uint32)
    for name, value in (
        ("last_matrix", len(code.matrices) - 1), ("rows_words", external.row_words),
        ("state_words", state_words - 1),
        ("constants_base", external.constants), ("constants_words", external.constant_words),
        ("rows_base", external.rows),
    ):  # fmt: skip
        at = REGISTERS[name]
        wide = 1 if at < REGISTERS["constants_base"] else 2
        registers[at : at + wide] = _halves(value, wide)
    program = np.zeros((len(code.words), CODE_WORDS), np.uint32)
    for at, word in enumerate(code.words):
        program[at, : WORD_BYTES // 2] = _halves(word, WORD_BYTES // 2)
    matrices = [
        [
            *_halves(external.weights + each.address), *_halves(each.beats(code.encoding)),
            *_halves(each.rows), each.words, each.x_base,
        ]
        for each in code.matrices
    ]  # fmt: skip
    return {
        Mem.BIAS: registers[None],
        Mem.PROGRAM: program.reshape(1, -1),
        Mem.WEIGHT: np.array(matrices, np.uint32).reshape(1, -1),
        Mem.NORM: np.ones((1, 1), np.uint32),
    }
