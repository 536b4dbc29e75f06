"""The simulated AXI block: engine, link and registers behind AXI4-Lite, compiled by Verilator.

The program makes the bus accesses that come on its standard input, and answers them (axi_main.cpp);
`ternac.host.board.axi` is its driver, as of a block on a chip.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ternac.cache import DESIGN, cached, sources
from ternac.compile.geometry import Geometry
from ternac.sim.board import compile_verilog

__all__ = ["MAIN", "build_axi_board", "emit_axi"]

Say = Callable[[str], None]

MAIN = Path(__file__).with_name("axi_main.cpp")


def emit_axi(geometry: Geometry) -> str:
    """Return the Verilog of the AXI block without a streaming unit, module ``board``."""
    from amaranth.back import verilog

    from ternac.hdl.emit.tops import axi_design, ports_of

    top = axi_design(geometry, 0, 0)
    return str(verilog.convert(top, name="board", ports=ports_of(top), emit_src=False))


def build_axi_board(geometry: Geometry, *, say: Say = lambda text: None) -> Path:
    """Return the executable for ``geometry``, built unless the cache has it. Raises as `build_board`."""

    def emit_source(scratch: Path, log: Path) -> None:
        (scratch / "board.v").write_text(emit_axi(geometry))

    key = (repr(geometry), "axi", sources(*DESIGN, "sim/axi_board.py"))
    source = cached("verilog", key, emit_source, say=say) / "board.v"
    return compile_verilog(source.read_text(), main=MAIN, say=say)
