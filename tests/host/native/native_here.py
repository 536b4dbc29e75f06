"""What the tests of the native executor share: the gate, the instruction sets, programs of every kind of
op.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from ternac.host.native.library import isas, why_missing
from ternac.program.legality import check
from ternac.program.numerics import norm_table
from ternac.program.ops import KINDS, Op, Refused, Value
from ternac.program.program import Program

MISSING = why_missing()
if MISSING and os.environ.get("CI") == "true":
    raise RuntimeError(f"CI=true, but {MISSING}")
needs_native = pytest.mark.skipif(bool(MISSING), reason=f"native executor: {MISSING}")
ISAS: list[Any] = [
    pytest.param(name, marks=pytest.mark.skip(reason=f"{name}: {lacks}") if lacks else ())
    for name, lacks in ({} if MISSING else isas()).items()
]
"""Every instruction set; what this processor cannot run is skipped with the reason."""
RUNNING: list[str] = [] if MISSING else [name for name, lacks in isas().items() if not lacks]


class Soup:
    """A random legal program of arbitrary ops: every dtype combination, states touched in any order.

    ``tried`` ops are proposed; those that the rules refuse are dropped.
    """

    def __init__(self, rng: np.random.Generator, tried: int = 60) -> None:
        self.rng = rng
        self.sizes = [int(n) for n in rng.integers(1, 90, 2)]
        self.vocab = int(rng.integers(2, 40))
        self.states = {f"s{i}": int(rng.choice(self.sizes)) for i in range(3)}
        self.consts: dict[str, Any] = {}
        self.ops: list[Op] = []
        self.values: dict[str, Value] = {}
        self.add(
            "GATHER", embed=self.const(rng.integers(-128, 128, (self.vocab, self.sizes[0])), np.int8), shift=0
        )
        for _ in range(tried):
            with suppress(Refused):
                self.propose()
        for name in self.states:  # a legal program touches every state
            self.add("LOAD", name)
        for name, length in self.states.items():
            self.add("STORE", self.wide_of(length), out=name)
        wide = self.wide_of(self.sizes[0])
        narrow = self.add("REQUANT", wide, shift=3, dtype="i8")
        head = self.const(rng.integers(-1, 2, (self.vocab, self.sizes[0])), np.int8)
        logits = self.add("REQUANT", self.add("TMATVEC", narrow, weights=head), shift=0, dtype="i16")
        used = {str(value) for op in self.ops for value in op.attrs.values()}
        consts = {name: array for name, array in self.consts.items() if name in used}
        self.program = Program("soup", self.vocab, tuple(self.ops), consts, self.states, logits, 4)
        check(self.program)

    def const(self, array: Any, dtype: Any) -> str:
        name = f"c{len(self.consts)}"
        self.consts[name] = np.asarray(array).astype(dtype)
        return name

    def add(self, kind: str, *ins: str, out: str = "", **attrs: int | str) -> str:
        """Append an op; Refused, and nothing done, if the rules say no."""
        op = Op(kind, out or f"v{len(self.ops)}", ins, attrs)
        KINDS[kind].check_attrs(op)
        value = KINDS[kind].infer(op, self.values, self)
        self.ops.append(op)
        if KINDS[kind].result:
            self.values[op.out] = value
        return op.out

    def pick(self, length: int | None = None, dtype: str = "") -> str:
        """A value, of that length and dtype where given; Refused if there is none."""
        found = [
            name
            for name, value in self.values.items()
            if length in (None, value.length) and dtype in ("", value.dtype)
        ]
        if not found:
            raise Refused("no such value")
        return str(self.rng.choice(found))

    def wide_of(self, length: int) -> str:
        """An i16 value of that length, made if there is none."""
        try:
            return self.pick(length, "i16")
        except Refused:
            embed = self.const(self.rng.integers(-32768, 32768, (self.vocab, length)), np.int16)
            return self.add("GATHER16", embed=embed)

    def propose(self) -> None:
        rng, pick = self.rng, self.pick
        kind = str(rng.choice(list(KINDS)))
        dtype, size = str(rng.choice(["i8", "i16"])), int(rng.choice(self.sizes))
        shift = int(rng.choice([0, 3, 8, 14, 31]))
        x = pick(dtype="i8" if kind in ("TMATVEC", "TABLE") else "")
        length = self.values[x].length
        match kind:
            case "GATHER":
                embed = self.const(rng.integers(-128, 128, (self.vocab, size)), np.int8)
                self.add(kind, embed=embed, shift=int(rng.integers(0, 9)))
            case "GATHER16":
                self.add(kind, embed=self.const(rng.integers(-32768, 32768, (self.vocab, size)), np.int16))
            case "NORM":
                table = norm_table(int(rng.integers(128, 256)))
                self.add(
                    kind,
                    x,
                    pre=int(rng.integers(0, 12)),
                    post=int(rng.integers(0, 20)),
                    table=self.const(table, np.uint8),
                )
            case "TMATVEC":
                self.add(kind, x, weights=self.const(rng.integers(-1, 2, (size, length)), np.int8))
            case "REQUANT":
                multiplier = {} if rng.random() < 0.5 else {"multiplier": int(rng.integers(1, 1 << 31))}
                self.add(kind, x, shift=int(rng.integers(0, 32)), dtype=dtype, **multiplier)
            case "TABLE":
                low, high = [(0, 256), (-256, 256), (-32768, 32768)][int(rng.integers(0, 3))]
                self.add(kind, x, table=self.const(rng.integers(low, high, 256), np.int16))
            case "MUL" | "MUL16":
                self.add(kind, x, pick(length), shift=shift, dtype=dtype)
            case "ADD":
                self.add(kind, x, pick(length), dtype=dtype)
            case "LERP" | "BLEND":
                entries = self.const(rng.integers(0, 256, 256), np.int16)
                self.add(kind, x, pick(length, "i16"), self.add("TABLE", pick(length, "i8"), table=entries))
            case "LOAD":
                self.add(kind, str(rng.choice(list(self.states))))
            case "STORE":
                self.add(kind, x, out=str(rng.choice(list(self.states))))
            case "RMSNORM":
                self.add(kind, x, eps=int(rng.choice([0, 1, 1 << 45])), shift=int(rng.integers(0, 41)))
            case "SCALE":
                self.add(kind, x, gain=self.const(rng.integers(-32768, 32768, length), np.int16), shift=shift)
            case "PEAK":
                self.add(kind, x)
            case "QUANT":
                self.add(kind, x, self.add("PEAK", pick()))
            case "RESCALE":
                more = {"multiplier": int(rng.integers(1, 1 << 24)), "shift": int(rng.integers(0, 63))}
                self.add(kind, x, self.add("PEAK", pick()), dtype=dtype, **more)
            case "INTERP":
                self.add(kind, x, curve=self.const(rng.integers(-32768, 32768, 1025), np.int16))
