"""A small program with one memory, written out, and ways to change it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ternac.program.ops import Memory, Op
from ternac.program.program import Program

HEADS, BITS, WIDTH, VOCAB, D = 4, 2, 6, 7, 8


def memory_program(seed: int = 0) -> Program:
    """The layer of docs/program.md, without its gate: writes by the delta rule, then reads."""
    rng = np.random.default_rng(seed)

    def trits(rows: int, columns: int) -> np.ndarray:
        return rng.integers(-1, 2, (rows, columns)).astype(np.int8)

    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 4}),
        Op("REQUANT", "n", ("r",), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "s.acc", ("n",), {"weights": "Wa"}),
        Op("REQUANT", "s", ("s.acc",), {"shift": 0, "dtype": "i16"}),
        Op("WINNERS", "w", ("s",), {"groups": HEADS}),
        Op("TMATVEC", "v.acc", ("n",), {"weights": "Wv"}),
        Op("REQUANT", "v", ("v.acc",), {"shift": 1, "dtype": "i8"}),
        Op("LOAD", "o.prev", ("s.o",)),
        Op("SUB", "d", ("o.prev", "v"), {"dtype": "i16"}),
        Op("REQUANT", "e", ("d",), {"shift": 1, "dtype": "i8"}),
        Op("LOAD", "w.prev", ("s.w",)),
        Op("MEM_UPDATE", "write", ("w.prev", "e"), {"memory": "M", "bits": BITS, "keep": 0}),
        Op("MEM_READ", "o.acc", ("w",), {"rows": "M", "bits": BITS, "shared": 0}),
        Op("REQUANT", "o", ("o.acc",), {"shift": 2, "dtype": "i16"}),
        Op("STORE", "s.w", ("w",)),
        Op("STORE", "s.o", ("o",)),
        Op("REQUANT", "o8", ("o",), {"shift": 0, "dtype": "i8"}),
        Op("TMATVEC", "y.acc", ("o8",), {"weights": "Wo"}),
        Op("REQUANT", "logits", ("y.acc",), {"shift": 0, "dtype": "i16"}),
    )
    consts = {
        "E": rng.integers(-128, 128, (VOCAB, D)).astype(np.int8),
        "Wa": trits(HEADS << BITS, D),
        "Wv": trits(WIDTH, D),
        "Wo": trits(VOCAB, WIDTH),
    }
    memories = {"M": Memory(HEADS << BITS, WIDTH, "i8")}
    return Program("memory", VOCAB, ops, consts, {"s.o": WIDTH, "s.w": HEADS}, "logits", 4, memories=memories)


def loop_program(levels: int = 0, times: int = 2, most: int = 4, **change: Any) -> Program:
    """A residual that goes through one layer with a state and a memory ``times`` times."""
    rng = np.random.default_rng(3)
    parts = times if levels else 1
    attrs = {"first": 1, "length": 9, "times": times, "most": times if levels else most, "levels": levels}
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 4}),
        Op("REQUANT", "x", ("r",), {"shift": 4, "dtype": "i8"}),
        Op("WINNERS", "w", ("x",), {"groups": 2}),
        Op("LOAD", "old", ("h",)),
        Op("MEM_READ", "o.acc", ("w",), {"rows": "M", "bits": 2, "shared": 0}),
        Op("REQUANT", "o", ("o.acc",), {"shift": 1, "dtype": "i16"}),
        Op("SUB", "e", ("old", "r"), {"dtype": "i8"}),
        Op("MEM_UPDATE", "write", ("w", "e"), {"memory": "M", "bits": 2, "keep": 3}),
        Op("ADD", "next", ("r", "o"), {"dtype": "i16"}),
        Op("STORE", "h", ("next",)),
        Op("LOOP", "again", ("r", "next"), attrs | change),
        Op("ADD", "logits", ("next", "r"), {"dtype": "i16"}),
    )
    consts = {"E": rng.integers(-128, 128, (8, 8)).astype(np.int8)}
    memories = {"M": Memory(8 * parts, 8, "i16")}
    return Program("loop", 8, ops, consts, {"h": 8 * parts}, "logits", 4, memories=memories)


def text_loop_program(**change: Any) -> Program:
    """`loop_program` with 256 tokens, which are bytes."""
    rng, inner = np.random.default_rng(4), loop_program(**change)
    ops = (
        *inner.ops[:-1],
        Op("ADD", "sum", ("next", "r"), {"dtype": "i16"}),
        Op("REQUANT", "sum8", ("sum",), {"shift": 3, "dtype": "i8"}),
        Op("TMATVEC", "y.acc", ("sum8",), {"weights": "W"}),
        Op("REQUANT", "logits", ("y.acc",), {"shift": 0, "dtype": "i16"}),
    )
    consts = {
        "E": rng.integers(-128, 128, (256, 8)).astype(np.int8),
        "W": rng.integers(-1, 2, (256, 8)).astype(np.int8),
    }
    return dataclasses.replace(inner, name="text-loop", vocab=256, ops=ops, consts=consts)


def with_op(program: Program, at: str, **change: Any) -> Program:
    """The program with fields of the op at ``at`` replaced; ``attrs`` are merged."""
    ops = [
        dataclasses.replace(op, **{**change, "attrs": {**op.attrs, **change.get("attrs", {})}})
        if op.out == at
        else op
        for op in program.ops
    ]
    return dataclasses.replace(program, ops=tuple(ops))
