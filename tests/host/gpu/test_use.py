"""The GPU executor where users meet it, and where there is no GPU."""

from __future__ import annotations

import importlib
import json
from typing import Any

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.errors import Mismatch, ToolMissing, UsageError
from ternac.host.device import Device
from ternac.host.executors import open_executor
from ternac.host.gpu import where
from ternac.program.mmfree import Shape
from ternac.program.random import random_mmfree, random_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, seed_state
from ternac.sim.verify import ExecutorRunner, verify
from tests.host.boards import runs
from tests.host.gpu.gpu_here import needs_gpu, needs_torch

no_cuda = pytest.mark.skipif(not where.why_missing(), reason="there is a GPU here")


@no_cuda
def test_without_a_gpu_the_reason_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """Every way to ask for it is a typed error with reason and cure; nothing else runs instead."""
    program = random_program(np.random.default_rng(1))
    for ask in (lambda: open_executor("gpu", program), lambda: Device.open("gpu", program)):
        with pytest.raises(ToolMissing, match=r"the GPU executor \(cuda\) cannot run here: t") as caught:
            ask()
        assert "gpu:cpu" in caught.value.hint
    for words in (
        ["run", "--device", "gpu", "--tokens", "1"],
        ["eval", "--executor", "gpu"],
        ["verify", "--executors", "numpy,gpu"],
        ["bench", "gpu"],
    ):
        assert main([*words, "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "ToolMissing"
        assert "GPU executor (cuda) cannot run here" in error["message"]


def test_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="unknown place 'moon'"):
        open_executor("gpu:moon", random_program(np.random.default_rng(1)))
    find = importlib.util.find_spec
    for missing in ("torch", "triton"):
        monkeypatch.setattr(
            importlib.util, "find_spec", lambda name, m=missing: None if name == m else find(name)
        )
        assert where.why_missing("cpu") == ("torch is not installed" if missing == "torch" else "")
        assert where.why_missing("interpret") == f"{missing} is not installed"


def test_wrong_arguments_of_the_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    for option in ("--sessions", "--prompt", "--rounds"):
        assert main(["bench", "gpu", option, "0", "--json"]) == 2
        assert "needs at least 1" in json.loads(capsys.readouterr().out)["error"]["message"]


@needs_torch
def test_sessions_move_between_numpy_and_gpu() -> None:
    """A session goes on elsewhere from its snapshot; together the tokens are those of one executor."""
    for program in (
        random_program(np.random.default_rng(1), vocab=40),
        random_mmfree(np.random.default_rng(2)),
    ):
        sampling = Sampling.from_temperature(0.9, program.logit_scale_bits, 5)
        prompt = [token % program.vocab for token in (3, 1, 4, 1, 5)]
        with Device.open("numpy", program) as numpy, Device.open("gpu:cpu", program) as gpu:
            with numpy.session(7) as stays:
                wanted = list(stays.tokens(prompt, 60, sampling))
                end = stays.snapshot()
            found: list[int] = []
            snapshot = None
            for device, count in ((numpy, 10), (gpu, 41), (numpy, 9)):
                with device.session(7) as session:
                    if snapshot is not None:
                        session.restore(snapshot)
                    found += session.tokens([] if snapshot else prompt, count, sampling)
                    snapshot = session.snapshot()
            assert found == wanted
            assert snapshot == end
            assert "no GPU ran" in gpu.speed().origin


@needs_torch
def test_many_sessions_together() -> None:
    program = random_program(np.random.default_rng(3), vocab=50)
    sampling = Sampling.from_temperature(0.8, program.logit_scale_bits, 0)
    with Device.open("gpu:cpu", program) as device:
        backend = device.backend
        sessions = [backend.open() for _ in range(20)]
        rngs = [seed_state(i) for i in range(20)]
        first = [i % program.vocab for i in range(20)]
        together = backend.run_together(sessions, runs(first, 5, sampling, rngs))
        for i in (0, 1, 19):
            alone = backend.open()
            assert backend.run(alone, Run([first[i]], 5, sampling, rngs[i])) == together[i]
            assert np.array_equal(backend.get_state(alone), backend.get_state(sessions[i]))
        with pytest.raises(UsageError, match="different ones"):
            backend.run_together([sessions[0]] * 2, runs([0, 0], 1, sampling, [1, 1]))


@needs_torch
def test_verify_finds_a_wrong_trit(capsys: pytest.CaptureFixture[str]) -> None:
    """Equal as it is; with one packed trit changed the first wrong op is named."""
    program = random_program(np.random.default_rng(4), d=24, m=40, layers=2, vocab=30)
    parts = [ExecutorRunner(open_executor(name, program), name) for name in ("numpy", "gpu:cpu")]
    assert verify(program, parts, list(range(8)), lambda done: None) == []
    broken = open_executor("gpu:cpu", program)
    broken.weights.words_of("1.Wup")[0, 0] ^= 1
    reference = ExecutorRunner(NumpyExecutor(program))
    (found,) = verify(program, [reference, ExecutorRunner(broken)], range(8), lambda done: None)
    assert "1.up.acc" in str(found)
    words = ["verify", "shakespeare-small", "--executors", "numpy,gpu:cpu", "--tokens", "5", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["mismatches"] == 0


@needs_torch
def test_eval_has_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    losses = []
    for name in ("numpy", "gpu:cpu"):
        assert main(["eval", "--limit", "200", "--executor", name, "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out)["nats_per_token"])
    assert losses[0] == losses[1]


SMALL = Shape("370m", 32, 2, 48, vocab=64)


@needs_torch
def test_rows_of_the_benchmark() -> None:
    """Its parts, small, on the CPU: what is counted, against what it is held, where numbers come from."""
    bench = importlib.import_module("ternac.host.gpu.bench")
    data = bench.measure(SMALL, "cpu", 10, 12, 1, lambda text: None)
    rows = {row["kernel"]: row for row in data["rows"]}
    assert set(rows) == {"decode", "decode, 10 sessions", "prompt, 12 tokens", "bf16 decode", "bf16 prompt"}
    for row in rows.values():
        assert row["tokens_per_second"] > 0
        assert "says nothing about a GPU" in row["origin"]
    assert rows["decode"]["weight_bytes"] == SMALL.trits / 4
    assert rows["bf16 decode"]["weight_bytes"] == SMALL.trits * 2
    assert rows["decode"]["share_of_bandwidth"] is not None and rows["decode"]["ratio_to"]["bf16"] > 0
    assert rows["prompt, 12 tokens"]["tops"] is not None and rows["prompt, 12 tokens"]["ratio_to"]["bf16"] > 0
    assert rows["decode, 10 sessions"]["bytes_moved_per_token"] < rows["decode"]["bytes_moved_per_token"]


@needs_torch
def test_counts_are_those_of_the_geometry() -> None:
    """2.7B: trits, bytes at 2 bits, what filling and values add, what a prompt leaves out."""
    bench, plan = (importlib.import_module(f"ternac.host.gpu.{name}") for name in ("bench", "plan"))
    weights = importlib.import_module("ternac.host.gpu.weights")
    measure = importlib.import_module("ternac.host.native.measure")
    shape = Shape("2.7b", 2560, 2, 6912)
    program = measure.shape_program(shape)
    places = weights.Weights({}, "cpu")
    for name, role in program.roles().items():
        if role == "trits":
            places.places[name] = weights.Place(*program.consts[name].shape, 0)
    found = bench.count_plan(program, plan.make_plan(program), places)
    assert found.macs == shape.trits
    assert found.weights == found.packed == shape.trits // 4  # no filling: all sides are multiples of 16
    assert shape.trits - found.prompt_macs == shape.vocab * 2560 + 3 * 6912 * 2560 + 2560 * 2560
    assert 0 < found.values < found.packed // 50


@needs_torch
def test_the_benchmark_refuses_other_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompt and decode must agree before anything is measured."""
    bench = importlib.import_module("ternac.host.gpu.bench")
    executor = importlib.import_module("ternac.host.gpu.executor").GpuExecutor
    feed = executor.feed

    def wrong(self: Any, *arguments: Any) -> Any:
        return feed(self, *arguments) ^ 1

    monkeypatch.setattr(executor, "feed", wrong)
    with pytest.raises(Mismatch, match="prompt gives other bits"):
        bench.measure(SMALL, "cpu", 2, 3, 1, lambda text: None)


@needs_gpu
def test_the_benchmark_on_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "gpu", "--size", "370m", "--rounds", "3", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert all(row["origin"].startswith("measured on") for row in data["rows"])
