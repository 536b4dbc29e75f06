"""The post-synthesis netlist against NumPy, like the RTL: logits, state, next tokens, cycles; and a fault."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac import cli
from ternac.errors import BuildFailed
from ternac.geometry import preset
from ternac.hdl.tech import Technology
from ternac.program import Program
from ternac.program_file import save
from ternac.random_program import random_program
from ternac.sim.netlist import build_netlist_board, models_of
from ternac.sim.runners import BoardRunner, runners_of
from ternac.sim.verify import verify


def program_of(seed: int = 1) -> Program:
    program = random_program(np.random.default_rng(seed), 24, 20, 2, 256)
    return replace(program, meta={"tokenizer": "bytes"})


def test_a_cell_without_a_model_is_refused() -> None:
    assert "module LUT2" in models_of({"CCU2C"}, Technology.ECP5)
    with pytest.raises(BuildFailed, match="no simulation model of the cell EHXPLLL"):
        models_of({"LUT4", "EHXPLLL"}, Technology.ECP5)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", ["tiny", "icebreaker"])
def test_netlist_is_the_rtl(geometry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """ECP5 and iCE40 form, the same tokens on the RTL and on the netlist, by ``ternac verify``."""
    path = tmp_path / "program.safetensors"
    save(program_of(), path)
    status = cli.main(
        ["verify", str(path), "--executors", "numpy,rtl,netlist", "--geometry", geometry, "--tokens", "24",
         "--json"]
    )  # fmt: skip
    data = json.loads(capsys.readouterr().out)
    assert (status, data["mismatches"], data["tokens"]) == (0, 0, 24)
    assert data["cycles"]["netlist"] == data["cycles"]["rtl"] > 0


@pytest.mark.slow
def test_one_wrong_bit_of_a_lookup_table_is_found() -> None:
    """A table of the dot unit of column 0 forgets one of its sixteen cases."""
    program, geometry = program_of(), preset("tiny")

    def spoil(design: dict[str, Any]) -> None:
        cells = design["modules"]["board"]["cells"]
        name = min(n for n, c in cells.items() if ".dot_0." in n and c["type"] == "CCU2C")
        table = cells[name]["parameters"]["INIT1"]
        at = 15 - 5  # sum 1, activation 0, weight 1
        cells[name]["parameters"]["INIT1"] = table[:at] + str(1 - int(table[at])) + table[at + 1 :]

    spoilt = BoardRunner(program, geometry, netlist=build_netlist_board(geometry, edit=spoil))
    (numpy,) = runners_of(("numpy", "machine"), program, None, geometry)[:1]
    try:
        found = verify(program, [numpy, spoilt], list(range(100, 108)), lambda done: None)
    finally:
        spoilt.close()
    assert len(found) == 1
    assert found[0].executors == ("numpy", "netlist")


@pytest.mark.slow
def test_sessions_together_on_the_netlist() -> None:
    """BATCH on the netlist: every session's tokens are those that it would get alone on NumPy."""
    from ternac.host.device import Device

    program, geometry = program_of(2), preset("tiny")
    board = BoardRunner(program, geometry, netlist=build_netlist_board(geometry))
    try:
        got = board.device.generate_together([b"one", b"two", b"three"], 12, temperature=0.8, top_k=20)
    finally:
        board.close()
    with Device.open("numpy", program) as numpy:
        assert got == numpy.generate_together([b"one", b"two", b"three"], 12, temperature=0.8, top_k=20)
