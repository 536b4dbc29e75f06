"""The Dragon Hatchling as a part of a model: neurons in groups, their memory, and runs of one set of weights.

r is the residual; in every run n = NORM(r), and

    h    = NORM(LERP(f, n, h before))        neurons leak: what they saw a while ago still counts
    w, x = winners of Dx h, their scores     one neuron of each group is active
    o    = the mean of the rows of w         rows of the token before were moved towards n just before
    u    = r + o
    z    = x * y, y = Dy NORM(u)             of active neurons, nothing below zero
    r    = r + E z, or u + E z

The maps are those of all runs; state and rows are each run's own (LOOP with ``levels``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ternac.errors import UsageError
from ternac.model.export.export import norm_params, trits
from ternac.model.memory.parts import Part, State
from ternac.model.net import functional as fn
from ternac.model.net import fused, tables
from ternac.model.net.config import Scales
from ternac.model.net.layers import BitLinear, Norm, sigmoid
from ternac.model.net.memory import DeltaScan, row_numbers
from ternac.model.net.neurons import Neurons
from ternac.model.net.scan import LerpScan
from ternac.program.builder import ProgramBuilder
from ternac.program.ops import Memory

Z_FRAC = 4
"""Fraction bits of z = x * y, which has those of ``Scales.pre`` twice."""


class Hatchling(Part):
    """``runs`` runs of ``groups`` groups of ``size`` neurons over a residual of width ``d``.

    ``leaks``: 256ths of what a neuron keeps of its input from token to token, dealt out to equal parts of
    the vector; without any a ternary map of n and a sigmoid say it for each element and token.
    ``rate``: a write corrects its rows by 2**-rate of the error. ``written``: tokens that write (none given:
    all). ``shown``: what is read stays in the residual. ``pair_bits``: a row belongs to a pair of neurons,
    the group's winner and its winner at the token before, by so many bits of each; 0: to a neuron.
    ``compiled``: take the compiled way.

    Raises UsageError unless groups are a power of two: the mean over their rows is a shift.
    """

    leak: Tensor
    compiled = False

    def __init__(
        self,
        d: int,
        groups: int,
        size: int,
        s: Scales,
        runs: int = 2,
        rate: int = 1,
        leaks: Sequence[int] = (),
        written: Sequence[int] = (),
        shown: bool = False,
        pair_bits: int = 0,
    ) -> None:
        super().__init__()
        if groups & (groups - 1):
            raise UsageError(
                f"{groups} groups of neurons", "the mean over their rows is a shift: a power of two"
            )
        self.written, self.shown, self.pairs = tuple(written), shown, bool(pair_bits)
        self.d, self.scales, self.runs, self.rate, self.leaks = d, s, runs, rate, tuple(leaks)
        self.bits = pair_bits or (size - 1).bit_length()
        self.norm = Norm(d, s)
        self.norm_state = Norm(d, replace(s, residual=s.state))
        self.neurons = Neurons(d, groups, size, (s.norm, s.pre, Z_FRAC, s.residual))
        self.wf = None if leaks else BitLinear(d, d, s.norm, s.pre)
        self.sigmoid = sigmoid(s)
        shares = [float(leaks[at * len(leaks) // d]) for at in range(d)] if leaks else []
        self.register_buffer("leak", torch.tensor(shares), persistent=False)

    @property
    def groups(self) -> int:
        """Return the number of groups: of active neurons, and of rows that a token addresses."""
        return self.neurons.groups

    @property
    def rows(self) -> int:
        """Return the rows of one run."""
        return self.groups << (2 * self.bits if self.pairs else self.bits)

    def start(self, batch: int) -> State:
        small = [torch.zeros(batch, n) for n in (self.d, self.groups, self.groups, self.d)]
        rows = torch.zeros(batch, self.rows, self.d, dtype=torch.int8)
        return [part.clone() for _ in range(self.runs) for part in (*small, rows)]

    def forward(
        self, r: Tensor, state: State, tokens: Tensor, keep: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, State]:
        """As :class:`Part`; ``keep``: a dropout mask [B, d] for what each run adds to the residual.

        State: of each run h i16 [B, d], winners of the last token and of the one before it [B, groups],
        o i8 [B, d] of the last token, and the rows int8 [B, rows, d].
        """
        s, after = self.scales, []
        writes = torch.isin(tokens, torch.tensor(self.written)) if self.written else None
        scan, lerp = (fused.DeltaScan, fused.LerpScan) if self.compiled else (DeltaScan, LerpScan)
        for run in range(self.runs):
            h0, last, earlier, before, rows = state[5 * run : 5 * run + 5]
            n = self._normed(self.norm, r)
            f = self.leak.expand_as(n) if self.wf is None else self.sigmoid(self.wf.acc(n), self.wf.shift)
            h = lerp.apply(f, n * 2.0 ** (s.state - s.norm), h0)
            kept = self._normed(self.norm_state, h)
            w, x = self.neurons.winners(kept, self.compiled)
            previous = torch.cat((last.to(w.dtype).unsqueeze(0), w[:-1]))
            at, to = self._address(w, previous), self._address(last, earlier)
            o, rows = scan.apply(n, at, to, before, rows, self.rate, writes)
            u = (r + o * 2.0 ** (s.residual - s.norm)).clamp(*fn.I16)
            acc, _ = self.neurons(kept, self._normed(self.norm, u), w, x, self.compiled)
            r = fn.AddRequant.apply(
                u if self.shown else r, acc, 2.0**-self.neurons.e.shift, keep[run] if keep else None
            )
            after += [h[-1].detach(), w[-1].float(), previous[-1].float(), o[-1].detach(), rows]
        return r, after

    def _address(self, w: Tensor, before: Tensor) -> Tensor:
        return row_numbers((w, before) if self.pairs else (w,), self.bits)

    def _normed(self, norm: Norm, x: Tensor) -> Tensor:
        normed: Tensor = fused.Normalize.apply(x, norm) if self.compiled else norm(x)
        return normed

    def emit(self, b: ProgramBuilder, name: str, r: str) -> str:
        s, maps, first = self.scales, self.neurons, len(b.ops)
        b.states |= {
            f"{name}.h.state": self.d * self.runs,
            f"{name}.w.state": self.groups * self.runs,
            **({f"{name}.b.state": self.groups * self.runs} if self.pairs else {}),
            f"{name}.o.state": self.d * self.runs,
        }
        b.memories[f"{name}.rows"] = Memory(self.rows * self.runs, self.d, "i8")

        codes = np.arange(-128, 128)

        def linear(out: str, x: str, layer: BitLinear, shift: int | None = None, dtype: str = "i8") -> str:
            weights = trits(layer)  # before the shift is read
            names = (f"{name}.{out}", f"{name}.{out}.acc", x, f"{name}.W{out}")
            return b.linear(*names, weights, layer.shift if shift is None else shift, dtype)

        def table(out: str, x: str, kind: str, values: Any) -> str:
            return b.op("TABLE", f"{name}.{out}", x, table=b.const(kind, values, np.int16))

        norm = norm_params(self.norm)
        n = b.norm(f"{name}.n", r, norm)
        f = (
            self._leaks(b, name)
            if self.wf is None
            else table("f", linear("f.pre", n, self.wf), "sigmoid", tables.sigmoid_table(s.pre))
        )
        c = table("c", n, "wide", codes << (s.state - s.norm))
        h = b.op("LERP", f"{name}.h", b.op("LOAD", f"{name}.h.prev", f"{name}.h.state"), c, f)
        kept = b.norm(f"{name}.k", h, norm_params(self.norm_state))
        scores = linear("x", kept, maps.dx, 0, "i16")
        w = b.op("WINNERS", f"{name}.w", scores, groups=self.groups)
        before = b.op("LOAD", f"{name}.o.prev", f"{name}.o.state")
        error = b.op("SUB", f"{name}.d", before, n, dtype="i16")
        e = b.op("REQUANT", f"{name}.e", error, shift=self.rate, dtype="i16")
        if self.written:
            e = b.op("MUL", f"{name}.e.gated", e, self._writes(b, name), shift=0, dtype="i16")
        last = b.op("LOAD", f"{name}.w.prev", f"{name}.w.state")
        earlier = [b.op("LOAD", f"{name}.b.prev", f"{name}.b.state")] if self.pairs else []
        rows = {"bits": self.bits}
        b.op("MEM_UPDATE", f"{name}.write", last, *earlier, e, memory=f"{name}.rows", keep=0, **rows)
        address = [w, last] if self.pairs else [w]
        acc = b.op("MEM_READ", f"{name}.o.acc", *address, rows=f"{name}.rows", shared=0, **rows)
        o = b.op("REQUANT", f"{name}.o", acc, shift=self.groups.bit_length() - 1, dtype="i16")
        code = b.op("REQUANT", f"{name}.o.code", o, shift=0, dtype="i8")
        for state, value in (("h", h), ("w", w), ("o", o), *([("b", last)] if self.pairs else [])):
            b.op("STORE", f"{name}.{state}.state", value)
        u = b.op(
            "ADD", f"{name}.u", r, table("o.r", code, "read", codes << (s.residual - s.norm)), dtype="i16"
        )
        y = linear("y", b.norm(f"{name}.nu", u, norm), maps.dy)
        x = b.op("REQUANT", f"{name}.x.code", f"{name}.x.acc", shift=maps.dx.shift, dtype="i8")
        active = [
            table(f"{each}.act", value, "relu", np.maximum(codes, 0)) for each, value in (("y", y), ("x", x))
        ]
        product = b.op("MUL", f"{name}.z.all", *active, shift=maps.mul_shift, dtype="i8")
        z = b.op("MASK", f"{name}.z", product, w)
        after = b.op(
            "ADD", f"{name}.r", u if self.shown else r, linear("res", z, maps.e, None, "i16"), dtype="i16"
        )
        b.op(
            "LOOP", f"{name}.loop", r, after, first=first, length=len(b.ops) - first, times=self.runs,
            most=self.runs, levels=1,
        )  # fmt: skip
        return after

    def _writes(self, b: ProgramBuilder, name: str) -> str:
        """Append what is 1 for a token that writes and 0 for others, i8 [d]: constant rows by the token."""
        rows = np.zeros((2, 256, self.d), np.int8)
        rows[1, list(self.written)] = 1  # the second digit is the token's low byte
        token = b.op("TOKEN", f"{name}.by")
        names = b.const("writes", rows.reshape(-1, self.d), np.int8)
        acc = b.op("MEM_READ", f"{name}.gate.acc", token, rows=names, bits=8, shared=0)
        return b.op("REQUANT", f"{name}.gate", acc, shift=0, dtype="i8")

    def _leaks(self, b: ProgramBuilder, name: str) -> str:
        """Append the fixed leaks: which one an element has, as constant rows, and what it is, as a table."""
        values = np.zeros(256, np.int16)
        values[128 : 128 + len(self.leaks)] = self.leaks
        rows = np.zeros((4, self.d), np.int8)
        rows[:2] = [at * len(self.leaks) // self.d for at in range(self.d)]  # whatever the token
        token = b.op("TOKEN", f"{name}.token")
        acc = b.op(
            "MEM_READ", f"{name}.f.acc", token, rows=b.const("leak.of", rows, np.int8), bits=1, shared=0
        )
        code = b.op("REQUANT", f"{name}.f.code", acc, shift=0, dtype="i8")
        return b.op("TABLE", f"{name}.f", code, table=b.const("leak", values, np.int16))
