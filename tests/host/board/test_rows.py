"""Memories on the simulated board: the real RTL behind the driver, against NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.compile.moves import is_move
from ternac.host.board.loop_counts import LoopCounts
from ternac.host.device import Device
from ternac.host.verify import BoardRunner, several, verify_texts
from ternac.link import READ_ROWS
from ternac.model.memory.system import open_system
from ternac.program.loops import most_loops
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, seed_state
from ternac.sim.verify import ExecutorRunner, rows_due, verify

ROWS, STORED = "tiny-rows", "tiny-rows-sdram"
"""Engines with rows in block RAM, and in an SDRAM."""
CASES = [
    *((ROWS, seed, loop) for seed, loop in ((1, ""), (2, ""), (3, "free"))),
    *((STORED, seed, loop) for seed, loop in ((1, ""), (5, ""), (2, "free"), (5, "levels"))),
]


def memory_program(seed: int, loop: str) -> Program:
    return random_memory_program(np.random.default_rng(seed), loop=loop, narrow=True)


def board(program: Program, geometry: str = ROWS) -> Device:
    return Device.open("sim", program, board=geometry, geometry=preset(geometry), progress=False)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]} seed {case[1]} {case[2]}".strip())
def case(request: Any) -> Iterator[tuple[Program, Device]]:
    geometry, *which = request.param
    program = memory_program(*which)
    with board(program, geometry) as device:
        assert any(is_move(inst) for inst in device.board.image.instructions) == (geometry == STORED)
        yield program, device


def ids(program: Program, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(9).integers(0, program.vocab, count)]


def test_tokens_states_rows_and_cycles_equal_numpy(case: tuple[Program, Device]) -> None:
    program, device = case
    runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "rtl")]
    assert not verify(program, runners, ids(program, 8), lambda done: None)


def test_sessions_at_the_same_time_keep_their_rows_apart(case: tuple[Program, Device]) -> None:
    program, device = case
    assert not several(program, BoardRunner(device, "rtl"), 4, ids(program, 8))


@pytest.mark.parametrize("geometry", [ROWS, STORED])
def test_a_session_finds_zero_rows_where_another_one_was(geometry: str) -> None:
    """More sessions than slots, one after the other and closed: each begins like the first."""
    program = memory_program(1, "")
    with board(program, geometry) as device:
        found = []
        for _ in range(2 * device.board.image.sessions + 1):
            session = device.board.open()
            found.append(device.board.run(session, Run(ids(program, 5), 3, GREEDY, 1)))
            device.board.release(session)
        assert all(one == found[0] for one in found)


@pytest.mark.parametrize(("geometry", "seed"), [(ROWS, 2), (STORED, 5)])
def test_a_session_moves_between_board_and_numpy_in_mid_text(geometry: str, seed: int) -> None:
    program, executor = memory_program(seed, ""), NumpyExecutor(memory_program(seed, ""))
    tokens, rng = ids(program, 6), seed_state(1)
    whole = executor.open()
    logits = [executor.step(whole, [token])[0] for token in tokens]
    with board(program, geometry) as device:
        session = device.board.open()
        device.board.run(session, Run(tokens[:3], 1, GREEDY, rng))
        moved = device.board.get_state(session)[None].copy()
        for at in (3, 4):
            assert np.array_equal(executor.step(moved, [tokens[at]])[0], logits[at])
        device.board.release(session)
        session = device.board.open()
        device.board.set_state(session, moved[0])
        device.board.run(session, Run(tokens[5:], 1, GREEDY, rng))
        assert np.array_equal(device.board.read_vector(device.board.image.logits), logits[5])
        assert np.array_equal(device.board.get_state(session), whole[0])


def test_a_sum_goes_on_bit_for_bit_as_it_moves_between_board_and_numpy() -> None:
    """The shipped abacus in mid-task, by snapshots; and a session opened where it was has zero rows."""
    system = open_system("abacus")
    program = system.shipped("abacus")
    case = min(system.cases("abacus", program), key=lambda case: len(case.tokens))
    tokens, third = case.tokens.tolist(), len(case.tokens) // 3
    with Device.open("numpy", program) as numpy, board(program) as device:
        with numpy.session() as whole:
            want = [whole.step(token) for token in tokens]
            end = whole.snapshot()
        moved, got = b"", []
        for place, part in ((device, 0), (numpy, 1), (device, 2)):
            with place.session() as session:
                assert not session.state.any()
                if moved:
                    session.restore(moved)
                last = len(tokens) if part == 2 else third * (part + 1)
                got += [session.step(token) for token in tokens[third * part : last]]
                moved = session.snapshot()
                assert session.state[program.memory_slices()[next(iter(program.memories))]].any()
        assert np.array_equal(got, want) and moved == end
        assert len(case.answers) == sum(
            int(got[at].argmax()) == answer for at, answer in zip(case.asked, case.answers, strict=True)
        )
        with device.session() as fresh:
            fresh.step(tokens[0])
            with numpy.session() as same:
                same.step(tokens[0])
                assert fresh.snapshot() == same.snapshot() != end


def test_texts_with_loops_of_their_own_equal_numpy_and_a_wrong_count_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Cycles too."""
    program = memory_program(3, "free")
    texts = [(ids(program, 5), loops) for loops in (None, 1, most_loops(program))]
    row = verify_texts(program, "rtl", preset(ROWS), texts, lambda done: None)
    assert not row["mismatches"] and row["cycles"] > 0
    assert row["loops"] == sorted({1, most_loops(program)})
    monkeypatch.setattr(LoopCounts, "set", lambda self, loops: None)
    assert verify_texts(program, "rtl", preset(ROWS), texts, lambda done: None)["mismatches"] >= 1


def test_a_session_runs_the_loops_of_its_request_on_the_engine() -> None:
    program = memory_program(3, "free")
    with Device.open("numpy", program) as numpy, board(program) as device:
        with numpy.session() as one, device.session() as other:
            for loops in (most_loops(program), None, 1):
                tokens = [list(session.tokens([1], 3, loops=loops)) for session in (one, other)]
                assert tokens[0] == tokens[1] and one.snapshot() == other.snapshot()


def test_large_memories_are_compared_now_and_then_and_small_ones_always() -> None:
    program = memory_program(1, "")
    assert all(rows_due(program, index, 200) for index in range(200))
    (name, memory), *_ = program.memories.items()
    large = replace(program, memories={name: replace(memory, rows=1 << 14)})
    assert [index for index in range(200) if rows_due(large, index, 200)] == [0, 64, 128, 192, 199]


def test_a_wrong_row_is_found_where_rows_are_compared_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ternac.sim.verify.SMALL_ROWS", 0)
    program = memory_program(1, "")
    with board(program) as device:
        runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "rtl")]
        assert not verify(program, runners, ids(program, 5), lambda done: None)
        client, honest, first = device.board.client, device.board.client.read, device.board.meter.steps + 1
        read: set[int] = set()

        def planted(block: int, address: int, count: int) -> Any:
            token = device.board.meter.steps - first
            read.update([token] if block >= READ_ROWS else [])
            return honest(block, address, count) ^ (token > 0 and block == READ_ROWS + 1)

        client.read = planted  # type: ignore[method-assign]
        runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "rtl")]
        found = verify(program, runners, ids(program, 4), lambda done: None)
    assert found and found[0].kind == "state" and found[0].token == 3
    assert read == {-1, 0, 3}  # -1: the answer that the rows of a new session are cleared


def test_a_row_that_is_wrong_on_the_board_is_named() -> None:
    program = memory_program(1, "")
    with board(program) as device:
        runner = BoardRunner(device, "rtl")
        client, honest = device.board.client, device.board.client.read

        def planted(block: int, address: int, count: int) -> Any:
            return honest(block, address, count) ^ (block == READ_ROWS + 1)

        client.read = planted  # type: ignore[method-assign]
        found = verify(
            program, [ExecutorRunner(NumpyExecutor(program)), runner], ids(program, 4), lambda n: None
        )
    assert found and found[0].kind == "state" and "MEM_UPDATE" in found[0].op
