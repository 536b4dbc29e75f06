"""The one home of the language model's op sequence: parameters in, program out.

Export (from a trained checkpoint), random programs and tests all build through :func:`build_lm`, so that
there is a single place that says what a token does:

    r.e = GATHER(embed, token)                                   residual, i16
    per layer l:
      {l}.n1 = NORM(r)
      {l}.f  = TABLE(sigmoid, {l}.f.pre  = REQUANT8({l}.f.acc = TMATVEC(Wf, n1)))           f * 256
      {l}.g  = REQUANT8({l}.g.act = TABLE(silu, {l}.g.pre = REQUANT8({l}.g.acc = TMATVEC(Wg, n1))))
      {l}.c  = TABLE(silu, {l}.c.pre = REQUANT8({l}.c.acc = TMATVEC(Wc, n1)))               state scale
      {l}.h  = LERP({l}.h.prev = LOAD({l}.state), c, f);  STORE {l}.state                   f*h + (1-f)*c
      {l}.o  = MUL8(h, g)
      {l}.r1 = ADD16(r, {l}.o.res = REQUANT16({l}.o.acc = TMATVEC(Wo, o)))
      {l}.n2 = NORM(r1)
      {l}.a  = REQUANT8({l}.a.act = TABLE(silu, {l}.a.pre = REQUANT8({l}.a.acc = TMATVEC(Wgate, n2))))
      {l}.up = REQUANT8({l}.up.acc = TMATVEC(Wup, n2))
      {l}.z  = MUL8(up, a)
      {l}.r2 = ADD16(r1, {l}.down = REQUANT16({l}.down.acc = TMATVEC(Wdown, z)))
    with a memory behind layer l, of H heads, `m` for {l}.m:
      m.n  = NORM(r2)
      m.w1 = WINNERS(m.s1 = REQUANT16(m.s1.acc = TMATVEC(Wa1, n), 0), H);  m.w2: Wa2 likewise
      m.v  = REQUANT8(m.v.acc = TMATVEC(Wv, n))
      m.e  = REQUANT16(m.d = SUB16(m.o.prev = LOAD(m.o.state), v), rate)
      MEM_UPDATE(m.rows, m.a1.prev = LOAD(m.a1), m.a2.prev = LOAD(m.a2), e)     v at the last token's address
      m.o  = REQUANT16(m.o.acc = MEM_READ(m.rows, w1, w2), log2 H)               a mean of i8; states hold i16
      STORE m.a1 = w1, m.a2 = w2, m.o.state = o
      m.g  = REQUANT8(m.g.act = TABLE(silu, m.g.pre = REQUANT8(m.g.acc = TMATVEC(Wg, n))))
      m.z  = MUL8(o, g)
      m.r  = ADD16(r2, m.res = REQUANT16(m.res.acc = TMATVEC(Wo, z)))
    n = NORM(r);  logits = REQUANT16(logits.acc = TMATVEC(head, n))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program.builder import NormParams, ProgramBuilder
from ternac.program.ops import Memory
from ternac.program.program import Program

WEIGHTS = ("Wf", "Wg", "Wc", "Wo", "Wgate", "Wup", "Wdown")
SHIFTS = ("f.pre", "g.pre", "g", "c.pre", "o", "o.res", "a.pre", "a", "up", "z", "down")
"""One right shift per REQUANT and MUL of a layer, named after the value that it makes."""
MEMORY_WEIGHTS = ("Wa1", "Wa2", "Wv", "Wg", "Wo")
MEMORY_SHIFTS = ("v", "e", "o", "g.pre", "g", "z", "res")
"""As `SHIFTS`, of a memory; those of its scores are 0."""
PASS_NAMES = {
    "r.e": "embedding",
    "n1.stat": "norm 1, squares",
    "n1": "norm 1, scale",
    "f": "forget gate",
    "g": "output gate",
    "h": "candidate, recurrence",
    "o": "gate the state",
    "r1": "output projection",
    "n2.stat": "norm 2, squares",
    "n2": "norm 2, scale",
    "a": "GLU gate",
    "z": "GLU up",
    "r2": "GLU down",
    "m.n.stat": "memory norm, squares",
    "m.n": "memory norm, scale",
    "m.w1": "memory address, first digit",
    "m.w2": "memory address, second digit",
    "m.e": "memory value, error",
    "m.o": "memory read",
    "m.z": "memory gate",
    "m.r": "memory projection",
    "n.stat": "last norm, squares",
    "n": "last norm, scale",
    "logits": "head",
}
"""What an engine's pass does, by the value that it makes, without the layer."""


@dataclass(frozen=True)
class LayerParams:
    """One layer: its two norms, its seven trit matrices (keys WEIGHTS) and its eleven shifts (keys SHIFTS).

    With width d and inner width m: Wf, Wg, Wc, Wo are [d, d], Wgate and Wup [m, d], Wdown [d, m]
    (rows are outputs).
    """

    norm1: NormParams
    norm2: NormParams
    weights: Mapping[str, npt.NDArray[np.int8]]
    shifts: Mapping[str, int]


@dataclass(frozen=True)
class MemoryParams:
    """A memory of ``heads`` x 2**bits x 2**bits int8 rows of width D, behind a layer of width d.

    Wa1 and Wa2 are [heads * 2**bits, d], Wv and Wg [D, d], Wo [d, D]; keys MEMORY_WEIGHTS and MEMORY_SHIFTS.
    """

    norm: NormParams
    heads: int
    bits: int
    weights: Mapping[str, npt.NDArray[np.int8]]
    shifts: Mapping[str, int]


@dataclass(frozen=True)
class LMParams:
    """A whole model: embed int8[V, d], head trits [V, d], int16[256] tables, layers, final norm.

    ``memories``: by the index of the layer that each stands behind.
    """

    embed: npt.NDArray[np.int8]
    embed_shift: int
    layers: Sequence[LayerParams]
    norm: NormParams
    head: npt.NDArray[np.int8]
    head_shift: int
    sigmoid: npt.NDArray[np.int16]
    silu: npt.NDArray[np.int16]
    logit_scale_bits: int
    memories: Mapping[int, MemoryParams] = field(default_factory=dict)


def build_lm(
    params: LMParams, name: str, meta: Mapping[str, Any] | None = None, tokenizer: bytes = b""
) -> Program:
    """Build and check the program of a model; raises IllegalProgram where the parameters break a rule."""
    b = ProgramBuilder()
    b.consts["embed"] = np.asarray(params.embed, np.int8)
    b.consts["sigmoid"] = np.asarray(params.sigmoid, np.int16)
    b.consts["silu"] = np.asarray(params.silu, np.int16)
    r = b.op("GATHER", "r.e", embed="embed", shift=int(params.embed_shift))
    for index, layer in enumerate(params.layers):
        r = _layer(b, str(index), layer, r)
        if index in params.memories:
            r = add_memory(b, f"{index}.m", params.memories[index], r)
    n = b.norm("n", r, params.norm)
    logits = b.linear("logits", "logits.acc", n, "head", params.head, params.head_shift, "i16")
    return b.build(name, logits, int(params.logit_scale_bits), meta, tokenizer)


def _layer(b: ProgramBuilder, l: str, p: LayerParams, r: str) -> str:  # noqa: E741 - the contract's letter
    """Emit one layer that reads residual ``r``; returns the name of the new residual."""
    return add_glu(b, l, p.norm2, p.weights, p.shifts, add_mlgru(b, l, p.norm1, p.weights, p.shifts, r))


def add_mlgru(
    b: ProgramBuilder,
    l: str,  # noqa: E741 - the contract's letter
    norm: NormParams,
    w: Mapping[str, npt.NDArray[np.int8]],
    s: Mapping[str, int],
    r: str,
) -> str:
    """Emit the recurrent half of layer ``l``, with its state; returns the name of the new residual."""
    b.states[f"{l}.state"] = len(w["Wf"])

    def linear(out: str, acc: str, x: str, weights: str, dtype: str = "i8") -> str:
        return b.linear(f"{l}.{out}", f"{l}.{acc}", x, f"{l}.{weights}", w[weights], s[out], dtype)

    n1 = b.norm(f"{l}.n1", r, norm)
    f = b.op("TABLE", f"{l}.f", linear("f.pre", "f.acc", n1, "Wf"), table="sigmoid")
    g_act = b.op("TABLE", f"{l}.g.act", linear("g.pre", "g.acc", n1, "Wg"), table="silu")
    g = b.op("REQUANT", f"{l}.g", g_act, shift=int(s["g"]), dtype="i8")
    c = b.op("TABLE", f"{l}.c", linear("c.pre", "c.acc", n1, "Wc"), table="silu")
    h = b.op("LERP", f"{l}.h", b.op("LOAD", f"{l}.h.prev", f"{l}.state"), c, f)
    b.op("STORE", f"{l}.state", h)
    o = b.op("MUL", f"{l}.o", h, g, shift=int(s["o"]), dtype="i8")
    return b.op("ADD", f"{l}.r1", r, linear("o.res", "o.acc", o, "Wo", "i16"), dtype="i16")


def add_glu(
    b: ProgramBuilder,
    l: str,  # noqa: E741 - the contract's letter
    norm: NormParams,
    w: Mapping[str, npt.NDArray[np.int8]],
    s: Mapping[str, int],
    r: str,
) -> str:
    """Emit the gated half of layer ``l``; returns the name of the new residual."""
    return b.op("ADD", f"{l}.r2", r, add_glu_value(b, l, norm, w, s, r), dtype="i16")


def add_glu_value(
    b: ProgramBuilder,
    l: str,  # noqa: E741 - the contract's letter
    norm: NormParams,
    w: Mapping[str, npt.NDArray[np.int8]],
    s: Mapping[str, int],
    r: str,
) -> str:
    """Emit what `add_glu` adds to the residual ``r``; returns its name, a value i16."""

    def linear(out: str, acc: str, x: str, weights: str, dtype: str = "i8") -> str:
        return b.linear(f"{l}.{out}", f"{l}.{acc}", x, f"{l}.{weights}", w[weights], s[out], dtype)

    n2 = b.norm(f"{l}.n2", r, norm)
    a_act = b.op("TABLE", f"{l}.a.act", linear("a.pre", "a.acc", n2, "Wgate"), table="silu")
    a = b.op("REQUANT", f"{l}.a", a_act, shift=int(s["a"]), dtype="i8")
    z = b.op("MUL", f"{l}.z", linear("up", "up.acc", n2, "Wup"), a, shift=int(s["z"]), dtype="i8")
    return linear("down", "down.acc", z, "Wdown", "i16")


def add_memory(b: ProgramBuilder, l: str, p: MemoryParams, r: str) -> str:  # noqa: E741 - the contract's letter
    """Emit a memory that reads residual ``r``; returns the name of the new residual."""
    w, s = p.weights, p.shifts
    width = len(w["Wv"])
    b.states |= {f"{l}.a1": p.heads, f"{l}.a2": p.heads, f"{l}.o.state": width}
    b.memories[f"{l}.rows"] = Memory(p.heads << (2 * p.bits), width, "i8")

    def linear(out: str, acc: str, x: str, weights: str, shift: int, dtype: str = "i8") -> str:
        return b.linear(f"{l}.{out}", f"{l}.{acc}", x, f"{l}.{weights}", w[weights], shift, dtype)

    n = b.norm(f"{l}.n", r, p.norm)
    w1, w2 = (
        b.op("WINNERS", f"{l}.w{i}", linear(f"s{i}", f"s{i}.acc", n, f"Wa{i}", 0, "i16"), groups=p.heads)
        for i in (1, 2)
    )
    v = linear("v", "v.acc", n, "Wv", s["v"])
    before = b.op("LOAD", f"{l}.o.prev", f"{l}.o.state")
    d = b.op("SUB", f"{l}.d", before, v, dtype="i16")
    e = b.op("REQUANT", f"{l}.e", d, shift=int(s["e"]), dtype="i16")
    a1, a2 = (b.op("LOAD", f"{l}.a{i}.prev", f"{l}.a{i}") for i in (1, 2))
    b.op("MEM_UPDATE", f"{l}.write", a1, a2, e, memory=f"{l}.rows", bits=p.bits, keep=0)
    acc = b.op("MEM_READ", f"{l}.o.acc", w1, w2, rows=f"{l}.rows", bits=p.bits, shared=0)
    o = b.op("REQUANT", f"{l}.o", acc, shift=int(s["o"]), dtype="i16")
    for state, value in (("a1", w1), ("a2", w2), ("o.state", o)):
        b.op("STORE", f"{l}.{state}", value)
    g_act = b.op("TABLE", f"{l}.g.act", linear("g.pre", "g.acc", n, "Wg", s["g.pre"]), table="silu")
    g = b.op("REQUANT", f"{l}.g", g_act, shift=int(s["g"]), dtype="i8")
    z = b.op("MUL", f"{l}.z", o, g, shift=int(s["z"]), dtype="i8")
    return b.op("ADD", f"{l}.r", r, linear("res", "res.acc", z, "Wo", s["res"], "i16"), dtype="i16")
