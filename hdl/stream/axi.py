"""AXI4 read ports as flat members, named as vendors' tools and bus models look for them."""

from __future__ import annotations

from amaranth.lib.wiring import In, Member, Out

__all__ = ["INCR", "OKAY", "PAGE_BYTES", "PORT_BITS", "read_port"]

PORT_BITS = (32, 64, 128, 256, 512)
"""Widths of a data port, in bits."""
PAGE_BYTES = 4096
"""No burst crosses a multiple of this."""
INCR = 1
"""ARBURST of bursts whose addresses count upwards."""
OKAY = 0
"""RRESP of a good beat; every other is an error here (there are no exclusive reads)."""


def read_port(prefix: str, *, address_bits: int, data_bits: int) -> dict[str, Member]:
    """AR and R of an AXI4 master, one ID bit that stays 0: beats come in the order of the requests."""
    members = {
        "arid": Out(1), "araddr": Out(address_bits), "arlen": Out(8), "arsize": Out(3), "arburst": Out(2),
        "arcache": Out(4), "arprot": Out(3), "arvalid": Out(1), "arready": In(1),
        "rid": In(1), "rdata": In(data_bits), "rresp": In(2), "rlast": In(1), "rvalid": In(1),
        "rready": Out(1),
    }  # fmt: skip
    return {f"{prefix}_{name}": member for name, member in members.items()}
