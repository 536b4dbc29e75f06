"""Programs that are legal and cost far more than their files weigh."""

from __future__ import annotations

from typing import Any

import numpy as np

from ternac.program.ops import Op
from ternac.program.program import Program


def program(width: int, ops: list[Op], last: str, **consts: Any) -> Program:
    """``ops`` between a row of an embedding, called ``e``, i16[width], and the logits, made of ``last``."""
    begin = [Op("GATHER", "e", (), {"embed": "embed", "shift": 0})]
    end = [
        Op("REQUANT", "narrow", (last,), {"shift": 0, "dtype": "i8"}),
        Op("TMATVEC", "sums", ("narrow",), {"weights": "head"}),
        Op("REQUANT", "logits", ("sums",), {"shift": 0, "dtype": "i16"}),
    ]
    consts |= {"embed": np.zeros((2, width), np.int8), "head": np.zeros((2, width), np.int8)}
    return Program("bomb", 2, (*begin, *ops, *end), consts, {}, "logits", 0)


def chain(count: int, width: int) -> Program:
    """``count`` sums, each of the one before: its file has 100 bytes for each, whatever the width."""
    names = ["e", *(f"v{i}" for i in range(count))]
    ops = [Op("ADD", names[i + 1], (names[i], names[i]), {"dtype": "i16"}) for i in range(count)]
    return program(width, ops, names[-1])


def shared(count: int, width: int) -> Program:
    """``count`` products with one and the same matrix."""
    ops = [Op("REQUANT", "x", ("e",), {"shift": 0, "dtype": "i8"})]
    ops += [Op("TMATVEC", f"t{i}", ("x",), {"weights": "matrix"}) for i in range(count)]
    return program(width, ops, "e", matrix=np.zeros((width, width), np.int8))


def rows(count: int) -> Program:
    """``count`` reads of the same constant rows, 16 MiB, of which each is looked through by the check."""
    ops = [Op("TOKEN", "digits", (), {})]
    attrs = {"rows": "rows", "bits": 10, "shared": 1}
    ops += [Op("MEM_READ", f"r{i}", ("digits", "digits"), attrs) for i in range(count)]
    return program(16, ops, "e", rows=np.zeros((1 << 20, 16), np.int8))
