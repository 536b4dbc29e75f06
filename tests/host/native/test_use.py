"""The native executor where users meet it, and where it was not compiled."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ternac.cli import doctor
from ternac.cli.main import main
from ternac.errors import ToolMissing, UnsupportedOp, UsageError
from ternac.host.device import Device
from ternac.host.executors import open_executor, pick_auto
from ternac.host.native import build, library
from ternac.program.ops import KINDS
from ternac.program.random import random_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, seed_state
from ternac.sim.verify import ExecutorRunner, verify
from tests.host.boards import runs
from tests.host.native.native_here import RUNNING, needs_native
from tests.program.toy import LEAK, leaky_program


@pytest.fixture
def not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after an installation without a compiler."""

    def fail() -> Any:
        raise ModuleNotFoundError("no module", name="ternac.host.native._native")

    monkeypatch.setattr(library, "_module", fail)


@pytest.mark.usefixtures("not_compiled")
def test_without_the_c_part_nothing_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    """native: an error with the cure; auto: NumPy, and it says so; doctor names it."""
    with pytest.raises(ToolMissing, match="was not compiled") as caught:
        open_executor("native", random_program(np.random.default_rng(1)))
    assert "gcc" in caught.value.hint
    assert pick_auto()[0] == "numpy"
    with Device.open("auto") as device:
        assert device.kind == device.backend.name == "numpy"
    assert main(["run", "--device", "native", "--tokens", "1", "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "ToolMissing"
    assert main(["run", "--device", "auto", "--tokens", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["executor"] == "numpy"
    for words in (
        ["eval", "--executor", "native"],
        ["bench", "host"],
        ["verify", "--executors", "numpy,native"],
    ):
        assert main([*words, "--json"]) == 2
        assert "native executor is not here" in json.loads(capsys.readouterr().out)["error"]["message"]
    (finding,) = [one for one in doctor.examine() if one.name == "native kernels"]
    assert not finding.ok
    assert finding.need == "native"
    assert "gcc" in finding.how


def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise ImportError("undefined symbol: tn_open")

    monkeypatch.setattr(library, "_module", fail)
    with pytest.raises(ToolMissing, match="undefined symbol: tn_open"):
        library.load()


@needs_native
def test_doctor_says_which_instruction_set() -> None:
    (finding,) = [one for one in doctor.examine() if one.name == "native kernels"]
    assert finding.found == f"compiled, picks {library.best_isa()}"


def test_names() -> None:
    program = random_program(np.random.default_rng(1))
    for name in ("nativ", "numpy:avx2", "auto:1.6"):
        with pytest.raises(UsageError, match="unknown executor"):
            open_executor(name, program)
    with pytest.raises(UsageError, match="unknown executor"):
        Device.open("nativ", program)


@needs_native
def test_a_kind_without_a_kernel_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "LEAK", LEAK)
    with pytest.raises(UnsupportedOp, match=r"op 2 \(LEAK kept\): the native executor has no kernel"):
        open_executor("native", leaky_program())


@needs_native
def test_every_kind_has_a_kernel() -> None:
    assert {name: kernel.attrs for name, kernel in library.kernels().items()} == {
        name: tuple(kind.integers) for name, kind in KINDS.items() if not kind.structure
    }


def test_the_c_side_knows_the_kinds_as_they_are_declared() -> None:
    assert (build.HERE / "kinds.h").read_text() == build.kinds_header()


@needs_native
def test_sessions_move_between_numpy_and_native() -> None:
    """A text that changes executor twice, by snapshot, is the text of one that stays."""
    program = random_program(np.random.default_rng(2), vocab=40)
    sampling = Sampling.from_temperature(1.0, program.logit_scale_bits, 5)
    with Device.open("numpy", program) as numpy, Device.open("native", program) as native:
        with numpy.session(7) as stays:
            wanted = list(stays.tokens([3, 1, 4, 1, 5], 90, sampling))
            end = stays.snapshot()
        found: list[int] = []
        snapshot = None
        for device, count in ((numpy, 20), (native, 41), (numpy, 29)):
            with device.session(7) as session:
                if snapshot is not None:
                    session.restore(snapshot)
                found += session.tokens([] if snapshot else [3, 1, 4, 1, 5], count, sampling)
                snapshot = session.snapshot()
        assert found == wanted
        assert snapshot == end


@needs_native
def test_an_abandoned_stream_leaves_the_session_where_it_was() -> None:
    """The back end runs ahead of what is handed out; the session does not."""
    program = random_program(np.random.default_rng(2), vocab=40)
    found = []
    for kind in ("numpy", "native"):
        with Device.open(kind, program) as device, device.session(3) as session:
            stream = session.tokens([1, 2], 50)
            tokens = [next(stream) for _ in range(7)]
            found.append((tokens, session.snapshot(), session.step(3).tolist()))
    assert found[0] == found[1]


@needs_native
def test_many_sessions_together() -> None:
    program = random_program(np.random.default_rng(3), vocab=50)
    sampling = Sampling.from_temperature(0.8, program.logit_scale_bits, 0)
    with Device.open("native", program) as device:
        backend = device.backend
        sessions = [backend.open() for _ in range(backend.together)]
        rngs = [seed_state(i) for i in range(len(sessions))]
        first = [i % program.vocab for i in range(len(sessions))]
        together = backend.run_together(sessions, runs(first, 9, sampling, rngs))
        for i in (0, 1, len(sessions) - 1):
            alone = backend.open()
            assert backend.run(alone, Run([first[i]], 9, sampling, rngs[i])) == together[i]
            assert np.array_equal(backend.get_state(alone), backend.get_state(sessions[i]))
        with pytest.raises(UsageError, match="different ones"):
            backend.run_together([sessions[0]] * 2, runs([0, 0], 1, sampling, [1, 1]))
        backend.release(sessions[0])
        with pytest.raises(UsageError, match="closed"):
            backend.step(sessions[0], 0)
        assert device.speed().origin.startswith("native on this host (")


@needs_native
def test_verify_finds_a_wrong_trit(capsys: pytest.CaptureFixture[str]) -> None:
    """Equal as it is; with one packed trit changed the first wrong op is named."""
    program = random_program(np.random.default_rng(4), d=24, m=40, layers=2, vocab=30)
    names = ["numpy", *(f"native:{isa}:{bits}" for isa in RUNNING for bits in ("2", "1.6"))]
    parts = [ExecutorRunner(open_executor(name, program), name) for name in names]
    assert verify(program, parts, list(range(8)), lambda done: None) == []
    broken = open_executor("native:portable", program)
    packed = broken.weights.bytes_of("1.Wup")
    packed[0] = packed[0] + 1 if packed[0] & 3 == 0 else packed[0] - 1
    reference = ExecutorRunner(NumpyExecutor(program))
    (found,) = verify(program, [reference, ExecutorRunner(broken)], range(8), lambda done: None)
    assert "1.up.acc" in str(found)
    for part in parts:
        part.close()
    words = ["verify", "shakespeare-small", "--executors", "numpy,native", "--tokens", "5", "--json"]
    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["mismatches"] == 0
    assert data["origin"] == "run on this host"


@needs_native
def test_eval_has_the_same_loss(capsys: pytest.CaptureFixture[str]) -> None:
    losses = []
    for name in ("numpy", "native", "auto"):
        assert main(["eval", "--limit", "300", "--executor", name, "--json"]) == 0
        losses.append(json.loads(capsys.readouterr().out))
    assert len({loss["nats_per_token"] for loss in losses}) == 1
    assert [loss["executor"] for loss in losses] == ["numpy", "native", "native"]
