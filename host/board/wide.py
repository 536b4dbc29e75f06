"""Boards that are a whole engine for imported models: their names, and the line to a simulated one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from pathlib import Path

from ternac.compile.wide_board import LANES, PORT_BITS, WIDE, WideBoardImage, WideGeometry, geometry_for
from ternac.errors import UsageError
from ternac.hdl.stream.axi import PORT_BITS as PORTS
from ternac.host.board.client import SIMULATED, Patience
from ternac.host.board.transport import ProcessTransport
from ternac.program.program import Program

__all__ = ["WideTransport", "image_patience", "wide_engine"]

SLOW_WORDS = 2000
"""Words of weights that the slowest simulation takes a second, for time-outs."""
_NAME = re.compile(WIDE + r"(?:-(\d{1,4})x(\d{1,4}))?")


def wide_engine(name: str, program: Program) -> WideGeometry:
    """Return the engine of a board for a program.

    Raises UsageError if no engine has that name, UnsupportedOp if the wide unit has no form of the program.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise UsageError(f"board {name!r} is no engine for imported models", f"write {WIDE}, or {WIDE}-128x8")
    port, lanes = int(found[1] or PORT_BITS), int(found[2] or LANES)
    most = port // 8
    if port not in PORTS or not 1 <= lanes <= most or lanes & (lanes - 1):
        ports = ", ".join(map(str, PORTS))
        raise UsageError(
            f"board {name!r}: the port has {port} bits and there are {lanes} lanes",
            f"a port has {ports} bits; lanes are a power of two, at most its bytes",
        )
    return geometry_for(program, lanes=lanes, port_bits=port)


def image_patience(image: WideBoardImage) -> Patience:
    """Return the time-outs of a simulated board that holds an image."""
    assert image.code is not None
    seconds = image.code.weights.size / image.code.port_bytes / SLOW_WORDS
    return Patience(SIMULATED.base + seconds, SIMULATED.step + seconds, SIMULATED.retries)


class WideTransport(ProcessTransport):
    """A simulated board of a whole engine, with what its image has in external memory.

    ``build`` returns its executable (default: `ternac.sim.wide_board.build_wide_board`).
    """

    def __init__(
        self,
        image: WideBoardImage,
        build: Callable[..., Path] | None = None,
        *,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        from ternac.sim.wide_board import build_wide_board, wide_board_command

        geometry, external = image.geometry, image.external
        assert isinstance(geometry, WideGeometry) and external is not None
        executable = (build or build_wide_board)(geometry, say=say)
        self._scratch = tempfile.TemporaryDirectory(prefix="ternac-wide-")
        memory = Path(self._scratch.name, "memory")
        external.image.tofile(memory)
        super().__init__(wide_board_command(executable, memory, geometry))
        self.name = geometry.name

    def close(self) -> None:
        super().close()
        self._scratch.cleanup()
