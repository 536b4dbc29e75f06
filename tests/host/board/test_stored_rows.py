"""What is special of memories in SDRAM on the simulated board; the rest is in test_rows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ternac.compile.geometry import Mem
from ternac.compile.row_store import row_addresses
from ternac.host.verify import BoardRunner
from ternac.link import HALF_BLOCK, READ_ROWS
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY
from ternac.sim.verify import ExecutorRunner, verify
from tests.host.board.test_rows import STORED, board, ids, memory_program


def test_only_rows_that_are_not_zero_travel() -> None:
    program = memory_program(1, "")
    with board(program, STORED) as device:
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
    with board(program, STORED) as device:
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
