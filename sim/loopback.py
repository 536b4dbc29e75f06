"""The simulated loopback: the RTL of a board's loopback bitstream, compiled by Verilator."""

from __future__ import annotations

import hashlib

from ternac.hdl.boards.board import Board
from ternac.hdl.diagnostics.design import LinkedLoopback, sdram_of
from ternac.sim.board import Say, compile_verilog, emit, sdram_options

__all__ = ["build_loopback", "loopback_id"]


def loopback_id(target: Board) -> bytes:
    """Return the ID that the simulated loopback of a board answers."""
    return hashlib.sha256(b"ternac simulated loopback " + target.name.encode()).digest()[:16]


def build_loopback(target: Board, *, say: Say = lambda text: None) -> list[str]:
    """Return the command that starts a board's simulated loopback, built unless the cache has it.

    Its clock is 0 Hz, which says that it is simulated; the phase of its SDRAM's clock has no effect.
    """
    chip = sdram_of(target)
    verilog = emit(LinkedLoopback(target, 0, loopback_id(target)))
    executable = compile_verilog(verilog, sdram=chip is not None, say=say)
    return [str(executable), *(sdram_options(chip) if chip else ())]
