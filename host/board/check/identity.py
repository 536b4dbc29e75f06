"""Who the board says it is, against what is shipped for it."""

from __future__ import annotations

import hashlib
from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.compile.loading import program_id
from ternac.errors import BadFrame, NoAnswer, ProgramError, UsageError
from ternac.files import read_bytes
from ternac.hdl.diagnostics.registers import LOOPBACK
from ternac.host.board.check.report import Section
from ternac.host.board.client import LinkClient
from ternac.link import VERSION, Identity
from ternac.manifest import folder, read_manifest
from ternac.program.program import Program
from ternac.program.zoo import names, open_program

__all__ = ["check_identity", "expected_identity", "manifest_facts"]

FLASH = "flash the board: ternac flash --board {board}"


def manifest_facts(board: str, name: str) -> dict[str, Any]:
    """Return which bitstream is shipped for a board: its ID, digest and clock, and the manifest's own digest;
    empty if none is.
    """
    try:
        manifest = read_manifest(board, name)
        path = folder(board, name) / "manifest.json"
        if manifest is None:
            return {}
        keys = ("bitstream_id", "sha256", "geometry_hash", "clock_mhz", "fmax_mhz", "tools")
        facts = {key: manifest[key] for key in keys if key in manifest}
        return {**facts, "manifest_sha256": hashlib.sha256(read_bytes(path)).hexdigest()}
    except UsageError:
        return {}


def hear(client: LinkClient) -> Identity:
    """Ask who is there. Raises NoAnswer, which says what came instead."""
    try:
        return client.hello()
    except (NoAnswer, BadFrame) as error:
        came = client.bytes_received
        if not came:
            raise NoAnswer(
                f"the board does not answer: not one byte came on {client.transport.name}",
                "is it powered and flashed (the light alive blinks), is this its port (ternac doctor), "
                "is the baud rate the bitstream's?",
            ) from error
        raise NoAnswer(
            f"garbage on the line: {came} bytes came on {client.transport.name}, none of them an answer",
            "another program or bitstream sends on this port, or at another baud rate: flash the board",
        ) from error


def check_identity(
    section: Section, identity: Identity, geometry: Geometry, expected: dict[str, Any], board: str
) -> bool:
    """Compare HELLO's answer with ``expected`` (`manifest_facts`'s keys); returns whether the engine is
    ``geometry``.
    """
    hint = FLASH.format(board=board)
    section.figure("link version", identity.version, "", "HELLO")
    section.figure("bitstream", identity.bitstream_id.hex(), "", "HELLO")
    section.figure("geometry", identity.geometry_hash.hex(), "", "HELLO")
    section.figure("clock", identity.clock_hz, "Hz", "HELLO: what the bitstream was made for")
    section.figure("program", identity.program_hash.hex(), "", "HELLO")
    if identity.version != VERSION:
        section.fail(
            f"identity: the board speaks link version {identity.version}, this host {VERSION}",
            hint, expected=VERSION, found=identity.version,
        )  # fmt: skip
        return False
    if identity.geometry_hash != geometry.hash:
        known = {g.hash: f"the engine {g.name}" for g in PRESETS.values()} | {
            LOOPBACK.hash: "the loopback bitstream: ternac board loopback PORT tests with it"
        }
        found = known.get(identity.geometry_hash, "an engine that this version does not know")
        section.fail(
            f"identity: the board carries {found}; expected is the engine {geometry.name}",
            hint, expected=geometry.hash.hex(), found=identity.geometry_hash.hex(),
        )  # fmt: skip
        return False
    if not expected:
        section.note(f"no bitstream of {board} with {geometry.name} is shipped: its ID is not compared")
        return True
    if identity.bitstream_id.hex() != expected["bitstream_id"]:
        section.fail(
            f"identity: the board carries bitstream {identity.bitstream_id.hex()}, shipped is "
            f"{expected['bitstream_id']}",
            f"it is older, or your own; {hint}",
            expected=expected["bitstream_id"], found=identity.bitstream_id.hex(),
        )  # fmt: skip
    clock = round(expected["clock_mhz"] * 1e6)
    if identity.clock_hz != clock:
        section.fail(
            f"identity: the board's clock is {identity.clock_hz} Hz, the shipped bitstream's {clock}",
            hint, expected=clock, found=identity.clock_hz,
        )  # fmt: skip
    return True


def check_program(
    section: Section, identity: Identity, program: Program, geometry: Geometry, named: bool
) -> Program | None:
    """Return the program that the board says it holds, None if it is empty or holds an unknown one.

    ``named``: the user named ``program``; then another one is a mismatch.
    """
    if not identity.loaded:
        section.note("the board holds no program")
        return None
    held = identity.program_hash
    for other in (program, *(open_program(name) for name in names())):
        try:
            if held == program_id(compile_program(other, geometry, fill=False)):
                if named and other.hash != program.hash:
                    section.fail(
                        f"program: the board holds {other.name}, not {program.name}",
                        "load it: ternac run MODEL --device PORT; or name the model that was flashed",
                        expected=program.hash[:32], found=held.hex(),
                    )  # fmt: skip
                return other
        except ProgramError:
            continue
    section.fail(
        f"program: the board holds {held.hex()}, which is neither {program.name} nor another shipped model",
        "name the model that was flashed: ternac board check PORT MODEL",
        expected=program.hash[:32], found=held.hex(),
    )  # fmt: skip
    return None


def expected_identity(board: str, geometry: Geometry, *, simulated: bool) -> dict[str, Any]:
    """Return what HELLO shall answer: of the shipped manifest, or of the simulated board; empty if
    unknown.
    """
    if not simulated:
        return manifest_facts(board, geometry.name)
    from ternac.sim.board import bitstream_id

    return {"bitstream_id": bitstream_id(geometry).hex(), "clock_mhz": 0}
