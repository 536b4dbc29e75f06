"""Memories and loops: the NumPy executors against a reference in plain Python, token by token."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.program.legality import infer
from ternac.program.loops import RUN_MARK, loops_of, unroll
from ternac.program.memory_ops import MEMORY_OPS
from ternac.program.ops import Memory, Op
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY
from ternac.run.sequence import SequenceExecutor
from tests.program.memory_toy import loop_program, memory_program
from tests.vectors.memory_reference import Reference


def agree(program: Program, rng: np.random.Generator, steps: int, loops: int | None = None) -> None:
    """Every value, its bounds and every word of two sessions' state; then the whole sequence at once."""
    bounds, executor = infer(program), NumpyExecutor(program)
    state, plain = executor.open(2), [Reference(program), Reference(program)]
    tokens, logits = rng.integers(0, program.vocab, (2, steps)), []
    for t in range(steps):
        trace: dict[str, Any] = {}
        logits.append(executor.step(state, tokens[:, t], trace, loops=loops))
        for row, one in enumerate(plain):
            assert one.step(int(tokens[row, t]), loops) == logits[-1][row].tolist()
            assert {name: values[row].tolist() for name, values in trace.items()} == one.values
            assert one.words() == state[row].tolist()
        for name, values in trace.items():
            assert bounds[name].low <= values.min() <= values.max() <= bounds[name].high, name
    many = SequenceExecutor(program, loops=loops)
    again = many.open(2)
    cut = steps // 2
    parts = [many.run(again, part) for part in (tokens[:, :cut], tokens[:, cut:]) if part.size]
    assert np.array_equal(np.concatenate(parts, axis=1), np.stack(logits, axis=1))
    assert np.array_equal(again, state)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_random_programs_equal_the_reference(seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_memory_program(rng)
    free = [loop.most for loop in loops_of(program.ops) if not loop.levels]
    loops = int(rng.integers(1, free[0] + 1)) if free and rng.random() < 0.5 else None
    agree(program, rng, 5, loops)


def test_random_programs_reach_every_case() -> None:
    """Every kind; one digit and two; memories of both types, constants shared and not; fading; both orders;
    loops of both sorts; and rows that saturate.
    """
    seen: Counter[Any] = Counter()
    for seed in range(80):
        program = random_memory_program(np.random.default_rng(seed))
        order: dict[Any, str] = {}
        for op in program.ops:
            seen[op.kind] += 1
            if op.kind == "MEM_READ":
                constant = op.attrs["rows"] in program.consts
                seen["constant" if constant else "memory", op.attrs["shared"], len(op.ins)] += 1
                order.setdefault(op.attrs["rows"], "read first")
            if op.kind == "MEM_UPDATE":
                seen["keep", op.integer("keep") > 0] += 1
                order.setdefault(op.attrs["memory"], "write first")
            if op.kind == "LOOP":
                seen["levels", op.attrs["levels"], len(op.ins) > 0, op.integer("times") > 1] += 1
        seen.update(order.values())
        seen.update(memory.dtype for memory in program.memories.values())
    cases = {kind.name for kind in MEMORY_OPS} | {"i8", "i16", "read first", "write first"}
    cases |= {("constant", shared, digits) for shared in (0, 1) for digits in (1, 2)}
    cases |= {("memory", 0, digits) for digits in (1, 2)} | {("keep", True), ("keep", False)}
    cases |= {("levels", levels, True, True) for levels in (0, 1)}
    assert cases <= set(seen)


def test_the_rows_of_random_programs_saturate_sometimes_and_not_mostly() -> None:
    ends = total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        program = random_memory_program(rng)
        executor = NumpyExecutor(program)
        state = executor.open(1)
        for _ in range(12):
            executor.step(state, rng.integers(0, program.vocab, 1))
        for name, memory in program.memories.items():
            rows, limits = (
                executor.state_dict(state)[name],
                np.iinfo(np.int8 if memory.dtype == "i8" else np.int16),
            )
            ends += int(np.isin(rows, (limits.min, limits.max)).sum())
            total += int(np.count_nonzero(rows))
    assert 0.01 * total < ends < 0.5 * total


def test_the_first_token_writes_the_first_row_of_each_head() -> None:
    """The address and the read of the last token are 0 when a session opens; the rule is no exception."""
    program = memory_program()
    executor, trace = NumpyExecutor(program), {}
    state = executor.open(1)
    executor.step(state, [3], trace)
    rows = executor.state_dict(state)["M"][0]
    expected = np.zeros((16, 6), int)
    expected[::4] = np.clip(-trace["e"][0], -128, 127)
    assert np.array_equal(rows, expected)
    assert trace["e"].any()


def test_a_row_written_once_is_read_back() -> None:
    """With t = 0 and the mean that was read there, the value itself is what is read."""
    ops = (
        Op("GATHER", "v16", (), {"embed": "V", "shift": 8}),
        Op("REQUANT", "v", ("v16",), {"shift": 0, "dtype": "i8"}),
        Op("GATHER16", "a", (), {"embed": "A"}),
        Op("MEM_READ", "was.acc", ("a",), {"rows": "M", "bits": 4, "shared": 0}),
        Op("REQUANT", "was", ("was.acc",), {"shift": 3, "dtype": "i16"}),
        Op("SUB", "e", ("was", "v"), {"dtype": "i16"}),
        Op("MEM_UPDATE", "write", ("a", "e"), {"memory": "M", "bits": 4, "keep": 0}),
        Op("MEM_READ", "o.acc", ("a",), {"rows": "M", "bits": 4, "shared": 0}),
        Op("REQUANT", "o", ("o.acc",), {"shift": 3, "dtype": "i16"}),
    )
    rng = np.random.default_rng(0)
    consts = {
        "V": rng.integers(-127, 128, (16, 16)).astype(np.int8),
        "A": rng.integers(-32768, 32768, (16, 8)).astype(np.int16),
    }
    program = Program("once", 16, ops, consts, {}, "o", 0, memories={"M": Memory(128, 16, "i16")})
    executor = NumpyExecutor(program)
    state = executor.open(1)
    for token in rng.integers(0, 16, 200):
        assert executor.step(state, [token])[0].tolist() == consts["V"][token].tolist()


@pytest.mark.parametrize("levels", [0, 1])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_loops_run_as_often_as_they_say(levels: int, times: int) -> None:
    agree(loop_program(levels, times), np.random.default_rng(times), 7)


@pytest.mark.parametrize("loops", [1, 2, 3, 4])
def test_a_request_may_ask_for_more_runs(loops: int) -> None:
    agree(loop_program(), np.random.default_rng(loops), 7, loops)


def test_runs_that_cannot_be_asked_for_are_refused_and_nothing_changes() -> None:
    for program, loops, reason in (
        (loop_program(), 5, r"loops is 5, loop runs 1\.\.4"),
        (loop_program(), 0, r"loops is 0, loop runs 1\.\.4"),
        (loop_program(), True, r"loops is True, loop runs 1\.\.4"),
        (loop_program(levels=1), 1, "no LOOP whose runs can be chosen"),
        (memory_program(), 1, "no LOOP whose runs can be chosen"),
    ):
        executor = NumpyExecutor(program)
        state = executor.open(1)
        for call in (
            lambda e=executor, s=state, n=loops: e.step(s, [1], loops=n),
            lambda e=executor, s=state, n=loops: e.feed(s, [1], [0], loops=n),
            lambda e=executor, s=state, n=loops: e.generate(s, [1], 1, GREEDY, [1], loops=n),
        ):
            with pytest.raises(UsageError, match=reason):
                call()
        assert not state.any()


def test_feed_and_generate_pass_the_runs_on() -> None:
    executor = NumpyExecutor(loop_program())
    one, two, three = executor.open(1), executor.open(1), executor.open(1)
    want = [executor.step(one, [token], loops=3)[0] for token in (1, 2, 5)]
    assert np.array_equal(executor.feed(two, [1, 2, 5], [0, 0, 0], loops=3), want)
    executor.generate(three, [1], 1, GREEDY, [1], loops=3)
    assert not np.array_equal(three, one)
    again = executor.open(1)
    executor.step(again, [1], loops=3)
    assert np.array_equal(again, three)


def straight(program: Program, loops: int | None) -> Program:
    """The unrolled program as a program without LOOP, with a state and a memory for every part."""
    states, memories, ops = {}, {}, []
    spans = program.state_slices() | program.memory_slices()
    for step in unroll(program, loops):
        op, attrs = step.op, dict(step.op.attrs)
        ins, out = [name.replace(RUN_MARK, "-run-") for name in op.ins], op.out.replace(RUN_MARK, "-run-")
        if step.state is not None:
            name = next(n for n, s in spans.items() if s.start <= step.state.start < s.stop)
            part = f"{name}-{step.state.start}"
            states[part] = step.state.start, step.state.stop - step.state.start
            ins, out = ([part], out) if op.kind == "LOAD" else (ins, part)
        if step.memory is not None:
            part = f"rows-{step.memory.start}"
            memories[part] = step.memory.start, step.memory.memory
            attrs["memory" if op.kind == "MEM_UPDATE" else "rows"] = part
        if op.kind == "MEM_UPDATE":
            out = f"{out}-{step.run}"
        ops.append(dataclasses.replace(op, ins=tuple(ins), out=out, attrs=attrs))
    return dataclasses.replace(
        program,
        ops=tuple(ops),
        states={name: length for name, (_, length) in sorted(states.items(), key=lambda item: item[1][0])},
        memories={
            name: memory for name, (_, memory) in sorted(memories.items(), key=lambda item: item[1][0])
        },
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_an_unrolled_program_computes_the_same(seed: int) -> None:
    """Its steps, written as a program without LOOP, give the same values and the same words of state."""
    rng = np.random.default_rng(seed)
    program = random_memory_program(rng, loop=str(rng.choice(["free", "levels"])))
    (loop,) = loops_of(program.ops)
    loops = None if loop.levels else int(rng.integers(1, loop.most + 1))
    twin = straight(program, loops)
    one, two = NumpyExecutor(program), NumpyExecutor(twin)
    state, other = one.open(2), two.open(2)
    assert state.shape == other.shape
    for _ in range(4):
        tokens, mine, theirs = rng.integers(0, program.vocab, 2), {}, {}
        one.step(state, tokens, mine, loops=loops)
        two.step(other, tokens, theirs)
        assert np.array_equal(state, other)
        assert all(np.array_equal(values, theirs[name]) for name, values in mine.items())


def test_a_step_says_what_of_the_session_it_touches() -> None:
    program = loop_program(levels=1, times=3)
    steps = unroll(program)
    assert [step.run for step in steps if step.op.kind == "MEM_READ"] == [0, 1, 2]
    starts = [
        (step.memory.start, step.memory.memory)
        for step in steps
        if step.memory and step.op.kind == "MEM_READ"
    ]
    assert starts == [(24 + 64 * run, Memory(8, 8, "i16")) for run in range(3)]
    assert [step.state for step in steps if step.op.kind == "STORE"] == [
        slice(8 * i, 8 * i + 8) for i in range(3)
    ]
    assert [step.op.out for step in steps if step.op.kind == "ADD"] == ["next@0", "next@1", "next", "logits"]
    assert [step.op.ins for step in steps if step.op.kind == "ADD"][1:] == [
        ("next@0", "o@1"), ("next@1", "o"), ("next", "r"),
    ]  # fmt: skip
    assert all(program.ops[step.index].kind == step.op.kind for step in steps)
