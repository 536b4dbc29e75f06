"""Test vectors of the engine for whole models: its code through registers, logits and states from NumPy."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ternac.compile.wide import lower
from ternac.compile.wide_code import WideCode, encode
from ternac.compile.wide_memory import MemoryMap, lay_out
from ternac.errors import require
from ternac.hdl.axi.registers import ID, OKAY
from ternac.hdl.axi.wide import WideTop, wide_register
from ternac.hdl.emit.vectors import BUS_BITS, POLL_BUS, READ_BUS, WRITE_BUS, Vectors, bus_access
from ternac.hdl.wide.sequencer import INSTRUCTION_BITS
from ternac.hdl.wide.shapes import WideShape
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor

__all__ = ["default_program", "wide_code", "wide_vectors"]

_DONE, _VALID = 3, 1 << 16
_LOGIT_BITS = 20


def default_program(seed: int) -> Program:
    """Return a random program that every shape holds."""
    rng = np.random.default_rng(seed)
    return random_mmfree(rng, d=24, m=40, layers=1, vocab=20, per_token=True)


def wide_code(program: Program, shape: WideShape) -> WideCode:
    """Return a program's code for a shape.

    Raises UnsupportedOp if it is no program of wide ops, DoesNotFit if the shape is too small for it.
    """
    size = shape.port_bits // 8
    code = encode(lower(program, word=max(size, shape.lanes)), shape.lanes, port_bytes=size)
    image = code.image
    for resource, needed, limit in (
        ("instructions", len(code.words), shape.code_depth),
        ("words of vectors", -(-image.vectors // shape.lanes), shape.depth),
        ("words of activations", -(-image.activations // size), shape.x_depth),
        ("matrices", len(code.matrices), shape.matrices),
        ("curves at a time", image.slots, shape.slots),
    ):
        message = f"{program.name} needs {needed:,} {resource}, {shape.name} has {limit:,}"
        require(resource, needed, limit, message)
    return code


def wide_vectors(program: Program, shape: WideShape, top: WideTop, count: int, seed: int) -> Vectors:
    """Return the vectors of top ``wide``: the load, ``count`` tokens, their logits, the states in the end."""
    code = wide_code(program, shape)
    memory = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
    tokens = np.random.default_rng(seed).integers(0, program.vocab, count).tolist()
    numpy = NumpyExecutor(program)
    state = numpy.open(1)
    rows = [numpy.step(state, np.array([token]))[0].tolist() for token in tokens]
    states = dict.fromkeys(code.image.states, state[0])
    at = 0
    for name, length in program.states.items():
        states[name] = state[0][at : at + length]
        at += length
    vectors = Vectors()

    def script() -> Iterator[str | int]:
        yield "who it is"
        yield _read("ID", ID)
        yield from _load(code, memory, top)
        for token in tokens:
            yield f"token {token}"
            yield _write("TOKEN", token)
            yield bus_access(POLL_BUS, wide_register("STATUS").offset, _DONE, _DONE)
        for name, place in code.image.states.items():
            yield name
            yield _write("VECTOR_ADDRESS", place)
            for value in states[name].tolist():
                yield _read("STATUS", _DONE)  # an element takes three cycles
                yield _read("VECTOR_DATA", _VALID | value & 0xFFFF)
        yield _read("FAULTS", 0)

    def logits() -> Iterator[str | int]:
        for token, row in zip(tokens, rows, strict=True):
            yield f"token {token}"
            for i, y in enumerate(row):
                yield (i == len(row) - 1) << 16 | int(y) & 0xFFFF

    size = code.port_bytes
    image = memory.image.tobytes()
    words = [int.from_bytes(image[i : i + size], "little") for i in range(0, len(image), size)]
    vectors.add("memory.hex", "weights, constants and embedding", words, 8 * size)
    vectors.add("bus.hex", "accesses of the bus master; fields: see testbench.v", script(), BUS_BITS)
    vectors.add("logits.hex", "last, logit: one a row", logits(), _LOGIT_BITS)
    vectors.numbers |= {
        "PORT_BITS": 8 * size, "ADDRESS_BITS": shape.address_bits, "OKAY": OKAY,
    }  # fmt: skip
    elements = sum(program.states.values())
    vectors.compared = [f"{count * program.vocab} logits of {count} tokens", f"{elements} words of state"]
    return vectors


def _load(code: WideCode, memory: MemoryMap, top: WideTop) -> Iterator[str | int]:
    """Yield the writes that load a program and enable the engine."""
    yield "instructions"
    yield _write("CODE_ADDRESS", 0)
    for word in code.words:
        for low in range(0, INSTRUCTION_BITS, 32):
            yield _write("CODE_DATA", word >> low & 0xFFFFFFFF)
    yield "descriptors"
    yield _write("MATRIX_ADDRESS", 0)
    for word in top.engine.descriptors(code, memory):
        for low in range(0, top.engine.products.desc_layout.size, 32):
            yield _write("MATRIX_DATA", word >> low & 0xFFFFFFFF)
    yield "where everything lies"
    yield _write("LAST_MATRIX", len(code.matrices) - 1)
    yield _write("CONSTANTS_BASE", memory.constants)
    yield _write("CONSTANTS_WORDS", memory.constant_words)
    yield _write("ROWS_BASE", memory.rows)
    yield _write("ROWS_WORDS", memory.row_words)
    yield "states of a new session"
    lengths = code.image.program.states
    yield _write("VECTOR_ADDRESS", 0)
    for _ in range(max(at + lengths[name] for name, at in code.image.states.items())):
        yield _write("VECTOR_DATA", 0)
    yield _write("CONTROL", 1)


def _write(name: str, value: int) -> int:
    return bus_access(WRITE_BUS, wide_register(name).offset, value)


def _read(name: str, value: int) -> int:
    return bus_access(READ_BUS, wide_register(name).offset, value)
