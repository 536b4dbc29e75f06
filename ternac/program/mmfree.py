"""The published MatMul-free models (MMfreeLM): their sizes, and their op sequence from integer parameters.

Import and random programs build through :func:`build_mmfree`.  ``LINEAR(x; p)`` stands for one ternary
projection with its own norm weights (``gain``):

    {p}.y = SCALE(x, {p}.gain);  {p}.m = PEAK(y);  {p}.q = QUANT(y, m)           one scale per token, or
                                                   {p}.q = REQUANT8(y)           one fixed scale
    {p}.acc = TMATVEC({p}.w, q); {p} = RESCALE16(acc, m), or REQUANT16(acc) with a multiplier

and ``NORMS(x; p)`` for the norm of a block and, up to its weights, that of the projections behind it:

    {p}.r = RMSNORM(x);  {p}.g = SCALE({p}.r, {p}.gain);  {p} = RMSNORM({p}.g)

A token is then

    r.e = GATHER16(embed, token)
    per layer l:
      {l}.n1 = NORMS(r);  {l}.i, {l}.f, {l}.g = LINEAR(n1)
      {l}.c  = INTERP(silu, i)
      {l}.e  = INTERP(sigmoid of -f), then SCALE by 1 - lower bound where the layer has one
      {l}.h  = BLEND({l}.h.prev = LOAD({l}.state), c, e);  STORE                (1-e)*h + e*c
      {l}.gn = SCALE({l}.gn.r = RMSNORM(g), {l}.gn.gain);  {l}.s = INTERP(silu, h)
      {l}.oz = MUL16(gn, s);  {l}.on = RMSNORM(oz);  {l}.o = LINEAR(on)
      {l}.r1 = ADD(r, o)                               r is REQUANTed first where its scale changes
      {l}.n2 = NORMS(r1);  {l}.gate, {l}.up = LINEAR(n2) with one gain, peak and quantization for both
      {l}.z  = MUL16(up, {l}.a = INTERP(silu, gate));  {l}.zn = RMSNORM(z);  {l}.down = LINEAR(zn)
      {l}.r2 = ADD(r1, down)
    n = NORMS(r);  logits = LINEAR(n; head)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program

I16 = npt.NDArray[np.int16]
Trits = npt.NDArray[np.int8]


@dataclass(frozen=True)
class Rms:
    """Attributes of an RMSNORM."""

    eps: int
    shift: int


@dataclass(frozen=True)
class Gain:
    """Constant and shift of a SCALE."""

    gain: I16
    shift: int


@dataclass(frozen=True)
class Factor:
    """``multiplier / 2**shift`` of a RESCALE or a REQUANT."""

    multiplier: int
    shift: int


@dataclass(frozen=True)
class Norms:
    """The norm of a block, its weights, and the norm of the projections behind it."""

    first: Rms
    gain: Gain
    second: Rms


@dataclass(frozen=True)
class Linear:
    """One projection: gain, fixed quantization (None: a scale per token), the matrices that share it."""

    gain: Gain
    fixed: Factor | None
    outputs: tuple[tuple[Trits, Factor], ...]


@dataclass(frozen=True)
class Layer:
    """One layer. ``shift1``, ``shift2``: the residual's scale before each of its two ADDs (0: unchanged).

    ``open`` is None where the layer has no lower bound.  Curves are i16[1025].
    """

    norm1: Norms
    i: Linear
    f: Linear
    g: Linear
    candidate: I16
    forget: I16
    open: Gain | None
    gate_norm: Rms
    gate_gain: Gain
    swish: I16
    mix_shift: int
    o_norm: Rms
    o: Linear
    shift1: int
    norm2: Norms
    gate: Linear
    act: I16
    z_shift: int
    down_norm: Rms
    down: Linear
    shift2: int


class Emitter:
    """Collects ops and constants; equal curves become one constant."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.consts: dict[str, npt.NDArray[Any]] = {}
        self._curves: dict[bytes, str] = {}

    def op(self, kind: str, out: str, *ins: str, **attrs: int | str) -> str:
        """Append an op; returns the name of its result."""
        self.ops.append(Op(kind, out, ins, attrs))
        return out

    def rms(self, out: str, x: str, p: Rms) -> str:
        """RMSNORM."""
        return self.op("RMSNORM", out, x, eps=int(p.eps), shift=int(p.shift))

    def scale(self, out: str, x: str, name: str, p: Gain) -> str:
        """SCALE with the constant ``name``."""
        self.consts[name] = np.asarray(p.gain, np.int16)
        return self.op("SCALE", out, x, gain=name, shift=int(p.shift))

    def interp(self, out: str, x: str, points: I16) -> str:
        """INTERP."""
        name = self._curves.setdefault(points.tobytes(), f"curve.{len(self._curves)}")
        self.consts.setdefault(name, points)
        return self.op("INTERP", out, x, curve=name)

    def norms(self, p: str, x: str, n: Norms) -> str:
        """NORMS of the module's docstring."""
        inner = self.scale(f"{p}.g", self.rms(f"{p}.r", x, n.first), f"{p}.gain", n.gain)
        return self.rms(p, inner, n.second)

    def linear(self, p: str, x: str, linear: Linear, *others: str) -> list[str]:
        """LINEAR of the module's docstring; the first output is called ``p``, further ones ``others``."""
        y = self.scale(f"{p}.y", x, f"{p}.gain", linear.gain)
        m = ""
        if linear.fixed is None:
            m = self.op("PEAK", f"{p}.m", y)
            q = self.op("QUANT", f"{p}.q", y, m)
        else:
            q = self._requant(f"{p}.q", y, linear.fixed, "i8")
        outs = []
        for name, (trits, factor) in zip((p, *others), linear.outputs, strict=True):
            self.consts[f"{name}.w"] = np.asarray(trits, np.int8)
            acc = self.op("TMATVEC", f"{name}.acc", q, weights=f"{name}.w")
            if m:
                by = {"multiplier": int(factor.multiplier), "shift": int(factor.shift)}
                outs.append(self.op("RESCALE", name, acc, m, dtype="i16", **by))
            else:
                outs.append(self._requant(name, acc, factor, "i16"))
        return outs

    def residual(self, out: str, r: str, x: str, shift: int) -> str:
        """The residual, brought to the scale of ``x`` first."""
        if shift:
            r = self.op("REQUANT", f"{out}.old", r, shift=int(shift), dtype="i16")
        return self.op("ADD", out, r, x, dtype="i16")

    def _requant(self, out: str, x: str, factor: Factor, dtype: str) -> str:
        attrs = {"multiplier": int(factor.multiplier), "shift": int(factor.shift)}
        return self.op("REQUANT", out, x, dtype=dtype, **attrs)


def emit_layer(b: Emitter, l: str, p: Layer, r: str) -> str:  # noqa: E741 - the contract's letter
    """Emit one layer that reads residual ``r``; returns the name of the new residual."""
    n1 = b.norms(f"{l}.n1", r, p.norm1)
    (i,), (f,), (g,) = (
        b.linear(f"{l}.{k}", n1, linear) for k, linear in (("i", p.i), ("f", p.f), ("g", p.g))
    )
    c = b.interp(f"{l}.c", i, p.candidate)
    e = b.interp(f"{l}.e", f, p.forget)
    if p.open is not None:
        e = b.scale(f"{l}.e.open", e, f"{l}.open.gain", p.open)
    h = b.op("BLEND", f"{l}.h", b.op("LOAD", f"{l}.h.prev", f"{l}.state"), c, e)
    b.op("STORE", f"{l}.state", h)
    gn = b.scale(f"{l}.gn", b.rms(f"{l}.gn.r", g, p.gate_norm), f"{l}.gn.gain", p.gate_gain)
    oz = b.op("MUL16", f"{l}.oz", gn, b.interp(f"{l}.s", h, p.swish), shift=int(p.mix_shift), dtype="i16")
    (o,) = b.linear(f"{l}.o", b.rms(f"{l}.on", oz, p.o_norm), p.o)
    r = b.residual(f"{l}.r1", r, o, p.shift1)
    gate, up = b.linear(f"{l}.gate", b.norms(f"{l}.n2", r, p.norm2), p.gate, f"{l}.up")
    z = b.op("MUL16", f"{l}.z", up, b.interp(f"{l}.a", gate, p.act), shift=int(p.z_shift), dtype="i16")
    (down,) = b.linear(f"{l}.down", b.rms(f"{l}.zn", z, p.down_norm), p.down)
    return b.residual(f"{l}.r2", r, down, p.shift2)


def build_mmfree(
    name: str,
    embed: I16,
    layers: Iterable[Layer],
    norm: Norms,
    head: Linear,
    logit_scale_bits: int,
    meta: Mapping[str, Any] | None = None,
    tokenizer: bytes = b"",
) -> Program:
    """Build and check the program; ``layers`` is consumed one at a time.  Raises IllegalProgram."""
    b = Emitter()
    b.consts["embed"] = np.asarray(embed, np.int16)
    vocab, d = embed.shape
    states: dict[str, int] = {}
    r = b.op("GATHER16", "r.e", embed="embed")
    for index, layer in enumerate(layers):
        states[f"{index}.state"] = d
        r = emit_layer(b, str(index), layer, r)
    (logits,) = b.linear("logits", b.norms("n", r, norm), head)
    program = Program(
        name=name,
        vocab=vocab,
        ops=tuple(b.ops),
        consts=b.consts,
        states=states,
        logits=logits,
        logit_scale_bits=int(logit_scale_bits),
        meta=dict(meta or {}),
        tokenizer=tokenizer,
    )
    check(program)
    return program


# ---- sizes of the published models --------------------------------------------------------------------

Phase = tuple[tuple[str, int, int], ...]
"""Matrices (name, rows, columns) that need nothing of each other's results."""


@dataclass(frozen=True)
class Shape:
    """Width ``d``, ``layers``, width ``m`` of the gated unit, ``vocab``, from the models' configurations."""

    name: str
    d: int
    layers: int
    m: int
    vocab: int = 32000

    @property
    def layer(self) -> tuple[Phase, ...]:
        """The matrices of a block, phase by phase: what the next phase multiplies comes of the one before."""
        d, m = self.d, self.m
        return (
            (("i", d, d), ("f", d, d), ("g", d, d)),
            (("o", d, d),),
            (("gate", 2 * m, d),),
            (("down", d, m),),
        )

    @property
    def head(self) -> tuple[Phase, ...]:
        """The output layer."""
        return ((("head", self.vocab, self.d),),)

    @property
    def trits(self) -> int:
        """Ternary weights that a token reads."""
        layer = sum(rows * columns for phase in self.layer for _, rows, columns in phase)
        return self.layers * layer + self.vocab * self.d


def share(phases: tuple[Phase, ...], parts: int, group: int) -> tuple[Phase, ...]:
    """The largest of ``parts`` shares of the rows of every matrix, in whole groups of ``group`` rows."""

    def rows_of(rows: int) -> int:
        groups = -(-rows // group)
        return -(-groups // parts) * group

    return tuple(tuple((name, rows_of(rows), columns) for name, rows, columns in phase) for phase in phases)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("370m", 1024, 24, 2816),
        Shape("1.3b", 2048, 24, 5632),
        Shape("2.7b", 2560, 32, 6912),
    )
}
