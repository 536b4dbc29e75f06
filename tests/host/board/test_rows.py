"""Memories on the simulated board: the real RTL behind the driver, against NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.host.device import Device
from ternac.host.verify import BoardRunner, several
from ternac.link import READ_ROWS
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, seed_state
from ternac.sim.verify import ExecutorRunner, rows_due, verify

GEOMETRY = "tiny-rows"


def memory_program(seed: int, loop: str) -> Program:
    return random_memory_program(np.random.default_rng(seed), loop=loop, narrow=True)


def board(program: Program) -> Device:
    return Device.open("sim", program, board=GEOMETRY, geometry=preset(GEOMETRY), progress=False)


@pytest.fixture(params=[(1, ""), (2, ""), (3, "free")], ids=["seed 1", "seed 2", "loop"])
def case(request: Any) -> Iterator[tuple[Program, Device]]:
    program = memory_program(*request.param)
    with board(program) as device:
        yield program, device


def ids(program: Program, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(9).integers(0, program.vocab, count)]


def test_tokens_states_rows_and_cycles_equal_numpy(case: tuple[Program, Device]) -> None:
    program, device = case
    runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "rtl")]
    assert not verify(program, runners, ids(program, 8), lambda done: None)


def test_sessions_at_the_same_time_keep_their_rows_apart(case: tuple[Program, Device]) -> None:
    program, device = case
    assert not several(program, BoardRunner(device, "rtl"), 4, ids(program, 6))


def test_a_session_finds_zero_rows_where_another_one_was() -> None:
    """More sessions than slots, one after the other and closed: each begins like the first."""
    program = memory_program(1, "")
    with board(program) as device:
        found = []
        for _ in range(2 * device.board.image.sessions + 1):
            session = device.board.open()
            found.append(device.board.run(session, Run(ids(program, 5), 3, GREEDY, 1)))
            device.board.release(session)
        assert all(one == found[0] for one in found)


def test_a_session_moves_between_board_and_numpy_in_mid_text() -> None:
    program, executor = memory_program(2, ""), NumpyExecutor(memory_program(2, ""))
    tokens, rng = ids(program, 6), seed_state(1)
    whole = executor.open()
    logits = [executor.step(whole, [token])[0] for token in tokens]
    with board(program) as device:
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
        client, honest, blocks = device.board.client, device.board.client.read, []

        def planted(block: int, address: int, count: int) -> Any:
            blocks.append(block)
            return honest(block, address, count) ^ (block == READ_ROWS + 1)

        client.read = planted  # type: ignore[method-assign]
        runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "rtl")]
        found = verify(program, runners, ids(program, 4), lambda done: None)
    assert found and found[0].kind == "state" and found[0].token == 0
    assert max(blocks) >= READ_ROWS


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
