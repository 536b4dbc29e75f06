"""Random small programs with memories and loops, for tests of whatever runs the ops of memories.

:func:`random_memory_program` draws layers that address, write and read rows in every way that the ops allow:
digits from winners, codes, tokens and states, one or two of them; memories of both dtypes and constant rows,
shared or not; writes before and after reads, by the delta rule, plain or fading; masks; and loops, with and
without levels, around some layers.  The same generator state always gives the same program.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.ops import Memory, Op
from ternac.program.program import Program


@dataclass
class _Builder:
    """Ops so far; ``parts``: parts of each state and memory that is declared now (runs of a loop)."""

    rng: np.random.Generator
    vocab: int
    width: int
    ops: list[Op] = field(default_factory=list)
    consts: dict[str, npt.NDArray[Any]] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    memories: dict[str, Memory] = field(default_factory=dict)
    parts: int = 1
    narrow: bool = False
    """All memories are i8."""

    def op(self, kind: str, out: str, *ins: str, **attrs: int | str) -> str:
        """Append an op; returns the name of its result."""
        self.ops.append(Op(kind, out, ins, attrs))
        return out

    def const(self, name: str, array: npt.NDArray[Any]) -> str:
        self.consts[name] = array
        return name

    def trits(self, name: str, rows: int, columns: int) -> str:
        zeros = self.rng.uniform(0.1, 0.6)
        odds = [(1 - zeros) / 2, zeros, (1 - zeros) / 2]
        return self.const(name, self.rng.choice(np.array([-1, 0, 1], np.int8), (rows, columns), p=odds))

    def linear(self, out: str, x: str, columns: int, rows: int, dtype: str, spare: int = 0) -> str:
        """A product brought to ``dtype``; ``spare``: bits by which it is shifted less or more."""
        self.op("TMATVEC", f"{out}.acc", x, weights=self.trits(f"{out}.W", rows, columns))
        shift = max(0, (math.ceil(math.log2(columns)) // 2 if dtype == "i8" else 0) + spare)
        return self.op("REQUANT", out, f"{out}.acc", shift=shift, dtype=dtype)

    def flip(self, odds: float = 0.5) -> bool:
        return bool(self.rng.random() < odds)

    def state(self, name: str, length: int) -> str:
        """Declare a state that an op here sees as ``length`` words."""
        self.states[name] = length * self.parts
        return name


def _digits(b: _Builder, name: str, x: str, columns: int, heads: int, bits: int) -> str:
    """One vector of digits in some way; they may have more bits than count."""
    form = b.rng.choice(["winners8", "winners16", "codes", "wide", "masked"])
    if form in ("winners8", "winners16", "masked"):
        group = int(b.rng.integers(2, max(3, 1 + (1 << bits))))
        dtype = "i8" if form != "winners16" else "i16"
        scores = b.linear(f"{name}.s", x, columns, heads * group, dtype, int(b.rng.integers(0, 4)))
        found = b.op("WINNERS", name, scores, groups=heads)
        if form == "masked":
            b.op("MASK", f"{name}.only", scores, found)
        return found
    return b.linear(name, x, columns, heads, "i8" if form == "codes" else "i16", int(b.rng.integers(0, 3)))


def _delayed(b: _Builder, name: str, x: str, length: int) -> tuple[str, tuple[str, str]]:
    """What ``x`` was at the last token, and the STORE that is to follow."""
    state = b.state(f"{name}.last", length)
    return b.op("LOAD", f"{name}.prev", state), (state, x)


def _layer(b: _Builder, layer: str, r: str) -> str:
    """A layer on the residual ``r``; returns the next residual."""
    rng, d = b.rng, b.width
    x = b.op("REQUANT", f"{layer}.x", r, shift=int(rng.integers(2, 6)), dtype="i8")
    two = b.flip()
    bits = int(rng.integers(1, 4 if two else 6))
    heads = int(rng.choice([1, 2, 3, 4, 8]))
    width = 2 * int(rng.integers(1, 9))
    if b.flip(0.2):
        heads = 2
        digits = [b.op("TOKEN", f"{layer}.t")]
        if two:
            digits.append(_digits(b, f"{layer}.b", x, d, heads, bits))
    else:
        names = (f"{layer}.a", f"{layer}.b")[: 1 + two]
        digits = [_digits(b, name, x, d, heads, bits) for name in names]
    region = 1 << bits * len(digits)
    if b.flip(0.3):
        shared = int(b.flip())
        table = rng.integers(-128, 128, (region if shared else heads * region, width)).astype(np.int8)
        rows = b.const(f"{layer}.rows", table)
        b.op("MEM_READ", f"{layer}.o.acc", *digits, rows=rows, bits=bits, shared=shared)
    else:
        rows = f"{layer}.rows"
        dtype = "i8" if b.flip(0.6) or b.narrow else "i16"
        b.memories[rows] = Memory(b.parts * heads * region, width, dtype)
        _write_and_read(b, layer, x, digits, rows, bits, width)
    o = b.op("REQUANT", f"{layer}.o", f"{layer}.o.acc", shift=heads.bit_length() - 1, dtype="i8")
    y = b.linear(f"{layer}.y", o, width, d, "i16", -1)
    if b.flip(0.3):
        y = _masked(b, layer, y)
    return b.op("ADD" if b.flip(0.7) else "SUB", f"{layer}.r", r, y, dtype="i16")


def _write_and_read(
    b: _Builder, layer: str, x: str, digits: list[str], rows: str, bits: int, width: int
) -> None:
    """The ops of a memory: a write, a read, in either order, at the address of this token or the last."""
    rng, stores = b.rng, []
    keep = int(rng.choice([0, 0, 1, 3, 15]))
    v = b.linear(f"{layer}.v", x, b.width, width, "i8")
    where = list(digits)
    if b.flip(0.6):  # the value of this token goes where the last one looked
        where = []
        for name in digits:
            length = _length(b, name)
            wide = (
                name
                if _dtype(b, name) == "i16"
                else b.op("SUB", f"{name}.w", name, _zero(b, length), dtype="i16")
            )
            prev, store = _delayed(b, name, wide, length)
            where.append(prev)
            stores.append(store)
    if b.flip(0.7):
        prev, store = _delayed(b, f"{layer}.o", f"{layer}.kept", width)
        difference = b.op("SUB", f"{layer}.d", prev, v, dtype="i16")
        dtype = "i8" if b.flip() else "i16"
        e = b.op("REQUANT", f"{layer}.e", difference, shift=int(rng.integers(0, 3)), dtype=dtype)
        stores.append(store)
    else:
        e = v
    update = ("MEM_UPDATE", f"{layer}.write", *where, e)
    if first := b.flip(0.7):
        b.op(*update, memory=rows, bits=bits, keep=keep)
    b.op("MEM_READ", f"{layer}.o.acc", *digits, rows=rows, bits=bits, shared=0)
    if not first:
        b.op(*update, memory=rows, bits=bits, keep=keep)
    b.op("REQUANT", f"{layer}.kept", f"{layer}.o.acc", shift=0, dtype="i16")
    for state, value in stores:
        b.op("STORE", state, value)


def _masked(b: _Builder, layer: str, y: str) -> str:
    """``y`` through a sparse code: only the winners of each group stay."""
    groups = int(b.rng.integers(1, 5))
    size = int(b.rng.integers(2, 7))
    y8 = b.op("REQUANT", f"{layer}.y8", y, shift=2, dtype="i8")
    codes = b.linear(f"{layer}.z", y8, b.width, groups * size, "i8")
    only = b.op("MASK", f"{layer}.m", codes, b.op("WINNERS", f"{layer}.w", codes, groups=groups))
    return b.linear(f"{layer}.back", only, groups * size, b.width, "i16")


def _length(b: _Builder, name: str) -> int:
    """Elements of digits ``name``."""
    op = next(op for op in b.ops if op.out == name)
    if op.kind == "TOKEN":
        return 2
    if op.kind == "WINNERS":
        return op.integer("groups")
    return int(b.consts[f"{name}.W"].shape[0])


def _dtype(b: _Builder, name: str) -> str:
    op = next(op for op in b.ops if op.out == name)
    return op.text("dtype") if op.kind == "REQUANT" else "i16"


def _zero(b: _Builder, length: int) -> str:
    """A vector of zeros: a state that nothing is ever stored in."""
    name = f"zero{len(b.ops)}"
    return b.op("LOAD", f"{name}.v", b.state(name, length))


def random_memory_program(
    rng: np.random.Generator, *, layers: int | None = None, loop: str | None = None, narrow: bool = False
) -> Program:
    """A legal random program with memories.

    ``layers``: 1..4 (default: drawn). ``loop``: "" for none, "free" around some layers, "levels" with states
    and memories of their own in each run (default: drawn). ``narrow``: all memories are i8, as engines have
    them.
    """
    layers = int(rng.integers(1, 5)) if layers is None else layers
    loop = str(rng.choice(["", "free", "levels"])) if loop is None else loop
    b = _Builder(rng, vocab=int(rng.integers(2, 300)), width=int(rng.integers(2, 20)), narrow=narrow)
    embed = b.const("embed", rng.integers(-128, 128, (b.vocab, b.width)).astype(np.int8))
    r = b.op("GATHER", "r.e", embed=embed, shift=int(rng.integers(2, 6)))
    first, last = sorted(int(at) for at in rng.integers(0, layers, 2))
    times = int(rng.integers(1, 4))
    start, before = 0, ""
    for layer in range(layers):
        if loop and layer == first:
            start, before = len(b.ops), r
            b.parts = times if loop == "levels" else 1
        r = _layer(b, str(layer), r)
        if loop and layer == last:
            carry = (before, r) if b.flip(0.9) else ()
            most = times if loop == "levels" else int(rng.integers(times, 6))
            b.op(
                "LOOP", "again", *carry,
                first=start, length=len(b.ops) - start, times=times, most=most, levels=int(loop == "levels"),
            )  # fmt: skip
            b.parts = 1
    x = b.op("REQUANT", "last", r, shift=4, dtype="i8")
    logits = b.linear("logits", x, b.width, b.vocab, "i16")
    return Program(
        f"random-memory-{b.width}x{layers}-{b.vocab}", b.vocab, tuple(b.ops), b.consts, b.states, logits, 4,
        memories=b.memories,
    )  # fmt: skip
