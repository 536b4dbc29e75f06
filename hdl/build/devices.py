"""Devices that `ternac bench array` synthesizes for: the yosys command and what one cell costs."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from ternac.errors import UsageError
from ternac.hdl.cells.tech import Technology
from ternac.hdl.netlist.cells import multipliers

__all__ = ["DEVICES", "Device", "Shape", "device"]


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Arrangement of the lanes of a dot unit; see ``DotUnit``."""

    chain: int
    fold: int = 1
    radix: int = 2


@dataclass(frozen=True, kw_only=True)
class Device:
    """One device family. ``comb`` maps cell types (whole names, as regular expressions) to the lookup
    tables that one such cell takes.
    """

    name: str
    title: str
    tech: Technology
    synth: str
    """The yosys command, without ``-top``."""
    comb: tuple[tuple[str, int], ...]
    ff: str
    """Flip-flop cells, a regular expression."""
    unit: str
    """A COMB of this device, in words."""
    shape: Shape
    """The arrangement of lanes with the fewest lookup tables and registers here."""
    estimate: bool = True
    """True if there is no place and route for it here."""

    def area(self, cells: Counter[str]) -> dict[str, int]:
        """Return ``comb``, ``ff`` and ``dsp`` (multiplying cells) of a mapped netlist's cells."""
        comb = sum(
            n * next((cost for pattern, cost in self.comb if re.fullmatch(pattern, kind)), 0)
            for kind, n in cells.items()
        )
        ff = sum(n for kind, n in cells.items() if re.fullmatch(self.ff, kind))
        return {"comb": comb, "ff": ff, "dsp": sum(multipliers(cells).values())}


DEVICES: dict[str, Device] = {
    d.name: d
    for d in (
        Device(
            name="ecp5",
            title="Lattice ECP5-85 speed grade 6",
            tech=Technology.ECP5,
            synth="synth_ecp5",
            comb=(("LUT4", 1), ("CCU2C", 2), ("TRELLIS_DPR16X4", 6)),
            ff="TRELLIS_FF",
            unit="LUT4 + 2 per CCU2C + 6 per 16x4 LUT RAM, which is how nextpnr fills slices",
            shape=Shape(chain=4, fold=2, radix=3),
            estimate=False,
        ),
        Device(
            name="ice40",
            title="Lattice iCE40",
            tech=Technology.ICE40,
            synth="synth_ice40",
            comb=(("SB_LUT4", 1),),
            ff=r"SB_DFF\w*",
            unit="SB_LUT4; a carry shares the cell of its table",
            shape=Shape(chain=1, fold=2),
        ),
        Device(
            name="xilinx",
            title="LUT6 devices of AMD (7 series cells)",
            tech=Technology.XILINX,
            synth="synth_xilinx -flatten -noiopad -noclkbuf",
            comb=((r"LUT[1-6]|LUT6_2", 1), (r"RAM(32M|64M|32X1D|64X1D)", 4), (r"SRL\w+", 1)),
            ff=r"FD[RSCP]E\w*",
            unit="LUT1..LUT6 (one LUT6 each), 4 per LUT RAM cell",
            shape=Shape(chain=1, fold=2, radix=3),
        ),
        Device(
            name="gowin",
            title="Gowin LittleBee / Arora",
            tech=Technology.PORTABLE,
            synth="synth_gowin -noiopads",
            comb=((r"LUT[1-4]", 1), ("ALU", 1), ("RAM16SDP4", 8)),
            ff=r"DFF\w*",
            unit="LUT1..LUT4 + ALU (an ALU is a LUT4 with its carry)",
            shape=Shape(chain=1, fold=2),
        ),
    )
}


def device(name: str) -> Device:
    """Return the named device. Raises UsageError if there is none."""
    try:
        return DEVICES[name]
    except KeyError:
        raise UsageError(f"no device is called {name!r}", f"choose one of: {', '.join(DEVICES)}") from None
