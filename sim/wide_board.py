"""The simulated board of a whole engine for imported models: its link on a pipe, its memory behind AXI4."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cache import DESIGN, cached, sources
from ternac.compile.wide_board import WideGeometry
from ternac.sim.board import compile_verilog
from ternac.sim.stream import USUAL

if TYPE_CHECKING:
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.wide.system import LinkedWide

__all__ = ["MAIN", "build_wide_board", "build_wide_netlist", "wide_board_command"]

Say = Callable[[str], None]

MAIN = Path(__file__).with_name("wide_board_main.cpp")


def wide_board(
    geometry: WideGeometry, tech: Technology | None = None
) -> tuple[LinkedWide, dict[str, tuple[Any, None]]]:
    """Return the simulated board's design, portable unless ``tech`` is given, and its ports."""
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.wide.system import linked_wide

    identity = hashlib.sha256(b"ternac simulated wide board " + geometry.hash).digest()[:16]
    top = linked_wide(geometry, identity, tech=tech or Technology.PORTABLE)
    signals = {"idle": top.idle, "port_fault": top.system.fault}
    for name, stream in (("rx", top.rx), ("tx", top.tx)):
        signals |= {f"{name}_{part}": getattr(stream, part) for part in ("payload", "valid", "ready")}
    signals |= {name: getattr(top, name) for name in top.system.port}
    return top, {name: (signal, None) for name, signal in signals.items()}


def emit_wide_board(geometry: WideGeometry) -> str:
    """Return the Verilog of the simulated board's design, module ``board``."""
    from amaranth.back import verilog

    top, ports = wide_board(geometry)
    return str(verilog.convert(top, name="board", ports=ports, emit_src=False))


def build_wide_netlist(
    geometry: WideGeometry,
    *,
    edit: Callable[[dict[str, Any]], None] | None = None,
    say: Say = lambda text: None,
) -> Path:
    """Return the executable of the netlist for ECP5 of ``geometry``, built unless the cache has it.

    ``edit`` changes the netlist before it is compiled. Raises as `build_netlist_board`.
    """
    from ternac.hdl.cells.tech import Technology
    from ternac.sim.netlist import OPTIMIZE, netlist_verilog, synthesize

    top, ports = wide_board(geometry, Technology.ECP5)
    design = synthesize(top, ports, Technology.ECP5, f"the {geometry.name} engine", say=say)
    if edit is not None:
        edit(design)
    return compile_verilog(netlist_verilog(design, Technology.ECP5), main=MAIN, optimize=OPTIMIZE, say=say)


def build_wide_board(geometry: WideGeometry, *, say: Say = lambda text: None) -> Path:
    """Return the executable for ``geometry``, built unless the cache has it. Raises as `build_board`."""

    def emit_source(scratch: Path, log: Path) -> None:
        say(f"the RTL of {geometry.name} is compiled now, and kept: about a minute of one core")
        (scratch / "board.v").write_text(emit_wide_board(geometry))

    key = (repr(geometry), "wide board", sources(*DESIGN, "sim/wide_board.py"))
    source = cached("verilog", key, emit_source, say=say) / "board.v"
    return compile_verilog(source.read_text(), main=MAIN, say=say)


def wide_board_command(executable: Path, memory: Path, geometry: WideGeometry, **options: int) -> list[str]:
    """Return the command that starts a board's executable on a memory whose content is in a file.

    ``options``: the memory's, instead of `USUAL`.
    """
    given = {"word_bytes": geometry.port_bits // 8, **USUAL, **options}
    return [str(executable.resolve()), str(memory), *(f"{name}={value}" for name, value in given.items())]
