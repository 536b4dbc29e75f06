"""The plan of the GPU executor, in plain torch against NumPy: phases, memory, prompts, choices."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import IllegalProgram, UnsupportedOp, UsageError
from ternac.host.gpu.executor import GpuExecutor
from ternac.host.gpu.plan import Plan, make_plan
from ternac.host.gpu.weights import Weights, fill_random
from ternac.program.file import load as load_program
from ternac.program.ops import KINDS
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.zoo import open_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling
from tests.host.bad_input import refuses_bad_input
from tests.host.gpu.gpu_here import assert_generates, assert_same, extremes, needs_torch, product_program
from tests.host.native.native_here import Soup
from tests.program.toy import LEAK, leaky_program

pytestmark = needs_torch
VECTORS = Path(__file__).parents[2] / "vectors"
MAKERS = [random_program, random_mmfree, lambda rng: Soup(rng).program]


def _program(seed: int) -> Program:
    return MAKERS[seed % 3](np.random.default_rng(seed))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(1, 12))
def test_programs_of_every_kind(seed: int, batch: int) -> None:
    """Few rows by one plan, many by the other: logits and states."""
    program = _program(seed)
    assert_same(program, GpuExecutor(program, mode="cpu"), batch, 3, seed)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 20), st.integers(1, 40), st.integers(1, 7))
def test_prompts(seed: int, count: int, rows: int) -> None:
    """Many tokens of several sessions in one call, in pieces, logits of some."""
    program = _program(seed)
    executor, numpy = GpuExecutor(program, mode="cpu", rows=rows), NumpyExecutor(program)
    rng = np.random.default_rng(seed)
    tokens, slots, want = (
        rng.integers(0, program.vocab, count),
        rng.integers(0, 3, count),
        rng.random(count) < 0.3,
    )
    ours, theirs = executor.open(3), numpy.open(3)
    wanted = []
    for token, slot, flag in zip(tokens, slots, want, strict=True):
        logits = numpy.step(theirs[slot : slot + 1], [token])
        wanted += [logits[0]] if flag else []
    found = executor.feed(ours, tokens, slots, want)
    assert np.array_equal(found, np.array(wanted).reshape(-1, program.vocab))
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("temperature", "top_k"), [(0.0, 0), (0.7, 0), (1.3, 3)])
def test_generation(temperature: float, top_k: int) -> None:
    for seed in range(3):
        program = _program(seed)
        sampling = Sampling.from_temperature(temperature, program.logit_scale_bits, top_k)
        assert_generates(program, GpuExecutor(program, mode="cpu", rows=5), sampling, 7, 5)


@pytest.mark.parametrize("seed", range(3))
def test_trace_shows_every_value(seed: int) -> None:
    program = _program(seed)
    executor, numpy = GpuExecutor(program, mode="cpu"), NumpyExecutor(program)
    ours, theirs = {}, {}  # type: ignore[var-annotated]
    state, other = executor.open(2), numpy.open(2)
    for _ in range(2):
        numpy.step(other, [0, 1], theirs)
        executor.step(state, [0, 1], ours)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert np.array_equal(ours[name], value), name
    assert np.array_equal(state, other)


@pytest.mark.parametrize("name", ["lm-odd", "lm-small", "mmfree-fixed", "mmfree-token"])
def test_frozen_vectors(name: str) -> None:
    program = load_program(VECTORS / f"{name}.safetensors")
    data = json.loads((VECTORS / f"{name}.json").read_text())
    executor = GpuExecutor(program, mode="cpu")
    state = executor.open()
    found = executor.feed(state, data["tokens"], [0] * len(data["tokens"]))
    assert found.tolist() == data["logits"]
    assert state[0].tolist() == data["state"]


@pytest.mark.parametrize("name", ["shakespeare", "shakespeare-small", "prose"])
def test_shipped_models(name: str) -> None:
    program = open_program(name)
    assert_same(program, GpuExecutor(program, mode="cpu"), 2, 3, 1)
    assert_same(program, GpuExecutor(program, mode="cpu"), 12, 2, 2)


def test_a_layer_is_four_phases() -> None:
    """Of the language model and of the published models; the first norm and the head add one."""
    for make in (random_program, random_mmfree):
        program = make(np.random.default_rng(3), d=16, m=24, layers=3)
        plan = make_plan(program)
        assert len(plan.phases) == 4 * 3 + 1
        assert all(phase.products for phase in plan.phases)


def test_split_plan_keeps_products_apart_and_scans_the_states() -> None:
    program = random_program(np.random.default_rng(3), d=16, m=24, layers=3)
    plan = make_plan(program, split=True)
    assert all(len(phase.products) <= 1 and not (phase.products and phase.whole) for phase in plan.phases)
    scans = [phase for phase in plan.phases if phase.scan]
    assert [[op.kind for op in phase.own] for phase in scans] == [["LOAD", "LERP"]] * 3
    assert all(phase.alone for phase in scans)
    assert plan.loops == []
    tail = [op.out for phase in plan.phases if phase.tail for op in phase.ops()]
    assert {"2.o", "2.r2", "n", "logits"} <= set(tail)
    assert not {"1.r2", "2.c", "2.h"} & set(tail)


def test_states_that_cross_phases_go_token_by_token() -> None:
    """A state that a later phase writes closes a loop over tokens around both."""
    loops = [make_plan(Soup(np.random.default_rng(seed)).program, split=True).loops for seed in range(6)]
    assert any(loops)
    for ranges in loops:
        assert all(first <= last for first, last in ranges)
        assert all(a[1] < b[0] for a, b in zip(ranges, ranges[1:], strict=False))


def test_memory_is_used_again() -> None:
    sizes = [
        make_plan(random_program(np.random.default_rng(5), d=40, m=64, layers=layers)).places.row_bytes()
        for layers in (3, 12)
    ]
    assert sizes[0] == sizes[1]


def test_places_of_values_that_live_together_are_apart() -> None:
    for seed in range(12):
        for split in (False, True):
            plan = make_plan(_program(seed), split=split)
            last = {name: index for index, phase in enumerate(plan.phases) for name in phase.reads()}
            made = [(index, name) for index, phase in enumerate(plan.phases) for name in phase.outs]
            for first, a in made:
                for second, b in made:
                    if a != b and first <= second <= last.get(a, first) and _area(plan, a) == _area(plan, b):
                        assert _span(plan, a).isdisjoint(_span(plan, b)), (a, b)


def _area(plan: Plan, name: str) -> str:
    return plan.values[name].dtype


def _span(plan: Plan, name: str) -> set[int]:
    start = plan.places.offset[name]
    return set(range(start, start + plan.values[name].length))


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (4, 16), (5, 17), (33, 130), (2, 16384), (9, 65535)])
def test_packed_weights_come_back(shape: tuple[int, int]) -> None:
    _, matrix = extremes(*shape)
    packed = Weights({"other": (3, 3), "w": shape}, "cpu")
    packed.put("w", matrix)
    assert np.array_equal(packed.get("w").numpy(), matrix)
    place = packed.places["w"]
    assert place.nbytes == place.groups * place.words * 4
    assert place.nbytes <= (shape[0] + 3) * (shape[1] + 15) / 4
    with pytest.raises(UsageError, match="needs int8"):
        packed.put("w", matrix.T.astype(np.int16))


def test_random_weights_are_trits() -> None:
    packed = Weights({"w": (37, 61)}, "cpu")
    fill_random(packed, 1)
    assert set(np.unique(packed.get("w").numpy())) == {-1, 0, 1}


@pytest.mark.parametrize("columns", [1, 15, 100, 16384])
def test_products_at_their_limits(columns: int) -> None:
    x, matrix = extremes(7, columns)
    program = product_program(x, matrix)
    trace: dict[str, np.ndarray] = {}
    executor = GpuExecutor(program, mode="cpu")
    executor.step(executor.open(6), range(6), trace)
    assert np.array_equal(trace["acc"], x.astype(np.int64) @ matrix.T.astype(np.int64))


def test_bad_input_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    program = random_program(np.random.default_rng(6), vocab=9)
    executor = GpuExecutor(program, mode="cpu")
    state = executor.open(2)
    state[:] = 7
    refuses_bad_input(executor, state)
    with pytest.raises(UsageError, match="0 rows"):
        GpuExecutor(program, mode="cpu", rows=0)
    with pytest.raises(UsageError, match="capability 9"):
        GpuExecutor(program, mode="cpu", overlap=True)
    assert (state == 7).all()
    monkeypatch.setitem(KINDS, "LEAK", LEAK)
    with pytest.raises(UnsupportedOp, match=r"op 2 \(LEAK kept\): the GPU executor has no kernel for LEAK"):
        GpuExecutor(leaky_program(), mode="cpu")
    with pytest.raises(IllegalProgram):
        GpuExecutor(dataclasses.replace(program, logits="no.such"), mode="cpu")


def test_a_wrong_word_is_seen() -> None:
    """The comparison with NumPy fails when one packed word is changed."""
    program = random_program(np.random.default_rng(4), d=24, m=40, layers=2, vocab=30)
    executor = GpuExecutor(program, mode="cpu")
    executor.weights.words_of("1.Wup")[0, 0] ^= 3
    with pytest.raises(AssertionError):
        assert_same(program, executor, 3, 4, 1)
    assert executor.device == torch.device("cpu")
