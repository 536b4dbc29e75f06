"""Memories in an SDRAM: compiled, and executed word for word, against the NumPy executor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Mem
from ternac.compile.isa import Opcode
from ternac.compile.machine import Machine
from ternac.compile.moves import is_move
from ternac.compile.place_stored import StoredRows
from ternac.compile.row_store import (
    BURST,
    CHIP,
    REFRESH,
    SECTOR_BURSTS,
    SECTORS,
    TIMES,
    MoveTime,
    StoredSymbol,
    burst_bits,
    check_clock,
    row_addresses,
    sectors,
)
from ternac.errors import DoesNotFit, IllegalProgram, UsageError
from ternac.hdl.boards.boards import VARIANTS
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.program.file import load
from ternac.program.random_memory import random_memory_program
from ternac.program.zoo import open_program
from ternac.run.numpy_executor import NumpyExecutor
from tests.compile.test_rows import ROOMY, addressed, agree

STORED = replace(ROOMY, name="stored", row_ram="sdram", rows=1024)
BOARD = PRESETS["ulx3s-85f-rows-sdram"]
SHIPPED = Path(__file__).parents[2] / "model/memory/shipped"


@pytest.mark.parametrize(
    ("loop", "seed"),
    [*(("", seed) for seed in (1, 5, 22, 30)), *(("free", seed) for seed in (2, 13, 29)),
     *(("levels", seed) for seed in (1, 13, 45))],
)  # fmt: skip
def test_random_programs_with_memories(loop: str, seed: int) -> None:
    program = random_memory_program(np.random.default_rng(seed), loop=loop, narrow=True)
    assert any(is_move(inst) for inst in agree(program, STORED, seed).instructions)


@pytest.mark.parametrize("columns", [2, 4, 12])
@pytest.mark.parametrize("width", [2, 8, 14, 40])
def test_rows_of_any_width_pass_any_even_number_of_columns(columns: int, width: int) -> None:
    geometry = replace(
        STORED, name="any", columns=columns, lanes=columns * 4, chain=2, logit_slots=150, rows=4096
    )
    agree(addressed(groups=6, size=5, width=width), geometry, width, tokens=30)


def test_a_row_is_fetched_before_it_changes_and_taken_back_after() -> None:
    image = compile_program(addressed(groups=4, size=4), STORED)
    kinds = [
        ("to SDRAM" if i.to_rows else "from SDRAM") if is_move(i) else "update" if i.to_rows else "read"
        for i in image.instructions
        if i.op in (Opcode.MOVE, Opcode.MEM)
    ]
    assert kinds == ["from SDRAM", "update", "to SDRAM", "from SDRAM", "read"]


@pytest.mark.parametrize(("rows", "width", "heads"), [(24, 32, 3), (64, 24, 8), (10, 2, 5), (16, 100, 1)])
def test_no_two_words_of_sessions_share_a_place(rows: int, width: int, heads: int) -> None:
    place = StoredSymbol(3, 2 * rows, width, 0, heads, parts=2)
    size = sectors(rows, width, heads)
    both = np.concatenate([row_addresses(place, at) for at in (0, 2 * size)])
    words = (both[:, None] + np.arange(BURST << burst_bits(width))).reshape(-1)
    assert len(set(words.tolist())) == len(words) and 2 * (BURST << burst_bits(width)) >= width
    banks = [CHIP.place(int(word))[0] for word in both[:rows]]
    assert banks == [k // (rows // heads) % 4 for k in range(rows)]
    rows_of = {CHIP.place(int(word))[1:] for word in words}
    assert max(row for row, _ in rows_of) <= (3 + 4 * size) * SECTOR_BURSTS // 64


def test_the_long_text_fits_eight_sessions() -> None:
    image = compile_program(load(SHIPPED / "fwpkm/long.safetensors"), BOARD, fill=False)
    assert (image.rows["1.rows"].rows, image.sessions, len(image.entries)) == (131_072, 8, 4)
    assert image.row_words * image.sessions == SECTORS


def test_a_session_goes_on_where_its_rows_were_brought() -> None:
    program = addressed(groups=4, size=4)
    image, executor = compile_program(program, STORED), NumpyExecutor(program)
    state = executor.open()
    machine = Machine(image)
    for token in (3, 1, 2):
        executor.step(state, np.array([token]))
    for name, words in executor.state_dict(state).items():
        if name in image.rows:
            machine.write_rows(name, words[0], image.session_base(1))
            assert np.array_equal(machine.read_rows(name, image.session_base(1)), words[0])
            assert not machine.read_rows(name, image.session_base(0)).any()


def test_a_wrong_bit_of_a_row_is_noticed() -> None:
    program = addressed(groups=4, size=4)
    image, executor = compile_program(program, STORED), NumpyExecutor(program)
    machine, state = Machine(image), executor.open()
    found = []
    for token in range(12):
        machine.sdram[row_addresses(image.rows["rows"], 0)] ^= 1
        found.append(np.array_equal(machine.step(token), executor.step(state, np.array([token]))[0]))
    assert not all(found)


def test_what_an_sdram_cannot_take_is_refused() -> None:
    with pytest.raises(IllegalProgram, match="keeps rows of sessions, not the constant rows"):
        compile_program(load(SHIPPED / "kan/series.safetensors"), BOARD)
    with pytest.raises(DoesNotFit, match="works on 64 row words, narrow has 16 for a context"):
        compile_program(addressed(8, 4, width=20), replace(STORED, name="narrow", rows=16), contexts=1)
    many = StoredRows({}, 0, SECTORS // 2)
    assert (many.sessions(STORED, SECTORS // 2), many.sessions(STORED, SECTORS)) == (2, 1)
    said = "3 sessions' rows need 48 MiB of SDRAM, stored has 32"
    assert many.message(STORED, 3) == said and StoredRows({}, 0, SECTORS + 1).sessions(STORED, 1) == 0
    with pytest.raises(UsageError, match="rows in SDRAM run at 50 to 100 MHz, not 40"):
        check_clock(40_000_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": 3, "lanes": 9, "chain": 3}, "an even number of columns, not 3"),
        ({"rows": 8192}, "no more row words than bank words"),
        ({"row_ram": "tape"}, "unknown row_ram 'tape'"),
        ({"rows": 0, "list_slots": 0}, "row_ram 'sdram' is for engines with rows"),
    ],
)
def test_a_geometry_that_contradicts_itself_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STORED, **change)  # type: ignore[arg-type]


def test_the_hash_of_a_geometry_without_an_sdram_is_what_it_was() -> None:
    assert (
        PRESETS["ulx3s-85f-rows"].hash != replace(PRESETS["ulx3s-85f-rows"], row_ram="sdram", rows=512).hash
    )
    assert STORED.memory(Mem.ROWS).bits == 16


def test_refreshes_come_between_moves() -> None:
    time = MoveTime()
    time.restart(100)
    first = time.move(150, 8, 16, out=False)
    assert first == 150 + MoveTime.LEAD + TIMES.rcd + 8 * 16 + 4
    assert time.move(first, 8, 16, out=True) == first + MoveTime.LEAD + TIMES.rcd + 8 * 18 + 3
    late = time.move(101 + REFRESH, 1, 8, out=False)
    assert late == 101 + REFRESH + TIMES.rfc + MoveTime.LEAD + TIMES.rcd + 8 + 4 and time.refreshes == 2


@pytest.mark.parametrize("name", ["hybrid", "fwpkm/long", "fwpkm/once", "fwpkm/twice"])
def test_cycles_of_models_are_those_of_the_page(name: str) -> None:
    page = (Path(__file__).parents[2] / "docs/sdram.md").read_text()
    program = open_program(name) if name == "hybrid" else load(SHIPPED / f"{name}.safetensors")
    image = compile_program(program, BOARD, fill=False)
    (memory,) = program.memories.values()
    still = [k for k, inst in enumerate(image.instructions) if not is_move(inst)]
    alone = replace(
        image,
        instructions=tuple(image.instructions[k] for k in still),
        names=tuple(image.names[k] for k in still),
    )
    together = len(image.entries)
    each = round(batch_cycles(image, together, 32) / (32 * together))
    line = next(line for line in page.split("\n") if line.startswith(f"| `{name}`"))
    figures = schedule(image).cycles, schedule(alone).cycles, together, each, image.sessions
    assert line.endswith(" | ".join(("", *(f"{n:,}" for n in figures), ""))[1:-1])
    assert f"{memory.rows:,} x {memory.width} |" in line
    if name == "fwpkm/long":
        assert f"{round(VARIANTS[BOARD.name].clock_hz / figures[0]):,} tokens/s" in page


def test_moves_run_beside_passes_without_rows() -> None:
    image = compile_program(load(SHIPPED / "fwpkm/long.safetensors"), BOARD, fill=False)
    found = schedule(image)
    moves = sum(
        MoveTime.LEAD + TIMES.rcd + i.words * MoveTime().head(BURST << i.table, out=bool(i.to_rows))
        for i in image.instructions
        if is_move(i)
    )
    alone = replace(image, instructions=tuple(i for i in image.instructions if not is_move(i)))
    alone = replace(alone, names=tuple(str(k) for k in range(len(alone.instructions))))
    assert schedule(alone).cycles < found.cycles < schedule(alone).cycles + moves
