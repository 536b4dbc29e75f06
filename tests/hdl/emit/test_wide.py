"""The emitted engine for whole models: its testbench, its registers, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ternac.cli.main import main
from ternac.errors import DoesNotFit
from ternac.hdl.axi.resources import PARTS
from ternac.hdl.axi.wide import MAP
from ternac.hdl.emit.folder import Folder, emit_folder, write_folder
from ternac.hdl.emit.tops import TOPS
from ternac.hdl.emit.wide import default_program, wide_code
from ternac.hdl.wide.shapes import WIDE_SHAPES, wide_shape
from ternac.program.random import random_mmfree
from ternac.sim.emitted import simulate
from tests.hdl.emit.test_folder import plant


@pytest.fixture(scope="module")
def folder() -> Folder:
    shape = wide_shape("tiny-wide")
    return emit_folder(TOPS["wide"], shape, default_program(1), port_bits=shape.port_bits, tokens=3)


@pytest.mark.icarus
def test_the_testbench_passes_and_fails_on_one_wrong_bit(folder: Folder, tmp_path: Path) -> None:
    """Of a logit, of a state, of every word of memory."""
    out = tmp_path / "wide"
    write_folder(folder, out)
    verdict = simulate(out, "icarus")
    assert verdict.passed and "60 logits as expected" in verdict.lines[-1]
    for name in ("logits.hex", "memory.hex", "bus.hex"):
        write_folder(folder, out)
        if name == "logits.hex":
            plant(out, name)
        else:
            change = changed_state if name == "bus.hex" else changed_memory
            (out / name).write_text(change(folder.files[name][1]))
        assert not simulate(out, "icarus").passed, name


def changed_memory(memory: str) -> str:
    """A high bit of every element and weight changed."""
    rows = memory.split("\n")
    return "\n".join(
        f"{int(row, 16) ^ 0x40404040:08x}" if re.fullmatch("[0-9a-f]{8}", row) else row for row in rows
    )


def changed_state(bus: str) -> str:
    """The last expected element of a state, one bit of it changed."""
    rows = bus.split("\n")
    read = f"2{next(each.offset for each in MAP.registers if each.name == 'VECTOR_DATA'):03x}"
    at = max(i for i, row in enumerate(rows) if row.startswith(read))
    rows[at] = f"{int(rows[at], 16) ^ 1 << 32:020x}"
    return "\n".join(rows)


def test_the_folder_has_a_map_and_scripts_of_its_ports(folder: Folder) -> None:
    found = json.loads(folder.files["registers.json"][1])
    assert [each["name"] for each in found["registers"]] == [each.name for each in MAP.registers]
    script = folder.files["package_ip.tcl"][1]
    assert set(re.findall(r"associate_bus_interfaces -busif (\w+)", script)) == {"s_axi", "m_axis", "m_axi"}
    assert '"toplevel": "ternac_wide"' in folder.files["ternac_wide.core"][1]
    assert not set(folder.manifest["cells"]) & {"$mul", "$macc", "$alu"}


def test_registers_follow_each_other_and_fields_do_not_overlap() -> None:
    assert [each.offset for each in MAP.registers] == [4 * i for i in range(len(MAP.registers))]
    assert len(MAP.registers) <= MAP.words
    for each in MAP.registers:
        used = 0
        for part in each.fields:
            mask = ((1 << part.bits) - 1) << part.low
            assert not used & mask and not mask >> 32, each.name
            used |= mask


def test_every_part_has_an_engine() -> None:
    for part in PARTS.values():
        assert part.wide in WIDE_SHAPES


def test_a_program_that_is_too_large_is_refused() -> None:
    program = random_mmfree(np.random.default_rng(1), d=64, m=96, layers=4, vocab=50)
    with pytest.raises(DoesNotFit, match=r"needs \d+ instructions, tiny-wide has 128"):
        wide_code(program, wide_shape("tiny-wide"))


def test_options_without_effect_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for option in (("--port-bits", "64"), ("--geometry", "tiny"), ("--clock", "50")):
        assert main(["emit", "--top", "wide", *option]) == 2
        assert option[0] in capsys.readouterr().err
