"""The plan of a bitstream: all that it is made from, before any tool has run; its hash names the build.

A plan is the RTLIL of the whole design (names and structure only, no source paths), the constraint file,
the synthesis script, place-and-route options and the versions of the tools. The same plan gives the same
bitstream.

The bitstream ID is the hash of the same things with the ID's own place in the design zeroed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from ternac.errors import BuildFailed
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.shell import BoardShell, Payload
from ternac.hdl.build.toolchain import versions
from ternac.hdl.netlist.passes import PASSES

ID_BYTES = 16
PLACEHOLDER = hashlib.sha256(b"ternac bitstream id").digest()[:ID_BYTES]
"""Stands for the ID while the design is elaborated; found in the RTLIL as one literal and replaced there."""


@dataclass(frozen=True)
class Placer:
    """What places and routes a family: nextpnr's name, and how it takes a constraint file."""

    tool: str
    suffix: str
    option: tuple[str, str]

    def constrained(self, file: str) -> tuple[str, str]:
        """Return the option that names a constraint file."""
        first, second = self.option
        return first, second + file


PLACERS = {
    "ecp5": Placer("nextpnr-ecp5", ".lpf", ("--lpf", "")),
    "ice40": Placer("nextpnr-ice40", ".pcf", ("--pcf", "")),
    "gowin": Placer("nextpnr-himbaechel", ".cst", ("--vopt", "cst=")),
}


MakePayload = Callable[[bytes], Payload]
"""Makes the design that reports the given 16 bytes as its bitstream ID."""


@dataclass(frozen=True)
class Plan:
    """Everything that determines a bitstream. ``design`` is RTLIL, ``constraints`` LPF, PCF or CST."""

    board: Board
    clock_hz: int
    geometry_hash: bytes
    design: str
    constraints: str
    script: str
    tools: dict[str, str]
    bitstream_id: bytes = bytes(ID_BYTES)

    @property
    def constraint_file(self) -> str:
        return f"design{PLACERS[self.board.family].suffix}"

    @property
    def place_and_route(self) -> tuple[str, ...]:
        """Options of nextpnr, without file names."""
        return (
            *self.board.nextpnr_device,
            "--seed",
            str(self.board.seed),
            "--timing-allow-fail",
            *(("--freq", f"{self.board.target_hz / 1e6:g}") if self.board.family != "ecp5" else ()),
        )

    @property
    def source_hash(self) -> str:
        """Hash of the design, its ID zeroed, and its constraints only: equal for two tool versions."""
        design = self.design.replace(id_literal(self.bitstream_id), id_literal(bytes(ID_BYTES)))
        return _digest([self.board.name, self.clock_hz, self.geometry_hash.hex(), design, self.constraints])

    @property
    def hash(self) -> str:
        """Hash of everything; the first 16 digits name the build directory."""
        passes: tuple[str, ...] = PASSES if self.board.family == "ecp5" else ()
        if not self.board.chip.floor_plans:
            passes = passes[:-1]
        return _digest(
            [self.source_hash, self.script, passes, self.place_and_route, self.tools, self.bitstream_id.hex()]
        )


def _digest(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def id_literal(data: bytes) -> str:
    """Return bytes of a memory as RTLIL writes them: binary digits, the last byte first."""
    return format(int.from_bytes(data, "little"), f"0{8 * len(data)}b")


def synthesis_script(board: Board) -> str:
    """Return the yosys script: reads design.il, writes products.il (as written) and netlist.json (mapped)."""
    lines = (
        "read_rtlil ../design.il",
        "design -save start",
        "proc",
        "opt_expr",
        "dump -o products.il t:$mul t:$macc t:$div t:$mod t:$divfloor t:$modfloor t:$pow",
        "design -load start",
        " ".join((f"synth_{board.family} -top top", *board.chip.synth)),
        "write_json netlist.json",
    )
    return "\n".join(lines) + "\n"


def make_plan(board: Board, clock_hz: int, geometry_hash: bytes, make_payload: MakePayload) -> Plan:
    """Elaborate the board's shell around a payload and fix the bitstream ID.

    The plan of a payload without the ID (a test design) has one that nothing reports. Raises BuildFailed if
    the ID occurs more than once, ToolMissing if a tool is not installed.
    """
    target = f"{board.target_hz / 1e6:g}"
    platform = board.make_platform()
    extra: dict[str, str] = {}
    if board.family == "ecp5":
        extra["add_preferences"] = f'FREQUENCY NET "clk" {target} MHZ;'
    shell = BoardShell(board, make_payload(PLACEHOLDER), clock_hz)
    files = platform.prepare(shell, "top", emit_src=False, **extra).files
    design, places = _substitute(str(files["top.il"]), id_literal(PLACEHOLDER), id_literal(bytes(ID_BYTES)))
    if places > 1:
        raise BuildFailed(
            f"the bitstream ID occurs {places} times in the design", "keep it in one memory or constant"
        )
    plan = Plan(
        board=board,
        clock_hz=clock_hz,
        geometry_hash=geometry_hash,
        design=design,
        constraints=str(files[f"top{PLACERS[board.family].suffix}"]),
        script=synthesis_script(board),
        tools=versions(board.family),
    )
    bitstream_id = bytes.fromhex(plan.hash)[:ID_BYTES]
    final, _ = _substitute(str(files["top.il"]), id_literal(PLACEHOLDER), id_literal(bitstream_id))
    return replace(plan, design=final, bitstream_id=bitstream_id)


def _substitute(text: str, old: str, new: str) -> tuple[str, int]:
    return text.replace(old, new), text.count(old)
