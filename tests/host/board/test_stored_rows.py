"""Memories in SDRAM on the simulated board: real RTL, a memory that knows its data sheet, against NumPy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import Mem, preset
from ternac.compile.moves import is_move
from ternac.compile.row_store import row_addresses
from ternac.host.device import Device
from ternac.host.verify import BoardRunner, several
from ternac.link import HALF_BLOCK, READ_ROWS
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, seed_state
from ternac.sim.verify import ExecutorRunner, verify

GEOMETRY = "tiny-rows-sdram"
CASES = [(1, ""), (5, ""), (2, "free"), (5, "levels")]


def memory_program(seed: int, loop: str) -> Program:
    return random_memory_program(np.random.default_rng(seed), loop=loop, narrow=True)


def board(program: Program) -> Device:
    return Device.open("sim", program, board=GEOMETRY, geometry=preset(GEOMETRY), progress=False)


@pytest.fixture(params=CASES, ids=lambda case: f"seed {case[0]} {case[1]}")
def case(request: Any) -> Iterator[tuple[Program, Device]]:
    program = memory_program(*request.param)
    with board(program) as device:
        assert any(is_move(inst) for inst in device.board.image.instructions)
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


def test_a_session_finds_zero_rows_where_another_one_was() -> None:
    program = memory_program(1, "")
    with board(program) as device:
        found = []
        for _ in range(2 * device.board.image.sessions + 1):
            session = device.board.open()
            found.append(device.board.run(session, Run(ids(program, 5), 3, GREEDY, 1)))
            device.board.release(session)
        assert all(one == found[0] for one in found)


def test_a_session_moves_between_board_and_numpy_in_mid_text() -> None:
    program, executor = memory_program(5, ""), NumpyExecutor(memory_program(5, ""))
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


def test_only_rows_that_are_not_zero_travel() -> None:
    program = memory_program(1, "")
    with board(program) as device:
        session = device.board.open()
        device.board.run(session, Run(ids(program, 2), 1, GREEDY, 1))
        counted: list[int] = []
        honest = device.board.client.read

        def counting(block: int, address: int, count: int) -> Any:
            counted.append(count if block >= READ_ROWS else 0)
            return honest(block, address, count)

        device.board.client.read = counting  # type: ignore[method-assign]
        state = device.board.get_state(session)
        all_rows = [
            state[part].reshape(program.memories[n].rows, -1) for n, part in program.memory_slices().items()
        ]
        filled = sum(rows.any(1).sum() * 8 for rows in all_rows)
        assert 0 < sum(counted) <= filled < sum(rows.size for rows in all_rows)


def test_a_row_that_is_wrong_in_the_sdram_is_named() -> None:
    program = memory_program(1, "")
    with board(program) as device:
        runner = BoardRunner(device, "rtl")
        image, client = device.board.image, device.board.client
        at = int(row_addresses(image.rows["0.rows"], 0)[0])
        assert at < 1 << 16
        plain = runner.step

        def planted(token: int, *rest: Any, **more: Any) -> Any:
            client.write(Mem.ROWS, HALF_BLOCK, 0, np.array([0]), 2)
            client.write(Mem.ROWS, at >> 16, at & 0xFFFF, np.array([0x0101]), 2)
            return plain(token, *rest, **more)

        runner.step = planted  # type: ignore[method-assign]
        found = verify(
            program, [ExecutorRunner(NumpyExecutor(program)), runner], ids(program, 4), lambda n: None
        )
    assert found and found[0].kind == "state" and "MEM_UPDATE" in found[0].op
