"""The NumPy executor against a slow interpreter in plain Python integers, on programs of every op kind."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import IllegalProgram, UsageError
from ternac.program.legality import check, infer
from ternac.program.numerics import max_norm_exponent
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor


def shift_round(x: int, s: int) -> int:
    return (x + (1 << s >> 1)) >> s


def sat(x: int, dtype: str) -> int:
    return max(-128, min(127, x)) if dtype == "i8" else max(-32768, min(32767, x))


def plain_step(p: Program, state: dict[str, list[int]], token: int) -> dict[str, list[int]]:
    """One token in Python integers, written from the page and not from the executor; returns all values."""
    v: dict[str, list[int]] = {}
    for op in p.ops:
        a: Any = op.attrs
        x = [v[name] for name in op.ins] if op.kind != "LOAD" else []
        const = {k: p.consts[c].tolist() for k, c in a.items() if k in ("embed", "table", "weights")}
        match op.kind:
            case "GATHER":
                v[op.out] = [e * 256 >> a["shift"] for e in const["embed"][token]]
            case "LOAD":
                v[op.out] = list(state[op.ins[0]])
            case "STORE":
                state[op.out] = list(x[0])
            case "TMATVEC":
                v[op.out] = [sum(t * e for t, e in zip(row, x[0], strict=True)) for row in const["weights"]]
            case "REQUANT":
                v[op.out] = [
                    sat(shift_round(e * a.get("multiplier", 1), a["shift"]), a["dtype"]) for e in x[0]
                ]
            case "TABLE":
                v[op.out] = [const["table"][e + 128] for e in x[0]]
            case "MUL":
                pairs = zip(*x, strict=True)
                v[op.out] = [sat(shift_round(e * f, a["shift"]), a["dtype"]) for e, f in pairs]
            case "ADD":
                v[op.out] = [sat(e + f, a["dtype"]) for e, f in zip(*x, strict=True)]
            case "LERP":
                v[op.out] = [(f * h + (256 - f) * c + 128) >> 8 for h, c, f in zip(*x, strict=True)]
            case "NORM":
                q = [sat(shift_round(e, a["pre"]), "i8") for e in x[0]]
                ss = sum(e * e for e in q)
                exponent = (math.floor(math.log2(ss)) // 2) if ss else 0
                index = (ss << 6 >> 2 * exponent) if ss else 0
                mant = const["table"][index]
                v[op.out] = [sat(shift_round(e * mant, a["post"] + exponent), "i8") for e in x[0]]
    return v


def any_program(rng: np.random.Generator) -> Program:
    """A legal program of random ops on random earlier values; nothing like a language model."""
    vocab, ops, consts = int(rng.integers(1, 9)), [], {}
    states = {f"s{i}": int(rng.integers(1, 7)) for i in range(rng.integers(1, 4))}

    def make(kind: str, out: str, *ins: str, **attrs: Any) -> bool:
        ops.append(Op(kind, out, ins, attrs))
        return True

    def const(name: str, array: np.ndarray) -> str:
        consts[name] = array
        return name

    d = int(rng.integers(1, 7))
    make("GATHER", "v0", embed=const("embed", rng.integers(-128, 128, (vocab, d)).astype(np.int8)), shift=3)
    kinds: list[tuple[str, int]] = [("i16", d)]
    narrow: set[int] = set()  # values that MUL and LERP accept as a weight

    def pick(*dtypes: str, length: int | None = None, among: Any = None) -> int | None:
        fit = [i for i, (t, n) in enumerate(kinds) if t in dtypes and length in (None, n)]
        fit = [i for i in fit if among is None or i in among]
        return int(rng.choice(fit)) if fit else None

    for state, length in states.items():
        make("LOAD", f"v{len(kinds)}", state)
        kinds.append(("i16", length))
    for _ in range(40):
        i, kind = (
            len(kinds),
            str(rng.choice(["NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "STORE"])),
        )
        out, shift, dtype = f"v{i}", int(rng.integers(0, 12)), str(rng.choice(["i8", "i16"]))
        if kind == "STORE":
            name = str(rng.choice(list(states)))
            x = pick("i16", length=states[name])
            _ = x is not None and make("STORE", name, f"v{x}")
            continue
        x = pick(*{"NORM": ["i16"], "REQUANT": ["acc", "i16"], "LERP": ["i16"]}.get(kind, ["i8"]))
        x = pick("i8", "i16") if kind in ("MUL", "ADD") else x
        if x is None:
            continue
        n = kinds[x][1]
        if kind == "NORM":
            table = const(f"c{i}", rng.integers(0, 256, 256).astype(np.uint8))
            post = int(rng.integers(0, 31 - max_norm_exponent(n)))
            make(kind, out, f"v{x}", pre=int(rng.integers(0, 16)), post=post, table=table)
            kinds.append(("i8", n))
        elif kind == "TMATVEC":
            m = int(rng.integers(1, 7))
            weights = const(f"c{i}", rng.integers(-1, 2, (m, n)).astype(np.int8))
            make(kind, out, f"v{x}", weights=weights)
            kinds.append(("acc", m))
        elif kind == "REQUANT":
            extra = {"multiplier": int(rng.integers(1, 1 << 20))} if rng.random() < 0.3 else {}
            make(kind, out, f"v{x}", shift=shift, dtype=dtype, **extra)
            kinds.append((dtype, n))
        elif kind == "TABLE":
            low, high = ((0, 256), (-256, 256), (-32768, 32768))[rng.integers(0, 3)]
            make(kind, out, f"v{x}", table=const(f"c{i}", rng.integers(low, high, 256).astype(np.int16)))
            if high == 256:
                narrow.add(i)
            kinds.append(("i16", n))
        else:
            small = {j for j, (t, _) in enumerate(kinds) if t == "i8"} | narrow
            y = pick("i8", "i16", length=n, among=small if kind == "MUL" else None)
            if kind == "LERP":
                c, weights_only = pick("i16", length=n), [j for j in narrow if consts[f"c{j}"].min() >= 0]
                f = pick("i16", length=n, among=weights_only)
                if f is not None:
                    make(kind, out, f"v{x}", f"v{c}", f"v{f}")
                    kinds.append(("i16", n))
            elif y is not None:
                make(kind, out, f"v{x}", f"v{y}", dtype=dtype, **({"shift": shift} if kind == "MUL" else {}))
                kinds.append((dtype, n))
    logits = max(i for i, (t, _) in enumerate(kinds) if t == "i16")
    if kinds[logits][1] != vocab:
        make("REQUANT", "x8", f"v{logits}", shift=8, dtype="i8")
        make(
            "TMATVEC",
            "xa",
            "x8",
            weights=const("head", rng.integers(-1, 2, (vocab, kinds[logits][1])).astype(np.int8)),
        )
        make("REQUANT", "out", "xa", shift=0, dtype="i16")
    return Program(
        "any",
        vocab,
        tuple(ops),
        consts,
        states,
        ops[-1].out if kinds[logits][1] != vocab else f"v{logits}",
        4,
    )


def agree(p: Program, rng: np.random.Generator, steps: int, batch: int) -> None:
    """Every value and every state word of ``batch`` sessions over ``steps`` tokens."""
    executor = NumpyExecutor(p)
    state = executor.open(batch)
    plain = [{name: [0] * n for name, n in p.states.items()} for _ in range(batch)]
    for _ in range(steps):
        tokens, trace = rng.integers(0, p.vocab, batch), {}
        logits = executor.step(state, tokens, trace)
        views = executor.state_dict(state)
        for row in range(batch):
            want = plain_step(p, plain[row], int(tokens[row]))
            for name, value in want.items():
                assert trace[name][row].tolist() == value, (name, row)
            assert logits[row].tolist() == want[p.logits]
            for name in p.states:
                assert views[name][row].tolist() == plain[row][name], (name, row)


@settings(max_examples=60)
@given(st.integers(0, 1 << 32))
def test_every_op_kind_in_any_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = any_program(rng)
    check(p)
    agree(p, rng, steps=3, batch=2)


@settings(max_examples=15)
@given(st.integers(0, 1 << 32))
def test_random_language_models(seed: int) -> None:
    rng = np.random.default_rng(seed)
    agree(random_program(rng), rng, steps=3, batch=int(rng.integers(1, 4)))


def test_any_program_covers_every_kind() -> None:
    rng = np.random.default_rng(0)
    seen = {op.kind for _ in range(20) for op in any_program(rng).ops}
    assert seen == {"GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE"}


def test_random_programs_do_not_all_saturate() -> None:
    """Half of the values of every vector, over several programs, lie strictly inside their range."""
    inside, total = 0, 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        p = random_program(rng)
        executor, trace = NumpyExecutor(p), {}
        state = executor.open(4)
        for _ in range(8):
            executor.step(state, rng.integers(0, p.vocab, 4), trace)
        for name, value in infer(p).items():
            ends = {"i8": 127, "i16": 32767}.get(value.dtype)
            if ends:
                inside += int(((trace[name] > -ends) & (trace[name] < ends) & (trace[name] != 0)).sum())
                total += trace[name].size
    assert inside > 0.75 * total


def test_random_program_is_reproducible() -> None:
    a, b = (random_program(np.random.default_rng(7), d=5, m=9, layers=2, vocab=11) for _ in range(2))
    assert a.hash == b.hash
    assert (a.consts["embed"].shape, a.consts["0.Wup"].shape, len(a.states)) == ((11, 5), (9, 5), 2)


def test_a_session_does_not_depend_on_its_neighbours() -> None:
    rng = np.random.default_rng(3)
    p = random_program(rng, d=24, m=40, layers=2, vocab=20)
    executor, tokens = NumpyExecutor(p), rng.integers(0, 20, (6, 5))
    together, alone = executor.open(5), executor.open(1)
    for row in tokens:
        logits = executor.step(together, row)
        one = executor.step(alone, row[2:3])
        assert logits[2].tolist() == one[0].tolist()
    assert together[2].tolist() == alone[0].tolist()


@pytest.mark.parametrize("k", [1040, 65535])
def test_long_products_are_exact(k: int) -> None:
    """All +-128 in float32 up to 2**23: no rounding."""
    ops = (
        Op("GATHER", "e", (), {"embed": "embed", "shift": 8}),
        Op("REQUANT", "x", ("e",), {"shift": 0, "dtype": "i8"}),
        Op("TMATVEC", "acc", ("x",), {"weights": "w"}),
        Op("REQUANT", "y", ("acc",), {"shift": 9, "dtype": "i16"}),
    )
    w = np.ones((2, k), np.int8)
    w[1, 1::2] = -1
    embed = np.full((2, k), -128, np.int8)
    embed[1, -1] = 127
    p = Program("long", 2, ops, {"embed": embed, "w": w}, {}, "y", 0)
    trace: dict[str, Any] = {}
    executor = NumpyExecutor(p)
    executor.step(executor.open(2), [0, 1], trace)
    wide = w.astype(np.int64) @ embed.astype(np.int64).T
    assert trace["acc"].tolist() == wide.T.tolist()


def test_refusals_change_nothing() -> None:
    p = random_program(np.random.default_rng(1), vocab=10)
    executor = NumpyExecutor(p)
    state = executor.open(2)
    executor.step(state, [1, 2])
    before = state.copy()
    for tokens in ([1, 10], [-1, 0], [0.5, 1], [[1, 2]]):
        with pytest.raises(UsageError, match=r"not an integer in 0\.\.9|state is"):
            executor.step(state, tokens)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"needs int16\[1, "):
        executor.step(state, [1])
    with pytest.raises(UsageError, match="batch is 0"):
        executor.open(0)
    assert (state == before).all()


def test_illegal_programs_do_not_become_executors() -> None:
    with pytest.raises(IllegalProgram, match=r"op 0 \(TOPK x\): op kind TOPK is unknown"):
        NumpyExecutor(Program("p", 2, (Op("TOPK", "x"),), {}, {}, "x", 0))
