"""Programs with memories behind sessions and back ends, and on executors that do not run them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import preset
from ternac.errors import CheckpointError, UnsupportedOp
from ternac.host import local
from ternac.host.executors import open_executor, why_missing
from ternac.host.local import LocalBackend
from ternac.host.session import Session
from ternac.program.ops import MEMORY_KINDS, Op
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling
from tests.host.boards import runs
from tests.program.memory_toy import loop_program, memory_program
from tests.run.test_memory_state import large_program

PLAIN = random_program(np.random.default_rng(1), d=16, m=24, layers=1, vocab=9)


def with_kind(kind: str) -> Program:
    """A program that uses that kind of op and no other of memories."""
    last = len(PLAIN.ops)
    op, extra = {
        "WINNERS": (Op(kind, "x", ("r.e",), {"groups": 2}), {}),
        "SUB": (Op(kind, "x", ("r.e", "r.e"), {"dtype": "i8"}), {}),
        "MEM_READ": (
            Op(kind, "x", ("n",), {"rows": "rows", "bits": 2, "shared": 1}),
            {"rows": np.ones((4, 3), np.int8)},
        ),
        "TOKEN": (Op(kind, "x"), {}),
        "LOOP": (Op(kind, "x", (), {"first": last - 1, "length": 1, "times": 2, "most": 2, "levels": 0}), {}),
    }[kind]
    fields = {name: getattr(PLAIN, name) for name in ("states", "logits", "logit_scale_bits", "meta")}
    return Program("one", 9, (*PLAIN.ops, op), {**PLAIN.consts, **extra}, **fields)


PROGRAMS = {kind: with_kind(kind) for kind in MEMORY_KINDS if kind not in ("MASK", "MEM_UPDATE")}
PROGRAMS |= {"MEM_UPDATE": memory_program(), "LOOP of rows": loop_program()}


def lacking(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(bool(why_missing(name)), reason=f"{name}: {why_missing(name)}")


REFUSING: list[object] = [
    pytest.param(lambda p: open_executor("isa", p, geometry=preset("tiny")), id="isa"),
    pytest.param(lambda p: compile_program(p, preset("tiny"), fill=False), id="compiler"),
]


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name != "SUB"])
@pytest.mark.parametrize("make", REFUSING)
def test_an_engine_without_rows_refuses_by_name(make: Callable[[Program], object], name: str) -> None:
    with pytest.raises(UnsupportedOp, match=r"op \d+ \w+ '[\w.]+': tiny has no rows"):
        make(PROGRAMS[name])


@lacking("torch")
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("executor", ["gpu:cpu", "torch"])
def test_torch_runs_what_has_no_checkpoint_on_the_gpu_executor(
    executor: str, name: str, tmp_path: Path
) -> None:
    program = PROGRAMS[name]
    found, numpy = open_executor(executor, program, path=tmp_path / "p.safetensors"), NumpyExecutor(program)
    assert found.name == "gpu:cpu"
    states = numpy.open(2), found.open(2)
    for tokens in ([1, 0], [2, 3], [1, 1]):
        assert np.array_equal(numpy.step(states[0], tokens), found.step(states[1], tokens))
        assert np.array_equal(states[0], states[1])


@lacking("torch")
def test_torch_refuses_the_checkpoint_of_another_model(tmp_path: Path) -> None:
    """A checkpoint beside the program is what is meant: nothing else runs instead."""
    (tmp_path / "final.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError):
        open_executor("torch", PROGRAMS["MEM_UPDATE"], path=tmp_path / "p.safetensors")


def test_the_plain_program_is_refused_by_none() -> None:
    """The refusals above are of the op that was added."""
    open_executor("isa", PLAIN, geometry=preset("tiny"))
    compile_program(PLAIN, preset("tiny"), fill=False)


@lacking("torch")
def test_qonnx_export_refuses_by_name() -> None:
    pytest.importorskip("onnx")
    from ternac.model.export.qonnx import to_onnx

    for program in PROGRAMS.values():
        with pytest.raises(UnsupportedOp, match="QONNX export has no kernel for"):
            to_onnx(program)


# ---- sessions -----------------------------------------------------------------------------------------

DRAW = Sampling(False, 200, 4, 0)


def backend(program: Program | None = None) -> LocalBackend:
    return LocalBackend(NumpyExecutor(program or memory_program()))


def fed(tokens: list[int], program: Program | None = None) -> np.ndarray:
    """The state after ``tokens``, without a back end."""
    executor = NumpyExecutor(program or memory_program())
    state = executor.open(1)
    for token in tokens:
        executor.step(state, [token])
    return state[0]


@pytest.mark.parametrize("journal", [1, 4, 512])
def test_a_request_that_fails_has_not_happened(journal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Interrupted before and after every step of a prompt and of what is generated; then it goes on right."""
    monkeypatch.setattr(local, "JOURNAL", journal)
    for at in range(7):
        one = backend()
        session = one.open()
        chosen, _ = one.run(session, Run([3, 1, 4], 5, DRAW, 7))
        seen, real, calls = [3, 1, 4, *chosen[:-1]], one.executor.step, 0

        def step(*args: object, at: int = at, real: object = real, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            found = real(*args, **kwargs)  # type: ignore[operator]
            if calls > at:
                raise KeyboardInterrupt
            return found

        with monkeypatch.context() as patch:
            patch.setattr(one.executor, "step", step)
            with pytest.raises(KeyboardInterrupt):
                one.run(session, Run([2, 6, 5], 5, DRAW, 9))
        assert calls == at + 1
        point = one.recall(session)
        assert np.array_equal(one.get_state(session), fed(seen))
        again = backend()
        other = again.open()
        again.set_state(other, point.state)
        again.run(other, Run(list(point.tokens)))
        assert np.array_equal(again.get_state(other), fed(seen))
        assert one.run(session, Run([2], 5, DRAW, 9)) == again.run(other, Run([2], 5, DRAW, 9))


@pytest.mark.parametrize("journal", [1, 4, 512])
def test_a_stream_stands_where_its_tokens_lead(journal: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left after each number of tokens, with chunks of three."""
    monkeypatch.setattr(local, "JOURNAL", journal)
    for stop in range(1, 9):
        one = backend()
        one.chunk = 3
        session = one.open()
        stream = one.stream(session, Run([3, 1], 8, DRAW, 7))
        tokens = [next(stream) for _ in range(stop)]
        stream.close()
        assert np.array_equal(one.get_state(session), fed([3, 1, *tokens[:-1]])), stop
        one.step(session, tokens[-1])
        assert np.array_equal(one.get_state(session), fed([3, 1, *tokens])), stop


def test_sessions_that_run_together_are_those_that_run_alone() -> None:
    one, alone = backend(), backend()
    one.executor.rows = 3
    sessions = [one.open() for _ in range(3)]
    for k, session in enumerate(sessions):
        one.run(session, Run([1, 2, k]))
    together = one.run_together(sessions, runs([5, 6, 0], 6, DRAW, [3, 4, 5]))
    for k, found in enumerate(together):
        session = alone.open()
        alone.run(session, Run([1, 2, k]))
        assert alone.run(session, Run([(5, 6, 0)[k]], 6, DRAW, 3 + k)) == found
        assert np.array_equal(one.get_state(sessions[k]), alone.get_state(session))
        assert np.array_equal(fed(list(one.recall(sessions[k]).tokens)), alone.get_state(session))


def test_sessions_with_large_memories_run_one_after_the_other() -> None:
    one = backend(large_program(8192))
    one.executor.rows = 3
    assert (one.together, backend(large_program(1024)).together) == (1, 1)
    one = backend(large_program(256))
    one.executor.rows = 3
    assert one.together == 3


def test_a_session_is_saved_and_continued_elsewhere() -> None:
    first = Session(backend(), seed=4)
    begun = list(first.tokens([1, 2, 3], 5, DRAW))
    data = first.snapshot()
    want = list(first.tokens((), 7, DRAW))
    second = Session(backend(), seed=9)
    second.restore(data)
    assert list(second.tokens((), 7, DRAW)) == want
    assert np.array_equal(first.state, second.state)
    assert begun


def test_a_large_memory_is_not_copied_for_a_token() -> None:
    """8 MiB: what steps and runs of one session take beside it is small, until the journal is full."""
    program = large_program(8192)
    one = backend(program)
    session = one.open()
    one.step(session, 1)
    tracemalloc.start()
    for token in range(20):
        one.step(session, token)
    one.run(session, Run([1, 2, 3], 5, GREEDY, 1))
    for _ in one.stream(session, Run([4], 5, GREEDY, 1)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200_000


def test_a_thousand_sessions_with_memories_are_kept_apart() -> None:
    """64 KiB of rows each, all open at the same time, each fed tokens of its own."""
    program = large_program(64)
    one = backend(program)
    sessions = [one.open() for _ in range(1000)]
    for k, session in enumerate(sessions):
        one.run(session, Run([k % 32, k // 32]))
    for k in (0, 1, 499, 999):
        assert np.array_equal(one.get_state(sessions[k]), fed([k % 32, k // 32], program))
    for session in sessions[1:]:
        one.release(session)
    assert one.step(sessions[0], 3).shape == (32,)
