"""The ops of imports against plain Python integers written from docs/numerics.md; legality; refusal."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import preset
from ternac.errors import IllegalProgram
from ternac.program import import_ops
from ternac.program.file import dumps, loads
from ternac.program.legality import check, infer
from ternac.program.ops import IMPORT_KINDS, Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor

I16 = st.integers(-32768, 32767)


def shift_round(x: int, s: int) -> int:
    return (x + (1 << s >> 1)) >> s


def sat(x: int, dtype: str) -> int:
    return max(-128, min(127, x)) if dtype == "i8" else max(-32768, min(32767, x))


def inverse(ss: int) -> int:
    return 2**47 // math.isqrt(ss * 2**16) if ss else 0


def plain_op(op: Op, x: list[list[int]], const: list[int]) -> list[int]:
    """One op on lists, word by word from the page."""
    a: Any = op.attrs
    match op.kind:
        case "RMSNORM":
            r = inverse(sum(v * v for v in x[0]) + a["eps"])
            return [sat(shift_round(v * r, a["shift"]), "i16") for v in x[0]]
        case "SCALE":
            return [sat(shift_round(v * g, a["shift"]), "i16") for v, g in zip(x[0], const, strict=True)]
        case "PEAK":
            return [min(max(abs(v) for v in x[0]), 32767)]
        case "QUANT":
            r = 127 * 2**24 // x[1][0] if x[1][0] else 0
            return [sat(shift_round(v * r, 24), "i8") for v in x[0]]
        case "RESCALE":
            by = x[1][0] * a["multiplier"]
            return [sat(shift_round(v * by, a["shift"]), a["dtype"]) for v in x[0]]
        case "REQUANT":
            by = a.get("multiplier", 1)
            return [sat(shift_round(v * by, a["shift"]), a["dtype"]) for v in x[0]]
        case "INTERP":
            out = []
            for v in x[0]:
                k, r = divmod(v + 32768, 64)
                out.append(const[k] + shift_round((const[k + 1] - const[k]) * r, 6))
            return out
        case "MUL16":
            pairs = zip(*x, strict=True)
            return [sat(shift_round(v * w, a["shift"]), a["dtype"]) for v, w in pairs]
        case "BLEND":
            return [h + shift_round(e * (c - h), 15) for h, c, e in zip(*x, strict=True)]
        case "ADD":
            return [sat(v + w, a["dtype"]) for v, w in zip(*x, strict=True)]
    raise AssertionError(op.kind)


def plain_step(p: Program, state: dict[str, list[int]], token: int) -> dict[str, list[int]]:
    """One token of a program in plain integers; returns all values."""
    v: dict[str, list[int]] = {}
    for op in p.ops:
        match op.kind:
            case "GATHER16":
                v[op.out] = p.consts[op.text("embed")][token].tolist()
            case "LOAD":
                v[op.out] = list(state[op.ins[0]])
            case "STORE":
                state[op.out] = list(v[op.ins[0]])
            case "TMATVEC":
                rows, x = p.consts[op.text("weights")].tolist(), v[op.ins[0]]
                v[op.out] = [sum(t * e for t, e in zip(row, x, strict=True)) for row in rows]
            case _:
                const = [p.consts[str(name)] for key, name in op.attrs.items() if key in ("gain", "curve")]
                v[op.out] = plain_op(op, [v[name] for name in op.ins], const[0].tolist() if const else [])
    return v


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_programs_equal_plain_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_mmfree(rng, d=int(rng.integers(1, 12)), m=int(rng.integers(1, 12)))
    executor, batch = NumpyExecutor(program), 2
    state = executor.open(batch)
    plain = [{n: [0] * k for n, k in program.states.items()} for _ in range(batch)]
    bounds = infer(program)
    for _ in range(3):
        tokens = rng.integers(0, program.vocab, batch)
        trace: dict[str, Any] = {}
        executor.step(state, tokens, trace)
        for b, token in enumerate(tokens):
            want = plain_step(program, plain[b], int(token))
            for name, values in want.items():
                assert trace[name][b].tolist() == values, name
                assert bounds[name].low <= min(values) and max(values) <= bounds[name].high, name
            assert {n: part[b].tolist() for n, part in executor.state_dict(state).items()} == plain[b]


def test_random_programs_use_every_op_of_imports() -> None:
    seen = {op.kind for seed in range(12) for op in random_mmfree(np.random.default_rng(seed)).ops}
    assert seen >= set(IMPORT_KINDS)


def test_file_round_trip() -> None:
    program = random_mmfree(np.random.default_rng(1))
    assert loads(dumps(program)).hash == program.hash


@given(st.lists(I16, min_size=1, max_size=9), st.integers(0, import_ops.MAX_EPS))
def test_inverse_root_bound(x: list[int], eps: int) -> None:
    assert max(map(abs, x)) * import_ops.inverse_root(sum(v * v for v in x) + eps) <= 2**39


@pytest.mark.parametrize("x", [-32768, 32767])
def test_longest_vector_has_no_overflow(x: int) -> None:
    n = 65535
    got = import_ops.rmsnorm(np.full((1, n), x), import_ops.MAX_EPS, 20)
    root = math.isqrt((n * x * x + import_ops.MAX_EPS) << 16)
    assert set(got[0].tolist()) == {shift_round(x * (2**47 // root), 20)}


@given(st.lists(I16, min_size=1, max_size=9))
def test_quantization_of_the_peak_is_127(x: list[int]) -> None:
    q = import_ops.quant(np.array(x), import_ops.peak(np.array(x)))
    assert max(abs(q)) == (127 if any(x) else 0)


@given(I16, I16, st.integers(0, 32767))
def test_blend_lies_between(h: int, c: int, e: int) -> None:
    assert min(h, c) <= int(import_ops.blend([h], [c], [e])[0]) <= max(h, c)


BASE = random_mmfree(np.random.default_rng(5), d=6, m=10, layers=1, vocab=7, per_token=True)


def op(out: str, **attrs: Any) -> Program:
    ops = [dataclasses.replace(o, attrs={**o.attrs, **attrs}) if o.out == out else o for o in BASE.ops]
    return dataclasses.replace(BASE, ops=tuple(ops))


def ins(out: str, *names: str) -> Program:
    ops = [dataclasses.replace(o, ins=names) if o.out == out else o for o in BASE.ops]
    return dataclasses.replace(BASE, ops=tuple(ops))


def const(name: str, array: np.ndarray) -> Program:
    return dataclasses.replace(BASE, consts={**BASE.consts, name: array})


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (op("0.n1", eps=1 << 46), "eps is 70368744177664, outside"),
        (op("0.n1", shift=41), r"shift is 41, outside 0\.\.40"),
        (op("0.i.y", shift=32), r"shift is 32, outside 0\.\.31"),
        (op("0.i", multiplier=1 << 24), r"multiplier is 16777216, outside"),
        (op("0.i", shift=63), r"shift is 63, outside 0\.\.62"),
        (op("0.i", dtype="i32"), "dtype is 'i32'"),
        (ins("0.i", "0.i.acc"), "1 inputs, needs 2"),
        (ins("0.i.q", "0.i.y", "0.i.y"), r"scale 0.i.y is \[6\] in .*needs one value in 0\.\.32767"),
        (ins("0.i", "0.i.q", "0.i.m"), "input 0.i.q is i8, needs acc or i16"),
        (ins("0.h", "0.h.prev", "0.c", "0.c"), r"weight 0.c can be -\d+\.\.\d+, needs 0\.\.32767"),
        (ins("0.i.m", "0.i.q"), "not defined before it"),
        (ins("0.f.m", "0.i.q"), "input 0.i.q is i8, needs i16"),
        (const("0.i.gain", np.ones(5, np.int16)), "gain 0.i.gain has 5 elements, input has 6"),
        (const("0.i.gain", np.ones((6, 1), np.int16)), "needs one side"),
        (const("0.i.gain", np.ones(6, np.int8)), "constant 0.i.gain: dtype int8, gain needs int16"),
        (const("curve.0", np.ones(1024, np.int16)), "a curve has 1025 points"),
        (const("embed", np.ones((7, 6), np.int8)), "constant embed: dtype int8, embed16 needs int16"),
        (const("embed", np.ones((8, 6), np.int16)), "8 rows, vocabulary is 7"),
    ],
)
def test_legality(program: Program, reason: str) -> None:
    check(BASE)
    with pytest.raises(IllegalProgram, match=reason):
        check(program)


def test_engines_refuse_with_the_reason() -> None:
    with pytest.raises(IllegalProgram, match="op 0 GATHER16 'r.e': ulx3s-85f does not have") as caught:
        compile_program(BASE, preset("ulx3s-85f"))
    assert "software" in caught.value.hint
