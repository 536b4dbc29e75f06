"""Build a program op by op: names in, a checked program out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.legality import check
from ternac.program.ops import Memory, Op
from ternac.program.program import Program


@dataclass(frozen=True)
class NormParams:
    """Attributes of a NORM: shift before the sum of squares, shift after the product, u8[256] table."""

    pre: int
    post: int
    table: npt.NDArray[np.uint8]


class ProgramBuilder:
    """Collects ops, constants, states and memories; equal norm tables become one constant."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.consts: dict[str, npt.NDArray[Any]] = {}
        self.states: dict[str, int] = {}
        self.memories: dict[str, Memory] = {}
        self._norm_tables: dict[bytes, str] = {}

    def op(self, kind: str, out: str, *ins: str, **attrs: int | str) -> str:
        """Append an op; returns ``out``, the name of its result."""
        self.ops.append(Op(kind, out, ins, attrs))
        return out

    def const(self, name: str, array: Any, dtype: type[np.integer[Any]]) -> str:
        """Add a constant; returns its name."""
        self.consts[name] = np.asarray(array, dtype)
        return name

    def norm(self, out: str, x: str, params: NormParams) -> str:
        """Append a NORM."""
        table = np.asarray(params.table, np.uint8)
        name = self._norm_tables.setdefault(table.tobytes(), f"rsqrt.{len(self._norm_tables)}")
        self.consts.setdefault(name, table)
        return self.op("NORM", out, x, pre=int(params.pre), post=int(params.post), table=name)

    def linear(self, out: str, acc: str, x: str, weights: str, trits: Any, shift: int, dtype: str) -> str:
        """Append the product ``acc`` with a ternary matrix, and its requantization ``out``."""
        self.const(weights, trits, np.int8)
        self.op("TMATVEC", acc, x, weights=weights)
        return self.op("REQUANT", out, acc, shift=int(shift), dtype=dtype)

    def build(
        self,
        name: str,
        logits: str,
        logit_scale_bits: int,
        meta: Mapping[str, Any] | None = None,
        tokenizer: bytes = b"",
        vocab: int | None = None,
    ) -> Program:
        """Return the checked program; ``vocab`` (default: rows of the constant ``embed``).

        Raises IllegalProgram if it breaks a rule.
        """
        program = Program(
            name=name,
            vocab=len(self.consts["embed"]) if vocab is None else vocab,
            ops=tuple(self.ops),
            consts=self.consts,
            states=self.states,
            logits=logits,
            logit_scale_bits=logit_scale_bits,
            meta=dict(meta or {}),
            tokenizer=tokenizer,
            memories=self.memories,
        )
        check(program)
        return program
