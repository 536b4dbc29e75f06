"""The device families for which some components have a special form."""

from __future__ import annotations

import enum

__all__ = ["Technology"]


class Technology(enum.Enum):
    """The vendor cells that a component may instantiate.

    ``PORTABLE`` is plain Amaranth and the form that is simulated; ``ECP5``, ``ICE40``, ``GOWIN`` and
    ``XILINX`` (LUT6 devices) may hold vendor cells, which only synthesis understands. Every form of a
    component has the same ports, the same latency and the same bits.
    """

    PORTABLE = "portable"
    ECP5 = "ecp5"
    ICE40 = "ice40"
    GOWIN = "gowin"
    XILINX = "xilinx"
