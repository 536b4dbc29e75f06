"""The cocotb benches on both simulators: components, and the whole engine against NumPy op by op."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.geometry import PRESETS
from ternac.errors import ToolMissing, UsageError
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.random_memory import random_memory_program
from ternac.sim.cocotb import runner
from ternac.sim.cocotb.benches import BENCHES, run_bench, run_engine, run_leaf, view_path
from ternac.sim.cocotb.gtkwave import ENGINE, VIEW, save_file, signals

SIMULATORS = ("verilator", "icarus")
SMALL = replace(
    PRESETS["tiny"], name="small", columns=2, lanes=4, chain=2, bank_depth=256, weight_depth=512,
    bias_depth=128, embed_depth=256, program_depth=512, logit_slots=8, x_depth=16, tables=2, norm_tables=1,
)  # fmt: skip


def _small_program(seed: int) -> Program:
    rng = np.random.default_rng(seed)
    d, m, vocab = (int(rng.integers(3, 10)) for _ in range(3))
    return random_program(rng, d, m, 1, vocab)


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("bench", sorted(BENCHES))
def test_leaf(bench: str, simulator: str) -> None:
    result = run_leaf(bench, simulator=simulator, seed=3)
    assert result.ok, result.failures()


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize("seed", range(2))
def test_engine_on_random_programs(seed: int, simulator: str) -> None:
    result = run_engine(_small_program(seed), SMALL, tokens=3, simulator=simulator, seed=seed)
    assert result.ok, result.failures()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_engine_tiny_preset(simulator: str) -> None:
    result = run_bench("engine", seed=2, tokens=3, say=lambda text: None, simulator=simulator)
    assert result.ok, result.failures()


@pytest.mark.slow
@pytest.mark.parametrize("simulator", SIMULATORS)
def test_engine_with_rows_on_a_random_program_with_memories(simulator: str) -> None:
    program = random_memory_program(np.random.default_rng(11), loop="", narrow=True)
    result = run_engine(program, PRESETS["tiny-rows"], tokens=3, simulator=simulator, seed=1)
    assert result.ok, result.failures()


@pytest.mark.icarus
def test_planted_difference_is_named() -> None:
    """The engine runs a program with one trit changed; the report names the op whose weights they are."""
    program = _small_program(5)
    trits = program.consts["0.Wc"].copy()
    trits[1] = np.where(trits[1] == 0, 1, -trits[1])
    changed = replace(program, consts={**program.consts, "0.Wc": trits})
    result = run_engine(changed, SMALL, tokens=2, reference=program, simulator="icarus")
    assert not result.ok
    found = json.loads((result.folder / "divergence.json").read_text())
    assert (found["token"], found["layer"], found["element"]) == (0, "0", 1)
    assert found["kind"] == "state" and found["name"].startswith("0.")
    assert "first divergence at token 0, layer 0" in result.failures()


@pytest.mark.icarus
def test_wrong_model_fails() -> None:
    """A bench must be able to fail: here it is told another pace than the design has."""
    bench = BENCHES["sampler"]
    told = bench.settings | {"pace": 4}
    result = runner.run(lambda: bench.build(bench.settings), bench.module, simulator="icarus", settings=told)
    assert not result.ok
    assert "cycles instead of" in result.failures()


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_waves_and_view(simulator: str) -> None:
    result = run_leaf("dot", simulator=simulator, waves=True, settings={"rounds": 5})
    assert result.ok, result.failures()
    view = view_path(result)
    assert result.waves is not None and view is not None
    assert result.waves.stat().st_size > 1000
    shown = [line for line in view.read_text().splitlines() if line.startswith("dut.")]
    assert "dut.clk" in shown and any(line.startswith("dut.acc[") for line in shown)
    if result.waves.suffix == ".vcd":
        text = result.waves.read_text()
        assert "$scope module dut" in text and " valid $end" in text


def test_saved_view_fits_the_engine(tmp_path: Path) -> None:
    """If this fails: python -m ternac.sim.cocotb.gtkwave."""
    from amaranth.back import verilog

    from ternac.hdl.engine.core import EngineCore

    text = str(verilog.convert(EngineCore(PRESETS["tiny"]), name=runner.TOP, emit_src=False))
    assert VIEW.read_text() == save_file(text, ENGINE)
    assert signals(text)["cycles"] == 32
    with pytest.raises(ValueError, match="no signal of the design fits 'nothing\\.like\\.it'"):
        save_file(text, [("x", "nothing.like.it")])


def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    bench = BENCHES["dot"]
    for simulator, message in (("icarus", "iverilog"), ("verilator", "needs make")):
        with pytest.raises(ToolMissing, match=message) as caught:
            runner.build(lambda: bench.build(bench.settings), simulator=simulator)
        assert caught.value.hint


def test_wrong_names_are_refused() -> None:
    with pytest.raises(UsageError, match="no bench is called 'nosuch'"):
        run_bench("nosuch", seed=1, tokens=1, say=lambda text: None)
    bench = BENCHES["dot"]
    with pytest.raises(UsageError, match="unknown simulator 'questa'"):
        runner.build(lambda: bench.build(bench.settings), simulator="questa")
