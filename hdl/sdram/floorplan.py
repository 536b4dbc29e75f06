"""Floor plan of the SDRAM engine on the ECP5-85: its logic gathers around one row of block RAMs.

Most block RAMs hold the embedding, which is read once a token and may be far away. Place and route does not
know that, and puts the link's RAM or a FIFO wherever one is left.
"""

from __future__ import annotations

import re
from typing import Any

from ternac.hdl.netlist.floorplan import sites

__all__ = ["place_sdram_engine"]

NEAR_ROW = 22
FAR_ROWS = (46, 70, 82)
_FAR = re.compile(r"embed_\d+\.bank_\d+\.bram_EMBED_")
_ORDER = (
    "link.frame.ram", "program_", "bank_0", "pipe_0", "bank_1", "pipe_1", "bank_2", "pipe_2",
    "bank_3", "pipe_3", "sampler", "norm", "store",
)  # fmt: skip


def place_sdram_engine(design: dict[str, Any], top: str = "top") -> int:
    """Give every block RAM of a flat yosys JSON netlist a ``BEL``, and return how many there are: the
    embedding's in `FAR_ROWS`, the others, from the link on the left to the store on the right, in `NEAR_ROW`.

    A design without an SDRAM's store is left alone, and so is one whose block RAMs are too many.
    """
    names = [name for name, cell in design["modules"][top]["cells"].items() if cell["type"] == "DP16KD"]
    if not any(".store.reads." in name for name in names):
        return 0
    far = sorted(name for name in names if _FAR.search(name))
    near = sorted((name for name in names if not _FAR.search(name)), key=_place)
    beyond = [site for row in FAR_ROWS for site in sites(row)]
    if len(near) > len(sites(NEAR_ROW)) or len(far) > len(beyond):
        return 0
    for chosen, free in ((near, sites(NEAR_ROW)), (far, beyond[: max(1, len(far))])):
        for i, name in enumerate(chosen):
            site = free[(2 * i + 1) * len(free) // (2 * len(chosen))]
            design["modules"][top]["cells"][name].setdefault("attributes", {})["BEL"] = site
    return len(names)


def _place(name: str) -> tuple[int, str]:
    """Return the place of a block RAM in `NEAR_ROW`, from the left."""
    part = name.rpartition(".")[0] if ".bram_" in name else name
    found = (i for i, piece in enumerate(_ORDER) if f".{piece}" in part)
    return next(found, len(_ORDER)), name
