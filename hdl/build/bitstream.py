"""``ternac build``: the bitstream of a board, with a model or without: shipped, from the cache, or built now.

The shipped bitstream (bitstreams/<board>/<geometry>/) is taken if its manifest is of this board, engine and
clock and its file is whole. The design is not elaborated for that, so that neither the version of a tool nor
that of Python costs a place-and-route run. ``--force`` builds anew, after a change of the RTL. What is built
lies in the cache, ``bitstreams/<board>/<start of the plan's hash>/``; in a checkout, a build of a board's own
engine at its usual clock replaces the shipped one too.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ternac import cache
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.errors import BuildFailed, DoesNotFit, UsageError
from ternac.files import write_bytes, write_json
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import BOARDS, VARIANTS, board, with_geometry
from ternac.hdl.boards.design import EngineDesign
from ternac.hdl.build.bake import bake
from ternac.hdl.build.plan import Plan, id_literal, make_plan
from ternac.hdl.build.recipe import MEMORIES, REPORT, build
from ternac.hdl.build.steps import sha256_of
from ternac.hdl.netlist.memory_map import loads, refuse_incomplete
from ternac.hdl.planner.area import area
from ternac.manifest import folder, in_checkout, read_manifest
from ternac.program.zoo import open_program

Say = Callable[[str], None]

SHIPPED_KEYS = (
    "bitstream", "sha256", "clock_mhz", "fmax_mhz", "comb", "ff", "bram", "spram", "dsp", "multiplier_cells",
    "parts", "seconds", "steps", "board", "geometry", "bitstream_id", "geometry_hash", "plan", "source",
    "tools", "report", "memories", "command",
)  # fmt: skip
"""Keys of a shipped manifest, in order; file names are relative to the manifest."""
REQUIRED = ("bitstream", "sha256", "bitstream_id", "comb", "ff", "bram", "fmax_mhz")
"""Those without which it is not taken."""


class Named(Protocol):
    """What a bitstream carries, an engine's geometry or the loopback: its folder's name, and what HELLO
    answers.
    """

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> bytes: ...


def engine_plan(target: Board, geometry: Geometry, clock_hz: int) -> Plan:
    """Return the plan of an engine bitstream. Raises BuildFailed if the design does not report its ID."""
    plan = make_plan(
        target, clock_hz, geometry.hash, lambda identity: EngineDesign(target, geometry, clock_hz, identity)
    )
    if id_literal(plan.bitstream_id) not in plan.design:
        raise BuildFailed("the design does not report the bitstream ID", "the link controller must hold it")
    return plan


def parse_clock(target: Board, mhz: float | None) -> int:
    """Return the clock in Hz. Raises UsageError if the board cannot make it."""
    if mhz is None:
        return target.clock_hz
    clock_hz = round(mhz * 1e6)
    if clock_hz <= 0:
        raise UsageError(f"a clock of {mhz:g} MHz makes no sense", "take a positive number of MHz")
    target.check_clock(clock_hz)
    return clock_hz


def shipped_figures(target: Board, geometry: Named) -> dict[str, Any] | str:
    """Return the shipped manifest with absolute file names, or else why it cannot be taken."""
    try:
        manifest = read_manifest(target.name, geometry.name)
    except UsageError as error:
        return str(error)
    where = folder(target.name, geometry.name)
    what = f"{target.name} with geometry {geometry.name} at {target.clock_hz / 1e6:g} MHz"
    if manifest is None:
        return f"no bitstream of {what} is shipped"
    want = {"board": target.name, "geometry_hash": geometry.hash.hex(), "clock_mhz": target.clock_hz / 1e6}
    for key, value in want.items():
        if manifest.get(key) != value:
            return f"the shipped bitstream has {key} {manifest.get(key)}, not {value}"
    if missing := [key for key in REQUIRED if key not in manifest]:
        return f"the shipped manifest lacks {', '.join(missing)}"
    found = dict(manifest)
    for key in ("bitstream", "report", "memories"):
        if found.get(key):
            found[key] = str(where / found[key])
            if not Path(found[key]).is_file():
                return f"{found[key]} is missing"
    if sha256_of(Path(found["bitstream"])) != found["sha256"]:
        return f"{found['bitstream']} is damaged: its SHA-256 is not that of its manifest"
    return found


def ship(target: Board, geometry: Named, figures: dict[str, Any], command: str) -> None:
    """Copy a build and its manifest into bitstreams/, unless plan and file are those that are there."""
    where = folder(target.name, geometry.name)
    old = None
    with suppress(UsageError):  # a damaged one is replaced
        old = read_manifest(target.name, geometry.name)
    if old is not None and all(old.get(key) == figures[key] for key in ("plan", "sha256")):
        return
    where.mkdir(parents=True, exist_ok=True)
    manifest = {**figures, "geometry": geometry.name, "command": command}
    for key, name in (
        ("bitstream", f"{target.name}{target.bitstream_suffix}"),
        ("report", REPORT),
        ("memories", MEMORIES),
    ):
        if figures.get(key):
            write_bytes(where / name, Path(figures[key]).read_bytes())
            manifest[key] = name
    ordered = {key: manifest[key] for key in SHIPPED_KEYS if key in manifest}
    write_json(where / "manifest.json", ordered, indent=2)


def engine_board(target: Board, geometry: Geometry | None) -> tuple[Board, Geometry, bool]:
    """Return a board with another engine, that engine, and whether it is one that the package ships for it.

    Raises DoesNotFit if the engine is too large for the chip, UsageError if its weights stream and the board
    has no SDRAM for it.
    """
    own = geometry is None or geometry.name == target.geometry
    if own and target.name in BOARDS:
        return target, target.engine, True
    geometry = geometry or target.engine
    variant = VARIANTS.get(geometry.name)
    if geometry.streams or (variant is not None and variant.name == target.name):
        return with_geometry(target, geometry.name), geometry, True
    if short := area(geometry, target).excess(target.resources):
        raise DoesNotFit(
            f"{geometry.name} would take {', '.join(short)} on {target.name}",
            "ternac explore finds some that fit",
        )
    return (target if own else replace(target, engine=geometry)), geometry, False


def bitstream_for(
    board_name: str,
    say: Say,
    *,
    model: str | None = None,
    clock_mhz: float | None = None,
    geometry: Geometry | None = None,
    force: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of a board's bitstream, with ``model`` of the one that carries it; build if need be.

    ``geometry``: another engine than the board's. ``force`` runs every step again. ``out``: copy it there.
    Raises UsageError, BuildFailed or ToolMissing; DoesNotFit or IllegalProgram if the model is not for this
    engine, or the engine not for the board.
    """
    figures = _bitstream_for(board_name, say, model, clock_mhz, geometry, force)
    if out is not None:
        write_bytes(out, Path(figures["bitstream"]).read_bytes())
        figures["bitstream"] = str(out)
    return figures


def _bitstream_for(
    board_name: str, say: Say, model: str | None, clock_mhz: float | None, asked: Geometry | None, force: bool
) -> dict[str, Any]:
    target, geometry, own = engine_board(board(board_name), asked)
    clock_hz = parse_clock(target, clock_mhz)
    if model is not None and geometry.streams:
        raise UsageError(
            f"{geometry.name} has its weights in SDRAM, which no bitstream can hold",
            "load the model over the link: ternac run --device serial:PORT",
        )
    if model is not None and target.family != "ecp5" and target.flash_offset is None:
        raise UsageError(
            f"a bitstream of {target.name} holds no model: its design reads no flash, and contents of "
            "block RAM are patched on ECP5 alone",
            "build without MODEL, then load it over the link: ternac run --device serial:PORT",
        )
    image = compile_program(open_program(model), geometry) if model is not None else None
    root = cache.folder("bitstreams")
    default = clock_hz == target.clock_hz
    if force:
        shipped: dict[str, Any] | str = "--force is given"
    elif not default:
        shipped = f"no bitstream of {target.name} at {clock_hz / 1e6:g} MHz is shipped"
    else:
        shipped = shipped_figures(target, geometry)
    if not isinstance(shipped, str):
        figures = {**shipped, "steps_run": [], "origin": "shipped bitstream"}
    else:
        say(f"{shipped}: elaborating {geometry.name} at {clock_hz / 1e6:g} MHz for {target.name}")
        plan = engine_plan(target, geometry, clock_hz)
        warn = f"placing and routing {geometry.name} for {target.name} now: {rough_time(target)}"
        figures = build(plan, root, say, force=force, warn=warn)
        ran = ", ".join(figures["steps_run"])
        figures["origin"] = f"built here: {ran}" if ran else "built here before"
        if target.family == "ecp5" and not geometry.streams:
            refuse_incomplete(loads(Path(figures["memories"]).read_text()), geometry)
        if default and own and in_checkout():
            which = ["--board", target.name, *(["--geometry", geometry.name] if asked else [])]
            command = ["ternac build", *which, "--force"]
            ship(target, geometry, figures, " ".join(command))
    figures["geometry"] = geometry.name
    if image is None:
        return figures
    out = root / target.name / f"base-{figures['sha256'][:16]}"
    out /= f"model-{image.program_hash[:16]}{target.bitstream_suffix}"
    memories = figures.get("memories")
    say(f"baking {model} into {Path(figures['bitstream']).name}, without place and route")
    bake(target, Path(figures["bitstream"]), Path(memories) if memories else None, image, out)
    return {
        **figures,
        "base_sha256": figures["sha256"],
        "bitstream": str(out),
        "sha256": sha256_of(out),
        "model": model,
        "program_hash": image.program_hash,
    }


def rough_time(target: Board) -> str:
    """Say how long a build for a board takes, from the shipped one's record."""
    with suppress(UsageError):
        for name in (target.geometry, BOARDS.get(target.name, target).geometry):
            seconds = (read_manifest(target.name, name) or {}).get("seconds")
            if isinstance(seconds, int | float):
                return f"about {max(1, round(seconds / 60))} minutes, as the shipped {name} took"
    return "minutes on a small chip, half an hour on a large one"
