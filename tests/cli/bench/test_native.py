"""``ternac bench host``, small: its answer, how ratios are taken, what is left open and why."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ternac.cli.bench import host as bench_host
from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.host.native import bench as measuring
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import best_isa
from ternac.host.native.measure import Rounds, random_weights, rounds, shape_program
from ternac.program.mmfree import Shape
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.native.native_here import RUNNING, needs_native

pytestmark = needs_native
SMALL = Shape("370m", 64, 2, 80, vocab=300)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes and sizes that take no time."""
    monkeypatch.setattr(measuring, "SHAPES", {"cache": (64, 256), "dram": (128, 256)})
    monkeypatch.setattr(measuring, "DRAM_BYTES", 1 << 16)
    monkeypatch.setattr(measuring, "NUMPY_BYTES", 1 << 16)
    monkeypatch.setattr(bench_host, "SHAPES", {"370m": SMALL})


def test_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "host", "--size", "370m", "--rounds", "1", "--sessions", "5", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    kernels = {row["kernel"] for row in data["rows"]}
    assert {f"native {best_isa()} 2 bits", f"native {best_isa()} 1.6 bits", "numpy float32"} <= kernels
    assert {row["where"] for row in data["rows"]} == {"cache", "dram"}
    for row in data["rows"]:
        assert row["gmacs"] > 0
        assert row["origin"].startswith("measured on this host")
        assert set(row["ratio_to"]) == {"numpy", "memory_limit", "tq2_0", "tq1_0"}
        assert (row["ratio_to"]["memory_limit"] is None) == (row["kernel"] == "numpy float32")
        assert row["ratio_to"]["tq2_0"] is not None or "ggml" in row["why_null"]
    assert data["token"]["shipped_ratio_to_numpy"] > 1
    assert [size["bits_per_weight"] for size in data["geometries"]] == ["2", "1.6"]
    for size in data["geometries"]:
        assert size["sessions"] == 5
        assert size["trits"] == SMALL.trits
        assert 0 < size["fraction_of_products"] < 2


def test_ratio_is_the_median_of_the_rounds() -> None:
    found = Rounds({"a": [1.0, 2.0, 4.0], "b": [2.0, 8.0, 12.0]})
    assert found.ratio("a", "b") == 3.0
    assert found.typical("a") == 2.0


def test_candidates_take_turns() -> None:
    order: list[str] = []
    ticks = iter(range(1000))
    rounds(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 2, 0.0, clock=lambda: next(ticks)
    )
    assert order == ["a", "a", "b", "b", "a", "b", "a", "b"]


def test_random_weights_are_a_real_program() -> None:
    """The program with its packed weights unpacked gives the same tokens on NumPy."""
    for bits in ("2", "1.6"):
        program = shape_program(SMALL)
        weights = random_weights(program, best_isa(), bits)
        native = NativeExecutor(program, weights=weights)
        consts = {
            name: weights.get(name) if name in weights.shapes else a for name, a in program.consts.items()
        }
        assert {-1, 0, 1} == set(np.unique(consts["head"]).tolist())
        whole = Program(program.name, program.vocab, program.ops, consts, program.states, program.logits, 4)
        numpy = NumpyExecutor(whole)
        states = numpy.open(2), native.open(2)
        for tokens in ([0, 299], [7, 8], [7, 9]):
            logits = numpy.step(states[0], tokens)
            assert np.array_equal(logits, native.step(states[1], tokens))
            assert len(np.unique(logits)) > 50  # neither all saturated nor all zero


def test_packed_weights_of_another_program_are_refused() -> None:
    program = shape_program(SMALL)
    weights = random_weights(program, RUNNING[0], "2")
    other = shape_program(Shape("370m", 32, 2, 80, vocab=300))
    with pytest.raises(UsageError, match="another program"):
        NativeExecutor(other, isa=RUNNING[0], weights=weights)


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--rounds", "--threads", "--sessions"):
        assert main(["bench", "host", option, "0", "--json"]) == 2
        assert "needs at least 1" in json.loads(capsys.readouterr().out)["error"]["message"]
    bad = tmp_path / "libggml-cpu.so"
    bad.write_bytes(b"no library")
    with pytest.raises(UsageError, match="is not ggml's CPU library"):
        measuring.find_ggml(str(bad))


def test_shipped_model_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """A native executor that chooses other tokens stops the measurement."""
    from ternac.errors import Mismatch
    from ternac.program.random import random_program

    program = random_program(np.random.default_rng(1), vocab=40)

    def wrong(self: NativeExecutor, *arguments: object) -> object:
        return np.zeros((1, measuring.TOKENS), np.int32) - 1, [1]

    monkeypatch.setattr(NativeExecutor, "generate", wrong)
    with pytest.raises(Mismatch, match="different tokens"):
        measuring.bench_shipped(program, 1)
