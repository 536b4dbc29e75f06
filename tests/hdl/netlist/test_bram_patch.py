"""Patching block RAM of a routed design must equal synthesis with those contents, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem, preset
from ternac.compile.image import Image
from ternac.compile.loading import program_id
from ternac.errors import BuildFailed
from ternac.hdl.boards.boards import board
from ternac.hdl.build.bake import bake
from ternac.hdl.build.plan import Plan, make_plan
from ternac.hdl.build.recipe import MEMORIES, build, directory_of
from ternac.hdl.build.toolchain import run_tool
from ternac.hdl.link.frames import PROGRAM_HASH
from ternac.hdl.netlist import bram_patch, memory_map
from ternac.program.random import random_program
from tests.hdl.board_designs import SHAPES, Memories, random_contents

ULX3S = board("ulx3s-85f")
IDENTITY = bytes(range(256)) * 4


def plan_with(seed: int | None, link: bytes) -> Plan:
    contents = random_contents(seed) if seed is not None else {key: [] for key in SHAPES}
    return make_plan(ULX3S, ULX3S.clock_hz, bytes(8), lambda _: Memories(contents, link))


def image_of(seed: int) -> Image:
    """An image, of no program, whose memories are the random contents."""
    contents = random_contents(seed)
    memories = {}
    for name in ("WEIGHT", "BANK", "EMBED"):
        blocks = max(block for memory, block in SHAPES if memory == name) + 1
        depth = next(shape[1] for key, shape in SHAPES.items() if key[0] == name)
        words = [contents.get((name, block), [0] * depth) for block in range(blocks)]
        memories[Mem[name]] = np.array(words, np.uint32)
    tiny = compile_program(random_program(np.random.default_rng(1), 8, 8, 1, 16), preset("tiny"))
    return replace(tiny, memories=memories)


def test_parameters_and_contents_are_inverse() -> None:
    words = np.random.default_rng(1).integers(0, 512, bram_patch.WORDS).astype(np.uint16)
    assert np.array_equal(bram_patch.contents_of(bram_patch.parameters(words)), words)
    assert not bram_patch.contents_of({"INITVAL_00": "x" * 320}).any()


def test_patch_replaces_only_what_it_is_given() -> None:
    line = " ".join(["000"] * 8) + "\n"
    config = ".device X\n\n.bram_init 3\n" + line * 256 + "\n.bram_init 4\n" + line * 256 + "\n.tile Y\n"
    words = np.arange(bram_patch.WORDS, dtype=np.uint16) & 0x1FF
    patched = bram_patch.patch(config, {4: words})
    read = bram_patch.read_config(patched)
    assert not read[3].any() and np.array_equal(read[4], words)
    assert patched.startswith(".device X\n\n.bram_init 3\n") and patched.endswith("\n.tile Y\n")
    with pytest.raises(BuildFailed, match="no block RAM 5"):
        bram_patch.patch(config, {5: words})
    with pytest.raises(BuildFailed, match="8 words, not 2048"):
        bram_patch.read_config(".bram_init 3\n" + line)
    with pytest.raises(BuildFailed, match="first b"):
        bram_patch.find_marks(config, ["b"])


def test_baked_equals_synthesized(tmp_path: Path) -> None:
    image = image_of(7)
    link = bytearray(IDENTITY)
    link[PROGRAM_HASH : PROGRAM_HASH + 16] = program_id(image)
    synthesized = build(plan_with(7, bytes(link)), tmp_path, lambda _: None)
    empty_plan = plan_with(None, IDENTITY)
    empty = build(empty_plan, tmp_path, lambda _: None)
    assert synthesized["sha256"] != empty["sha256"]
    assert empty["bram"] == 6  # 18, 18, 18 bits, twice 4 bits, the link's
    out = tmp_path / "baked.bit"
    bake(ULX3S, Path(empty["bitstream"]), directory_of(empty_plan, tmp_path) / MEMORIES, image, out)
    assert out.read_bytes() == Path(synthesized["bitstream"]).read_bytes()

    # what a reader of the finished bitstream sees
    run_tool("ecpunpack", ["baked.bit", "read.config"], cwd=tmp_path, log=tmp_path / "log", step="test")
    found = bram_patch.read_config((tmp_path / "read.config").read_text())
    cells = memory_map.loads((directory_of(empty_plan, tmp_path) / MEMORIES).read_text())
    seen = {(cell.memory, cell.block, cell.first_bit) for cell in cells}
    assert seen == {
        ("WEIGHT", 0, 0),
        ("WEIGHT", 1, 0),
        ("BANK", 0, 0),
        ("EMBED", 3, 0),
        ("EMBED", 3, 4),
        ("LINK", 0, 0),
    }
    weights = next(cell for cell in cells if (cell.memory, cell.block) == ("WEIGHT", 1))
    assert weights.words(found[weights.number], 1024).tolist() == random_contents(7)["WEIGHT", 1]

    # a bitstream without a memory that the image needs
    bad = replace(image, memories={Mem.NORM: np.ones((1, 4), np.uint32)})
    with pytest.raises(BuildFailed, match="no block RAM holds memory NORM"):
        bake(ULX3S, Path(empty["bitstream"]), directory_of(empty_plan, tmp_path) / MEMORIES, bad, out)
    with pytest.raises(BuildFailed, match="no memory map with"):
        bake(ULX3S, Path(empty["bitstream"]), None, image, out)


def test_damaged_memory_map() -> None:
    with pytest.raises(BuildFailed, match="damaged"):
        memory_map.loads("[{]")
    cells = [memory_map.Cell(3, "WEIGHT", 1, 0, 18)]
    assert memory_map.loads(memory_map.dumps(cells)) == cells


def test_every_memory_of_a_geometry_must_be_there() -> None:
    tiny = preset("tiny")
    cells = [memory_map.Cell(1, memory_map.LINK, 0, 0, 9)]
    for mem in tiny.memories:
        shape = tiny.memory(mem)
        cells += [memory_map.Cell(9, mem.name, block, 0, 18) for block in range(shape.blocks)]
    memory_map.refuse_incomplete(cells, tiny)
    with pytest.raises(BuildFailed, match="memory LINK, block 0, bit 0"):
        memory_map.refuse_incomplete(cells[1:], tiny)
    with pytest.raises(BuildFailed, match="memory BANK, block 3, bit 0 is in no block RAM"):
        memory_map.refuse_incomplete(cells[:-1], tiny)


def test_cells_are_found_by_name() -> None:
    names = (
        "a.bram_WEIGHT_3_0",
        "p.bram_table_7_0",
        "core.norm.table$59.0.0",
        "link.frame.ram.0.0",
        "rom.0.0",
    )
    found = {name: {"parameters": {"DATA_WIDTH_A": "1001"}} for name in names}
    numbers = {name: number for number, name in enumerate(names)}
    cells = memory_map.locate({"modules": {"top": {"cells": found}}}, numbers)
    assert [cell.memory for cell in cells] == ["WEIGHT", "TABLE", "NORM", "LINK"]
    assert [cell.block for cell in cells] == [3, 7, 0, 0]
    assert all(cell.cell_bits == 9 and cell.first_bit == 0 for cell in cells)
