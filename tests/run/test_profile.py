"""``ternac profile``: counts against counting by hand, costs that point at a planted fault."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.program import numerics as nu
from ternac.program.file import load, save
from ternac.program.ops import RANGES, Memory, Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.random_memory import random_memory_program
from ternac.program.zoo import TEXT, open_program
from ternac.run import evaluate as ev
from ternac.run import profile as pf
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.real import RealExecutor
from tests.vectors import memory_reference

VECTORS = Path(__file__).resolve().parents[1] / "vectors"


def _multiplied(program: Program) -> Program:
    """The program with a multiplier in each of its first products' REQUANT."""
    ops = []
    for op in program.ops:
        if op.kind == "REQUANT" and op.ins[0].endswith(".acc"):
            attrs = dict(op.attrs) | {"multiplier": 2**31 - 1, "shift": min(31, op.integer("shift") + 24)}
            op = dataclasses.replace(op, attrs=attrs)
        ops.append(op)
    return dataclasses.replace(program, ops=tuple(ops))


class _Counting(memory_reference.Reference):
    """The reference, with what each op's saturation changed."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.count: Counter[str] = Counter()
        self.clipped: Counter[str] = Counter()

    def _op(self, op: Op, token: int, part: int, parts: int) -> None:
        plain = memory_reference.sat

        def counting(x: int, dtype: str) -> int:
            self.count[op.out] += 1
            self.clipped[op.out] += plain(x, dtype) != x
            return plain(x, dtype)

        memory_reference.sat = counting
        try:
            super()._op(op, token, part, parts)
        finally:
            memory_reference.sat = plain


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    "make",
    [random_program, lambda rng: _multiplied(random_program(rng)), random_mmfree],
    ids=["plain", "multiplier", "imported"],
)
def test_nothing_relaxed_is_the_program(seed: int, make: Any) -> None:
    rng = np.random.default_rng(seed)
    program = make(rng)
    integer, real = NumpyExecutor(program), RealExecutor(program)
    state, twin = integer.open(5), real.open(5)
    for _ in range(30):
        tokens = rng.integers(program.vocab, size=5)
        np.testing.assert_array_equal(integer.step(state, tokens), real.step(twin, tokens))
        np.testing.assert_array_equal(state, twin)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_relaxed_is_the_program_with_its_memories(seed: int) -> None:
    """The rows, too: in real numbers a state has one place for each element."""
    rng = np.random.default_rng(seed)
    program = random_memory_program(rng)
    integer, real = NumpyExecutor(program), RealExecutor(program)
    state, twin = integer.open(3), real.open(3)
    for _ in range(8):
        tokens = rng.integers(program.vocab, size=3)
        np.testing.assert_array_equal(integer.step(state, tokens), real.step(twin, tokens))
        parts = [words.reshape(3, -1) for words in integer.state_dict(state).values()]
        np.testing.assert_array_equal(np.concatenate([twin[:, :0], *parts], axis=1), twin)


def test_relaxed_rows_neither_round_nor_saturate() -> None:
    """keep = 1: half of what was there stays; e = -100 (token 0) or 7."""
    ops = (
        Op("GATHER", "e", (), {"embed": "E", "shift": 8}),
        Op("TOKEN", "a"),
        Op("MEM_UPDATE", "write", ("a", "e"), {"memory": "M", "bits": 1, "keep": 1}),
        Op("MEM_READ", "acc", ("a",), {"rows": "M", "bits": 1, "shared": 0}),
        Op("REQUANT", "logits", ("acc",), {"shift": 0, "dtype": "i16"}),
    )
    embed, memory = np.array([[-100, 7], [7, -7]], np.int8), Memory(4, 2, "i8")
    program = Program("rows", 2, ops, {"E": embed}, {}, "logits", 0, memories={"M": memory})

    def last(relaxed: Any = (), coarse: Any = ()) -> list[float]:
        executor = RealExecutor(program, relaxed, coarse)
        state = executor.open()
        return [executor.step(state, [token])[0].tolist() for token in (0, 0, 0)][-1]

    assert last() == [2 * 127, 2 * -13]  # two heads: 100, 150 -> 127, 163 -> 127; -7, -11, -13
    assert last(["write", "logits"]) == [2 * 175, 2 * -12.25]
    assert last(coarse=["write"])[0] % 2 == 0
    assert pf.groups(program, by="op") == {"write": ["write"], "logits": ["logits"]}


def test_saturation_is_counted_in_every_run_and_in_rows() -> None:
    """Against the reference in plain Python, which has no saturation to look at: its results at the ends."""
    found = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        program = random_memory_program(rng)
        observer = pf.Observer(program)
        executor, reference = NumpyExecutor(program, observer.watch), _Counting(program)
        state = executor.open(1)
        for token in rng.integers(0, program.vocab, 6):
            trace: dict[str, Any] = {}
            executor.step(state, [token], trace)
            observer.see(trace)
            reference.step(int(token))
        values = {value.name: value for value in observer.values()}
        for op in program.ops:
            if op.kind in ("REQUANT", "ADD", "SUB", "MEM_UPDATE"):
                clipped, count = reference.clipped[op.out], reference.count[op.out]
                assert values[op.out].saturated == pytest.approx(clipped / count), op
                found += clipped
    assert found > 1000


def test_relaxed_ops_neither_round_nor_saturate() -> None:
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 8}),
        Op("REQUANT", "half", ("r",), {"shift": 1, "dtype": "i8"}),
        Op("ADD", "double", ("r", "r"), {"dtype": "i8"}),
        Op("ADD", "logits", ("half", "double"), {"dtype": "i16"}),
    )
    embed = np.array([[3, 100], [-3, -100]], np.int8)
    program = Program("tiny", 2, ops, {"E": embed}, {}, "logits", 0)
    logits = [
        RealExecutor(program, relaxed, coarse).step(np.zeros((2, 0)), [0, 1]).tolist()
        for relaxed, coarse in (((), ()), (("half", "double", "logits"), ()), ((), ("half",)))
    ]
    assert logits[0] == [[2 + 6, 50 + 127], [-1 - 6, -50 - 128]]
    assert logits[1] == [[1.5 + 6, 50 + 200], [-1.5 - 6, -50 - 200]]
    assert logits[2] == [[2 + 6, 50 + 127], [-2 - 6, -50 - 128]]  # even codes


def test_counts_are_those_of_the_trace() -> None:
    program = load(VECTORS / "lm-small.safetensors")
    rng = np.random.default_rng(0)
    executor, observer = NumpyExecutor(program), pf.Observer(program)
    state, traces = executor.open(3), []
    for _ in range(20):
        trace: dict[str, Any] = {}
        executor.step(state, rng.integers(program.vocab, size=3), trace)
        observer.see(trace)
        traces.append(trace)
    found = {value.name: value for value in observer.values()}
    assert list(found) == [op.out for op in program.ops if op.kind != "STORE"]
    for name, value in found.items():
        every = np.concatenate([trace[name] for trace in traces])
        assert (value.low, value.high) == (every.min(), every.max())
        assert value.zeros == pytest.approx((every == 0).mean())
        assert value.rms == pytest.approx(np.sqrt((every.astype(float) ** 2).mean()))
    for op in program.ops:
        every = {name: np.concatenate([trace[name] for trace in traces]) for name in op.ins if name in found}
        if op.kind == "REQUANT":
            wide = nu.rshift_round(every[op.ins[0]], op.integer("shift"))
            low, high = RANGES[op.text("dtype")]
            assert found[op.out].saturated == pytest.approx(((wide < low) | (wide > high)).mean())
        elif op.kind in ("TMATVEC", "TABLE", "GATHER", "LERP", "LOAD"):
            assert found.get(op.out, found["r.e"]).saturated == 0
    for table in observer.tables():
        source = next(op.ins[0] for op in program.ops if op.out == table.name)
        codes = np.concatenate([trace[source] for trace in traces])
        assert (table.low, table.high, table.entries) == (codes.min(), codes.max(), len(np.unique(codes)))
        assert table.ends == pytest.approx(np.isin(codes, (-128, 127)).mean())
    assert any(value.saturated > 0 for value in found.values())


def test_an_imported_program_has_a_profile() -> None:
    """Its own ops round by their integer rules; the costs are those of the others."""
    program = load(VECTORS / "mmfree-token.safetensors")
    tokens = np.random.default_rng(0).integers(program.vocab, size=60)
    parts = ev.cut(len(tokens), 4, 8)
    observer, base = pf.observe(program, tokens, parts)
    found = {value.name: value for value in observer.values()}
    assert found["0.n1.g"].saturated > 0
    assert found["0.i.m"].saturated == 0  # PEAK has no saturation to count
    assert pf.groups(program)["0"] == ["0.r1", "0.r2"]
    costs = [pf.cost(program, tokens, parts, base, name, ops) for name, ops in pf.groups(program).items()]
    assert any(cost.coarser != 0 for cost in costs)


def _saturating_layer(program: Program, layer: str) -> Program:
    """The same function with the output of one recurrence scaled up until most of it saturates."""
    change = {f"{layer}.o": -5, f"{layer}.o.res": 5}
    ops = tuple(
        dataclasses.replace(op, attrs=dict(op.attrs) | {"shift": op.integer("shift") + change[op.out]})
        if op.out in change
        else op
        for op in program.ops
    )
    return dataclasses.replace(program, ops=ops)


@pytest.mark.slow
def test_the_cost_points_at_a_layer_that_quantizes_badly() -> None:
    program = _saturating_layer(open_program("shakespeare-small"), "1")
    tokens = np.frombuffer(TEXT.read_bytes()[-1000:], np.uint8)
    parts = ev.cut(len(tokens), 32, 20)
    observer, base = pf.observe(program, tokens, parts)
    assert max(observer.values(), key=lambda value: value.saturated).name == "1.o"
    groups = {name: ops for name, ops in pf.groups(program).items() if name in "12"}
    costs = {name: pf.cost(program, tokens, parts, base, name, ops) for name, ops in groups.items()}
    assert costs["1"].nats > 3 * costs["1"].nats_error > 0
    assert costs["1"].nats > 3 * abs(costs["2"].nats)
    loss = ev.evaluate(NumpyExecutor(program), tokens, 32, 20)
    assert base.mean() == pytest.approx(loss.nats_per_token, abs=1e-12)
    alone = {name: pf.cost(program, tokens, parts, base, name, [name]).nats for name in ("1.o", "1.up")}
    assert alone["1.o"] > 3 * abs(alone["1.up"])


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, picture = tmp_path / "t.txt", tmp_path / "deep" / "p.png"
    text.write_bytes(TEXT.read_bytes()[:200])
    words = f"profile shakespeare-small --text {text} --limit 40 --out {picture} --json"
    assert main(words.split()) == 0
    data = json.loads(capsys.readouterr().out)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert data["tokens"] == 39
    assert [row["layer"] for row in data["layers"]] == ["r", "0", "1", "2", "n", "logits"]
    assert [row["group"] for row in data["costs"]] == ["0", "1", "2", "n", "logits"]
    assert sum(row["trits"] for row in data["layers"]) == open_program("shakespeare-small").trits
    assert all(sum(table["codes"]) > 0 for table in data["tables"])


def test_a_program_without_tables_or_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No dots in names, no products, no state: nothing of the language model's order is assumed."""
    rng = np.random.default_rng(1)
    ops = (
        Op("GATHER", "row", (), {"embed": "E", "shift": 4}),
        Op("REQUANT", "out", ("row",), {"shift": 2, "dtype": "i16"}),
    )
    embed = rng.integers(-128, 128, (256, 256)).astype(np.int8)
    program = Program("flat", 256, ops, {"E": embed}, {}, "out", 8, {"tokenizer": "bytes"})
    save(program, tmp_path / "flat.safetensors")
    words = ["profile", str(tmp_path / "flat.safetensors"), "--limit", "300", "--by", "op", "--values"]
    assert main([*words, "--out", str(tmp_path / "flat.svg")]) == 0
    assert "costliest ops" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--limit 1", "--limit is 1"),
        ("--out p.gif", "must end in .png"),
        ("--text nowhere", "cannot read"),
    ],
)
def test_mistakes_are_named(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["profile", "shakespeare-small", *words.split()]) == 2
    assert message in capsys.readouterr().err
