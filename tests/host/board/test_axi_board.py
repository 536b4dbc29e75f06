"""The AXI block of an engine with rows, simulated: the link through its registers, and rows by their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.geometry import preset
from ternac.compile.layout import row_blocks
from ternac.errors import DeviceRefused, LostAnswer, NoAnswer, UsageError, WrongBitstream
from ternac.hdl.axi.registers import ID, MAP_VERSION, register
from ternac.host.board import axi
from ternac.host.board.axi import AxiRows, AxiTransport, MappedRegisters, SimulatedRegisters
from ternac.host.board.banks import Banks, LinkRows
from ternac.host.device import Device
from ternac.host.verify import BoardRunner
from ternac.link import CLEAR_WORDS, Choice, Command, Frame, RunRequest
from ternac.program.program import Program
from ternac.program.random_memory import random_memory_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY
from ternac.sim.axi_board import build_axi_board
from ternac.sim.verify import ExecutorRunner, verify

GEOMETRY = preset("tiny-rows")
ROWS_FAULT = next(each.low for each in register("FAULTS").fields if each.name == "ROWS")


def block(*options: str) -> SimulatedRegisters:
    return SimulatedRegisters([str(build_axi_board(GEOMETRY)), *options])


def opened(program: Program, registers: SimulatedRegisters) -> Device:
    line = AxiTransport(registers)
    return Device.open("sim", program, geometry=GEOMETRY, transport=line, progress=False)


@pytest.fixture(scope="module")
def program() -> Program:
    return random_memory_program(np.random.default_rng(1), loop="", narrow=True)


@pytest.fixture(scope="module")
def registers() -> Iterator[SimulatedRegisters]:
    found = block()
    yield found
    found.close()


@pytest.fixture(scope="module")
def device(program: Program, registers: SimulatedRegisters) -> Iterator[Device]:
    with opened(program, registers) as found:
        yield found


def ids(program: Program, count: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(9).integers(0, program.vocab, count)]


def test_tokens_states_rows_and_cycles_equal_numpy(program: Program, device: Device) -> None:
    runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "axi")]
    assert not verify(program, runners, ids(program, 6), lambda done: None)


def test_a_wrong_word_of_rows_is_named(
    program: Program, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = AxiRows.read
    monkeypatch.setattr(AxiRows, "read", lambda self, column, *at: honest(self, column, *at) ^ (column == 1))
    runners = [ExecutorRunner(NumpyExecutor(program)), BoardRunner(device, "axi")]
    found = verify(program, runners, ids(program, 4), lambda done: None)
    assert found and found[0].kind == "state" and "MEM_UPDATE" in found[0].op


def test_a_session_begins_with_zero_rows_where_another_one_was(program: Program, device: Device) -> None:
    found = []
    for _ in range(2 * device.board.image.sessions + 1):
        session = device.board.open()
        found.append(device.board.run(session, Run(ids(program, 5), 3, GREEDY, 1)))
        device.board.release(session)
    assert all(one == found[0] for one in found)


def test_registers_and_frames_see_the_same_rows(device: Device, registers: SimulatedRegisters) -> None:
    """Writes of any length leave what is around them, at the end of a column too."""
    own, link = AxiRows(registers), LinkRows(device.board.client)
    rng = np.random.default_rng(3)
    words = GEOMETRY.rows
    kept = rng.integers(0, 256, (GEOMETRY.columns, 64)).astype(np.uint32)
    for column in range(GEOMETRY.columns):
        link.write(column, words - 64, kept[column])
        link.write(column, 0, kept[column])
    for start, count in ((words - 60, 7), (words - 3, 3), (words - 41, 8), (2, 1), (words - 9, 0)):
        column, some = int(rng.integers(GEOMETRY.columns)), rng.integers(0, 256, count).astype(np.uint32)
        own.write(column, start, some)
        kept_at = kept.copy()
        low = start < 64
        kept_at[column, start % 64 : start % 64 + count] = some
        for each in range(GEOMETRY.columns):
            place = 0 if low else words - 64
            assert np.array_equal(own.read(each, place, 64), kept_at[each])
            assert np.array_equal(link.read(each, place, 64), kept_at[each])
            link.write(each, place, kept[each])
    own.clear(words - 64, 32)
    for column in range(GEOMETRY.columns):
        assert not link.read(column, words - 64, 32).any()
        assert np.array_equal(own.read(column, words - 32, 32), kept[column, 32:])
    own.clear(0, words)
    assert not any(
        own.read(column, at, 64).any() for column in range(GEOMETRY.columns) for at in (0, words - 64)
    )


def test_an_access_waits_for_a_run_and_a_second_one_is_refused(
    program: Program, device: Device, registers: SimulatedRegisters
) -> None:
    """Sent while tokens run, it sees the rows behind them: they are those of NumPy."""
    board, tokens = device.board, ids(program, 7)
    session = board.open()
    board.run(session, Run(tokens[:2], 1, GREEDY, 1))
    slot = board.slots[session].slot
    assert slot is not None
    base = board.image.session_base(slot)
    request = RunRequest(base, tuple(tokens[2:]), 0, Choice(True, 0, 0, 0), 1)
    sent = board.client.post(Command.RUN, request.encode(), len(tokens))
    name, symbol = next(iter(board.image.rows.items()))
    address, start = register("ROW_ADDRESS").offset, register("ROW_START").offset
    word = symbol.address + (base << board.image.row_shift)
    registers.write(address, word)
    registers.write(start, 0)
    assert registers.read(register("ROW_STATUS").offset) == 1
    assert not registers.read(register("STATUS").offset) & 1
    registers.write(address, 5)
    assert registers.read(register("FAULTS").offset) == 1 << ROWS_FAULT
    while registers.read(register("ROW_STATUS").offset):
        pass
    assert registers.read(address) == word + 4
    found = registers.read(register("ROW_DATA").offset)
    executor = NumpyExecutor(program)
    state = executor.open()
    for token in tokens:
        executor.step(state, [token])
    wanted = executor.state_dict(state)[name][0].reshape(symbol.rows, symbol.width)
    assert wanted[:4].any()
    words = row_blocks(wanted.astype(np.int8), GEOMETRY, symbol.step)[0, :4]
    assert [found >> 8 * part & 0xFF for part in range(4)] == words.tolist()
    assert board.client.collect(sent)


def test_places_beyond_the_rows_are_refused(registers: SimulatedRegisters) -> None:
    rows = AxiRows(registers)
    assert (rows.columns, rows.words) == (GEOMETRY.columns, GEOMETRY.rows)
    for column, start, count in ((4, 0, 1), (0, 4096, 1), (0, 4090, 7), (-1, 0, 1)):
        with pytest.raises(UsageError, match="there are no"):
            rows.read(column, start, count)
    with pytest.raises(UsageError, match="cannot be cleared"):
        rows.clear(0, CLEAR_WORDS + 1)
    with pytest.raises(DeviceRefused, match="no register at 0x7c"):
        registers.read(0x7C)


def test_a_block_that_is_gone_is_no_answer() -> None:
    gone = block("--cycles", "100")
    with pytest.raises(NoAnswer, match="ended with status 3: stopped after 100 cycles"):
        AxiRows(gone).read(0, 0, 200)
    gone.close()


class DeadRegisters:
    """A block that has the right registers and takes no byte."""

    name = "a dead block"

    def __init__(self) -> None:
        self.reads = 0

    def read(self, offset: int) -> int:
        self.reads += 1
        return {register("ID").offset: ID, register("VERSION").offset: MAP_VERSION}.get(offset, 0)

    def write(self, offset: int, value: int) -> None:
        """It does nothing."""

    def close(self) -> None:
        """Nothing is held."""


def test_a_block_that_takes_no_byte_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axi, "ROW_SECONDS", 0.05)
    dead = DeadRegisters()
    with pytest.raises(NoAnswer, match=r"a dead block: it takes no byte for 0\.05 s"):
        AxiTransport(dead).write(b"\xc0")
    assert dead.reads > 4


def test_a_line_opened_by_somebody_else_under_rows_is_noticed(
    program: Program, device: Device, registers: SimulatedRegisters
) -> None:
    """Rows are read and written by registers, which tell of no restart: a request of the link does. Here
    somebody else's HELLO stands for it.
    """
    board = device.board
    session = board.open()
    want = board.run(session, Run(ids(program, 5), 3, GREEDY, 1))
    entry = board.slots[session]
    assert entry.slot is not None
    state = board.get_state(session)
    line, base = AxiTransport(registers), board.image.session_base(entry.slot)
    line.write(Frame(Command.HELLO, 77).wire())
    assert line.read(1.0)
    with pytest.raises(LostAnswer, match="a late one came in between"):
        Banks(board.client, program, board.image).read_rows(next(iter(board.image.rows)), base)
    again = board.open()
    assert board.run(again, Run(ids(program, 5), 3, GREEDY, 1)) == want
    assert np.array_equal(board.get_state(session), state)


def test_mapped_registers_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "uio0"
    with pytest.raises(UsageError, match="cannot map the registers"):
        MappedRegisters(path)
    path.write_bytes(bytes(4096))
    mapped = MappedRegisters(path)
    with pytest.raises(WrongBitstream, match="register ID is 0x00000000"):
        AxiTransport(mapped)
    mapped.write(register("ID").offset, ID)
    with pytest.raises(WrongBitstream, match=f"version 0 of the register map, this host {MAP_VERSION}"):
        AxiTransport(mapped)
    mapped.write(register("VERSION").offset, MAP_VERSION)
    line = AxiTransport(mapped)
    assert line.rows is None
    assert mapped.read(register("ID").offset) == ID
    line.close()
