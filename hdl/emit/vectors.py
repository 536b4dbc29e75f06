"""Test vectors of the emitted designs, as files that a testbench in plain Verilog loads by ``$readmemh``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.loading import load_requests, program_id, write_payload
from ternac.compile.stream_layout import Descriptor, pack_matrix
from ternac.hdl.axi.registers import ID, MAP_WORDS, OKAY, SLVERR, register
from ternac.hdl.axi.rows import PARTS, RowShape
from ternac.hdl.axi.top import AxiTop
from ternac.hdl.emit.reference import BankWords, Reference
from ternac.hdl.link.controller import LinkController
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.link import (
    ANSWER,
    CLEAR_BLOCK,
    CLEAR_WORDS,
    FRAME_BYTES,
    GREEDY_FLAG,
    MAX_WORDS,
    MOST_CLEAR,
    READ_ROWS,
    SEQUENCE,
    VERSION,
    Choice,
    Command,
    Frame,
    Identity,
    ReadRequest,
    RunAnswer,
    RunRequest,
    encode_words,
)
from ternac.program.program import Program

__all__ = [
    "BUS_BITS",
    "POLL_BUS",
    "READ_BUS",
    "WRITE_BUS",
    "Vectors",
    "axi_vectors",
    "bus_access",
    "core_vectors",
    "link_vectors",
    "matrices_of",
    "stream_vectors",
]

Trits = npt.NDArray[np.int8]
MOST_MATRICES = 4
"""Matrices of a program that the streaming unit is tested with."""


@dataclass
class Vectors:
    """Files by name, numbers for the testbench by name, and what is compared, in words."""

    files: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    compared: list[str] = field(default_factory=list)

    def add(self, name: str, title: str, rows: Iterable[str | int], bits: int) -> None:
        """Add a file of words of ``bits`` bits; texts among ``rows`` become comments.

        Its number of words is ``NAME_WORDS``.
        """
        lines, words = [f"// {title}"], 0
        for row in rows:
            if isinstance(row, str):
                lines.append(f"// {row}")
            else:
                lines.append(f"{row:0{-(-bits // 4)}x}")
                words += 1
        self.files[name] = "\n".join(lines) + "\n"
        self.numbers[f"{name.partition('.')[0].upper()}_WORDS"] = words


def _pack(*fields: tuple[int, int]) -> int:
    """Return (value, bits) fields as one word, the first in the highest bits."""
    word = 0
    for value, bits in fields:
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{value} does not fit {bits} bits")
        word = word << bits | value
    return word


# ---- the bare engine

LOAD_BITS, STEP_BITS = 48, 200
STEP, READ = 1, 2


def _load_words(image: Image, reference: Reference) -> Iterator[str | int]:
    """Yield every word of the image, then zeros for the session's state: mem, block, address, word."""
    for mem, blocks in image.memories.items():
        yield f"{mem.name}: memory {int(mem)}, {blocks.shape[0]} x {blocks.shape[1]} words"
        for block, words in enumerate(blocks):
            for address, word in enumerate(words):
                yield _pack((int(mem), 4), (block, 8), (address, 16), (int(word), 20))
    yield "the session's state: zeros"
    first = image.state_base + reference.session_base
    for block in range(image.geometry.columns):
        for address in range(first, first + image.state_slots):
            yield _pack((int(Mem.BANK), 4), (block, 8), (address, 16), (0, 20))


def core_vectors(program: Program, image: Image, count: int, seed: int) -> Vectors:
    """Return the vectors of top ``core``: all memories, then a token at a time, then logits and state."""
    reference, vectors = Reference(program, image, count, seed), Vectors()

    def script() -> Iterator[str | int]:
        for step in (step for run in reference.runs for step in run.steps):
            rule = step.sampling
            chosen = f"chooses {step.chosen}, " if step.emit else ""
            yield f"token {step.token}: {chosen}{step.cycles} cycles"
            yield _pack(
                (STEP, 4), (image.entries[0], 16), (step.token, 16), (reference.session_base, 16),
                (step.emit, 4), (rule.greedy, 4), (rule.m, 8), (rule.s, 8), (rule.top_k, 16), (step.rng, 32),
                (step.chosen, 16), (step.following, 32), (step.cycles, 28),
            )  # fmt: skip
        for part in reference.bank_words():
            yield f"{part.name}, column {part.block}"
            for at, word in enumerate(part.words):
                yield _pack((READ, 4), (part.block, 16), (part.address + at, 16), (word, 164))
        for part in reference.row_words():
            yield f"rows {part.name}, column {part.block}"
            for at, word in enumerate(part.words):
                yield _pack((READ, 4), (READ_ROWS + part.block, 16), (part.address + at, 16), (word, 164))

    vectors.add("load.hex", "memory, block, address, word", _load_words(image, reference), LOAD_BITS)
    vectors.add("script.hex", "steps and reads in order; fields: see testbench.v", script(), STEP_BITS)
    vectors.compared = _compared(reference)
    return vectors


def _compared(reference: Reference) -> list[str]:
    greedy, drawn = reference.runs
    rows = [f"rows of {len(reference.program.memories)} memories"] if reference.program.memories else []
    return [
        f"tokens by argmax: {' '.join(map(str, greedy.chosen))}",
        f"tokens drawn at temperature 1: {' '.join(map(str, drawn.chosen))}",
        f"clock cycles of {len(greedy.steps) + len(drawn.steps)} tokens: {greedy.cycles + drawn.cycles}",
        f"logits and state words after the last token, of {len(reference.image.states)} states",
        *rows,
    ]


# ---- the engine behind its byte link


def _exchange(
    program: Program, image: Image, link: LinkController, reference: Reference
) -> Iterator[tuple[str, Command, bytes, bytes]]:
    """Yield every request with its title and the payload of its answer."""
    empty = Identity(
        link.identity.bitstream_id, link.identity.geometry_hash, link.identity.clock_hz, bytes(16),
        window=link.identity.window,
    )  # fmt: skip
    yield "HELLO: no program is loaded", Command.HELLO, b"", empty.encode()
    for command, payload in load_requests(image):
        yield f"{command.name} to load the program", command, payload, b""
    loaded = Identity(
        empty.bitstream_id, empty.geometry_hash, empty.clock_hz, program_id(image), window=empty.window
    )
    yield "HELLO: the program is loaded", Command.HELLO, b"", loaded.encode()
    first = image.state_base + reference.session_base
    zeros = np.zeros(image.state_slots, np.uint32)
    limit = MAX_WORDS // 2
    for block, address, none in _clears(image, image.row_start(reference.slot)):
        payload = write_payload(Mem.ROWS, block, address, none, 1)
        yield "WRITE that clears rows of the session", Command.WRITE, payload, b""
    for block in range(image.geometry.columns):
        for at in range(0, len(zeros), limit):
            payload = write_payload(Mem.BANK, block, first + at, zeros[at : at + limit], 2)
            yield "WRITE of the session's first state", Command.WRITE, payload, b""
    for run in reference.runs:
        rule = run.sampling
        choice = Choice(rule.greedy, rule.m, rule.s, rule.top_k)
        request = RunRequest(reference.session_base, run.tokens, len(run.chosen), choice, run.rng)
        answer = RunAnswer(run.chosen, run.following, run.cycles)
        how = "argmax" if choice.flags & GREEDY_FLAG else "a seeded draw"
        title = f"RUN by {how}: tokens {' '.join(map(str, run.chosen))}, {run.cycles} cycles"
        yield title, Command.RUN, request.encode(), answer.encode()
    for part in reference.bank_words():
        for at in range(0, len(part.words), limit):
            words = part.words[at : at + limit]
            title = f"READ of {part.name}, column {part.block}, from slot {at}"
            request_bytes = ReadRequest(len(words), part.block, part.address + at).encode()
            yield title, Command.READ, request_bytes, encode_words(words)
    for part in reference.row_words():
        for at in range(0, len(part.words), limit):
            words = part.words[at : at + limit]
            title = f"READ of rows {part.name}, column {part.block}, from word {at}"
            request_bytes = ReadRequest(len(words), READ_ROWS + part.block, part.address + at).encode()
            yield title, Command.READ, request_bytes, encode_words(words)


def _clears(image: Image, start: int) -> Iterator[tuple[int, int, npt.NDArray[np.uint32]]]:
    """Yield the WRITEs to row RAM, as block, address and words, that clear a session's rows."""
    whole, rest = divmod(image.row_words, CLEAR_WORDS)
    for at in range(whole):
        yield CLEAR_BLOCK, start + at * CLEAR_WORDS, np.zeros(1, np.uint32)
    for column in range(image.geometry.columns if rest else 0):
        yield column, start + whole * CLEAR_WORDS, np.zeros(rest, np.uint32)


def link_vectors(
    program: Program, image: Image, link: LinkController, count: int, seed: int
) -> tuple[Vectors, list[tuple[str, bytes, bytes]]]:
    """Return the vectors of top ``link``, and each exchange: its title, request and answer on the wire."""
    reference, vectors = Reference(program, image, count, seed), Vectors()
    frames = []
    for seq, (title, kind, payload, answer) in enumerate(_exchange(program, image, link, reference)):
        number = seq % SEQUENCE
        request = Frame(kind, number, payload).wire()
        frames.append((title, request, Frame(kind | ANSWER, number, b"\0" + answer).wire()))

    def rows(part: int) -> Iterator[str | int]:
        at = 0
        for title, *wires in frames:
            yield f"byte {at}: {title}"
            yield from wires[part]
            at += len(wires[part])

    vectors.add("requests.hex", f"frames of at most {FRAME_BYTES} bytes, as on the line", rows(0), 8)
    vectors.add("answers.hex", "what must come back", rows(1), 8)
    vectors.compared = [*_compared(reference), f"every byte of {len(frames)} answers"]
    return vectors, frames


# ---- the streaming unit


def matrices_of(program: Program, unit: StreamMatVec) -> list[tuple[str, Trits]]:
    """Return the first ternary matrices of a program whose activations the unit can hold, by name."""
    most = unit.x_depth * unit.port_bits // 8
    names = [str(op.attrs["weights"]) for op in program.ops if op.kind == "TMATVEC"]
    fitting = [(name, program.consts[name]) for name in names if program.consts[name].shape[1] <= most]
    return fitting[:MOST_MATRICES]


@dataclass(frozen=True)
class _Product:
    """A matrix in memory with its activations and the sums that NumPy makes of them."""

    name: str
    descriptor: Descriptor
    beats: int
    activations: list[int]
    sums: list[int]


def _products(
    program: Program, unit: StreamMatVec, seed: int, most: int
) -> tuple[list[_Product], npt.NDArray[np.uint8]]:
    """Return products, the first of ``most`` matrices, and the bytes of their weights."""
    rng, size = np.random.default_rng(seed), unit.port_bits // 8
    products, parts, address = [], [], 0
    for name, trits in matrices_of(program, unit)[:most]:
        rows, columns = trits.shape
        words = -(-columns // size)
        x = np.zeros(words * size, np.int8)
        x[:columns] = rng.integers(-128, 128, columns)
        packed = pack_matrix(trits, size, unit.encoding)
        descriptor = Descriptor(address, rows, words, 0, True)
        sums = [int(value) for value in trits.astype(np.int32) @ x[:columns].astype(np.int32)]
        activations = [int.from_bytes(x[i : i + size].tobytes(), "little") for i in range(0, len(x), size)]
        products.append(_Product(name, descriptor, descriptor.beats(unit.encoding), activations, sums))
        parts.append(packed)
        address += packed.size
    return products, np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _add_memory(vectors: Vectors, unit: StreamMatVec, memory: npt.NDArray[np.uint8]) -> None:
    size = unit.port_bits // 8
    words = [int.from_bytes(memory[i : i + size].tobytes(), "little") for i in range(0, memory.size, size)]
    vectors.add("memory.hex", "weights as they lie in external memory", words, unit.port_bits)
    vectors.numbers["PORT_BITS"] = unit.port_bits


DESCRIBE, ACTIVATE, POINT = 1, 2, 3
SCRIPT_BITS = 4 + 32 * 4


def stream_vectors(program: Program, unit: StreamMatVec, seed: int) -> Vectors:
    """Return the vectors of top ``stream``: matrices of the program on random activations."""
    products, memory = _products(program, unit, seed, MOST_MATRICES)
    vectors = Vectors()

    def script() -> Iterator[str | int]:
        word = 0
        before = 0
        for each in products:
            d = each.descriptor
            yield f"{each.name}: {d.rows} rows of {d.words} words"
            shape = _pack((d.words, 16), (d.x_base, 16))
            yield _pack((DESCRIBE, 4), (d.address, 32), (each.beats, 32), (d.rows, 32), (shape, 32))
            for at in range(len(each.activations)):
                last = at == len(each.activations) - 1
                yield _pack((ACTIVATE, 4), (d.x_base + at, 32), (word, 32), (last, 32), (before, 32))
                word += 1
            before += len(each.sums)

    def sums() -> Iterator[str | int]:
        for each in products:
            yield each.name
            for at, value in enumerate(each.sums):
                yield _pack((at == len(each.sums) - 1, 4), (value & 0xFFFFFFFF, 32))

    _add_memory(vectors, unit, memory)
    vectors.add("script.hex", "descriptors and activations; fields: see testbench.v", script(), SCRIPT_BITS)
    words = [word for each in products for word in each.activations]
    vectors.add("activations.hex", "words of activations", words, unit.port_bits)
    vectors.add("sums.hex", "last, sum: one a row", sums(), 36)
    vectors.compared = [f"{len(each.sums)} sums of {each.name}" for each in products]
    return vectors


# ---- the AXI block

BUS_BITS = 4 + 12 + 32 + 32
WRITE_BUS, READ_BUS, POLL_BUS, FRAMES = 1, 2, 3, 4


def bus_access(op: int, address: int = 0, data: int = 0, mask: int = 0xFFFFFFFF) -> int:
    """Return a word of bus.hex."""
    return _pack((op, 4), (address, 12), (data, 32), (mask, 32))


def axi_vectors(program: Program, image: Image, top: AxiTop, count: int, seed: int) -> Vectors:
    """Return the vectors of top ``axi``: registers, frames over the streams, products through registers."""
    vectors, _ = link_vectors(program, image, top.engine.controller, count, seed)
    rows = Reference(program, image, count, seed).row_words()
    identity = top.engine.controller.identity
    at = {name: register(name).offset for name in ("ID", "VERSION", "CONTROL", "STATUS", "FAULTS")}

    def script() -> Iterator[str | int]:
        yield "who it is"
        yield bus_access(READ_BUS, at["ID"], ID)
        yield bus_access(READ_BUS, at["VERSION"], VERSION << 8, 0xFF00)
        for name, content in (("BITSTREAM_ID", identity.bitstream_id), ("GEOMETRY", identity.geometry_hash)):
            for i in range(len(content) // 4):
                word = int.from_bytes(content[4 * i : 4 * i + 4], "little")
                yield bus_access(READ_BUS, register(f"{name}_{i}").offset, word)
        yield "frames over the streams"
        yield bus_access(WRITE_BUS, at["CONTROL"], 1)
        yield bus_access(FRAMES)
        yield bus_access(READ_BUS, at["FAULTS"], 0)
        yield "a program is loaded"
        yield bus_access(POLL_BUS, at["STATUS"], 3, 3)
        if top.rows is not None:
            yield from _rows_of(top.rows, rows)
        if top.stream is not None:
            for each in products:
                yield from _registers_of(each, top.stream)

    if top.stream is not None:
        products, memory = _products(program, top.stream, seed, 1)
        _add_memory(vectors, top.stream, memory)
        vectors.compared += [f"{len(each.sums)} sums of {each.name}" for each in products]
    if top.rows is not None:
        vectors.compared.append("rows through registers: read, written, cleared")
    vectors.add("bus.hex", "accesses of the bus master; fields: see testbench.v", script(), BUS_BITS)
    vectors.numbers["NO_REGISTER"] = 4 * MAP_WORDS - 4
    vectors.numbers["OKAY"], vectors.numbers["SLVERR"] = OKAY, SLVERR
    return vectors


ROW_PATTERN = 0x7F80FF01
"""Four words that are written to rows."""


def _rows_of(shape: RowShape, parts: Iterable[BankWords]) -> Iterator[str | int]:
    """Yield the accesses of rows: what a session left is read, then words are written and all are cleared."""
    at = {name: register(f"ROW_{name}").offset for name in ("SHAPE", "ADDRESS", "DATA", "START", "STATUS")}

    def fetched(column: int, word: int, wanted: Sequence[int]) -> Iterator[int]:
        yield bus_access(WRITE_BUS, at["ADDRESS"], column << 16 | word)
        yield bus_access(WRITE_BUS, at["START"], 0)
        for i in range(0, len(wanted), PARTS):
            some = bytes(wanted[i : i + PARTS])
            yield bus_access(POLL_BUS, at["STATUS"], 0)
            data = int.from_bytes(some, "little")
            yield bus_access(READ_BUS, at["DATA"], data, (1 << 8 * len(some)) - 1)
        yield bus_access(POLL_BUS, at["STATUS"], 0)

    yield "rows"
    yield bus_access(READ_BUS, at["SHAPE"], shape.columns << 24 | shape.words)
    for part in parts:
        yield f"rows {part.name}, column {part.block}"
        yield from fetched(part.block, part.address, part.words)
    column, word = shape.columns - 1, shape.words - 2 * PARTS
    yield "words are written, and read back; all are cleared"
    yield bus_access(WRITE_BUS, at["ADDRESS"], column << 16 | word)
    yield bus_access(WRITE_BUS, at["DATA"], ROW_PATTERN)
    yield bus_access(POLL_BUS, at["STATUS"], 0)
    yield bus_access(READ_BUS, at["ADDRESS"], column << 16 | word + PARTS)
    yield from fetched(column, word, ROW_PATTERN.to_bytes(PARTS, "little"))
    most = MOST_CLEAR * CLEAR_WORDS
    for start in range(0, shape.words, most):
        blocks = min(most, shape.words - start) // CLEAR_WORDS
        yield bus_access(WRITE_BUS, at["ADDRESS"], start)
        yield bus_access(WRITE_BUS, at["START"], 1 | (blocks - 1) << 8)
        yield bus_access(POLL_BUS, at["STATUS"], 0)
    yield from fetched(column, word, bytes(PARTS))
    yield bus_access(READ_BUS, register("FAULTS").offset, 0)


def _registers_of(product: _Product, unit: StreamMatVec) -> Iterator[str | int]:
    """Yield the accesses of one product."""
    d = product.descriptor
    yield f"{product.name}: {d.rows} rows of {d.words} words"
    for name, value in (
        ("MV_ADDRESS", d.address), ("MV_BEATS", product.beats), ("MV_ROWS", d.rows),
        ("MV_SHAPE", d.words | d.x_base << 16), ("MV_START", 1), ("X_ADDRESS", d.x_base),
    ):  # fmt: skip
        yield bus_access(WRITE_BUS, register(name).offset, value)
    for word in product.activations:
        for part in range(unit.port_bits // 32):
            yield bus_access(WRITE_BUS, register("X_DATA").offset, word >> 32 * part & 0xFFFFFFFF)
    yield bus_access(WRITE_BUS, register("X_READY").offset, 0)
    for row, value in enumerate(product.sums):
        last = row == len(product.sums) - 1
        yield bus_access(POLL_BUS, register("MV_STATUS").offset, 2 | last << 2, 6)
        yield bus_access(READ_BUS, register("SUM").offset, value & 0xFFFFFFFF)
    yield bus_access(READ_BUS, register("FAULTS").offset, 0)
