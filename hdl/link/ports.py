"""The interface between link controller and engine core, seen from the controller."""

from __future__ import annotations

from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.compile.geometry import Geometry

ENGINE_MEMBERS = {
    # loader: one word per cycle, taken whenever the engine is not busy
    "wr_en": Out(1), "wr_mem": Out(3), "wr_block": Out(8), "wr_addr": Out(16), "wr_data": Out(18),
    # bank reader: one word at a time, when the engine is not busy
    "rd_en": Out(1), "rd_block": Out(8), "rd_addr": Out(16), "rd_valid": In(1), "rd_data": In(16),
    # one token of one context: start is a pulse, taken with all in its lines unless that context is open;
    # with `again` entry, session base and generator stay as they are. Contexts are open from start to done.
    "start": Out(1), "start_context": Out(2), "again": Out(1), "entry": Out(16), "token": Out(16),
    "session_base": Out(16), "emit": Out(1), "rng_in": Out(32),
    # done is a pulse, eight cycles or more after the one before, none where there is hold_done; the rest of
    # its line is valid with it
    "hold_done": Out(1),
    "busy": In(1), "done": In(1), "done_context": In(2), "next_token": In(16), "rng_out": In(32),
    # cycles in which a context was open, since `clear`
    "clear": Out(1), "cycles": In(32),
    # sampling, stable while busy
    "greedy": Out(1), "inv_m": Out(8), "inv_s": Out(5), "top_k": Out(16),
}  # fmt: skip

EngineSignature = wiring.Signature(ENGINE_MEMBERS)
"""Ports of an engine core as the link controller drives them; a core has them flipped."""

ByteStream = stream.Signature(8)

MEMORY_PORTS = ("wr_en", "wr_mem", "wr_block", "wr_addr", "wr_data", "rd_en", "rd_block", "rd_addr")
"""Of the engine's ports those that a second master drives while it holds the engine."""

MemoryMaster = wiring.Signature(
    {
        # keeps the next byte from the link; taken in a cycle with `idle`, the master drives from the next one
        "hold": Out(1),
        # nothing happens before the next byte
        "idle": In(1),
        **{name: ENGINE_MEMBERS[name] for name in (*MEMORY_PORTS, "rd_valid", "rd_data", "busy")},
    }
)
"""A second master of the engine's memories: it reads and writes words while the link waits for a byte."""


def turnaround(geometry: Geometry) -> int:
    """Cycles from an engine's ``done`` until a ``start`` that answers it reaches the engine.

    The wires between a wide engine and its controller pass a register each way.
    """
    return 2 if geometry.pipelined_broadcast else 0
