"""``ternac build``: the bitstream of a board, with a model or without: shipped, from the cache, or built now.

The shipped bitstream (bitstreams/<board>/<geometry>/) is used as it is if its plan is the one that would be
built now. Baking a model asks less: the same design and constraints are enough, so another version of a tool
does not cost a place-and-route run. What is built here lies in the cache, ``bitstreams/<board>/<start of the
plan's hash>/``; in a checkout, a build at the board's usual clock replaces the shipped one too.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ternac import cache
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, preset
from ternac.errors import BuildFailed, UsageError
from ternac.files import write_bytes, write_json
from ternac.hdl.boards.boards import Board, board, with_geometry
from ternac.hdl.boards.design import EngineDesign
from ternac.hdl.build.bake import bake
from ternac.hdl.build.plan import Plan, id_literal, make_plan
from ternac.hdl.build.recipe import MEMORIES, REPORT, build, directory_of
from ternac.hdl.build.steps import sha256_of
from ternac.hdl.netlist.memory_map import loads, refuse_incomplete
from ternac.manifest import folder, in_checkout, read_manifest
from ternac.program.zoo import open_program

Say = Callable[[str], None]

SHIPPED_KEYS = (
    "bitstream", "sha256", "clock_mhz", "fmax_mhz", "comb", "ff", "bram", "spram", "dsp", "multiplier_cells",
    "parts", "seconds", "steps", "board", "geometry", "bitstream_id", "geometry_hash", "plan", "source",
    "tools", "report", "memories", "command",
)  # fmt: skip
"""Keys of a shipped manifest, in order; file names are relative to the manifest."""


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


def shipped_figures(target: Board, geometry: Geometry) -> dict[str, Any] | None:
    """Return the shipped manifest with absolute file names, None if there is none or a file is damaged."""
    manifest = read_manifest(target.name, geometry.name)
    if manifest is None:
        return None
    where = folder(target.name, geometry.name)
    found = dict(manifest)
    for key in ("bitstream", "report", "memories"):
        if found.get(key):
            found[key] = str(where / found[key])
    bitstream = Path(found["bitstream"])
    return found if bitstream.is_file() and sha256_of(bitstream) == found["sha256"] else None


def ship(target: Board, geometry: Geometry, figures: dict[str, Any], command: str) -> None:
    """Copy a build and its manifest into bitstreams/, unless plan and file are those that are there."""
    where = folder(target.name, geometry.name)
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


def bitstream_for(
    board_name: str,
    say: Say,
    *,
    model: str | None = None,
    clock_mhz: float | None = None,
    engine: str | None = None,
    force: bool = False,
    out: Path | None = None,
) -> dict[str, Any]:
    """Return the figures of a board's bitstream, with ``model`` of the one that carries it; build if need be.

    ``engine``: another geometry of the board. ``force`` runs every step again. ``out``: copy it there too.
    Raises UsageError, BuildFailed or ToolMissing; DoesNotFit or IllegalProgram if the model is not for this
    board's engine.
    """
    figures = _bitstream_for(board_name, say, model, clock_mhz, engine, force)
    if out is not None:
        write_bytes(out, Path(figures["bitstream"]).read_bytes())
        figures["bitstream"] = str(out)
    return figures


def _bitstream_for(
    board_name: str, say: Say, model: str | None, clock_mhz: float | None, engine: str | None, force: bool
) -> dict[str, Any]:
    target = with_geometry(board(board_name), engine)
    clock_hz = parse_clock(target, clock_mhz)
    geometry = preset(target.geometry)
    if model is not None and geometry.streams:
        raise UsageError(
            f"{geometry.name} has its weights in SDRAM, which no bitstream can hold",
            "load the model over the link: ternac run --device serial:PORT",
        )
    image = compile_program(open_program(model), geometry) if model is not None else None
    root = cache.folder("bitstreams")
    say(f"{target.name}: elaborating geometry {geometry.name} at {clock_hz / 1e6:g} MHz")
    plan = engine_plan(target, geometry, clock_hz)
    default = clock_hz == target.clock_hz
    shipped = shipped_figures(target, geometry) if default and not force else None
    same = "plan" if image is None else "source"
    current = {"plan": plan.hash, "source": plan.source_hash}
    if shipped is not None and shipped.get(same) == current[same]:
        figures = {**shipped, "steps_run": [], "origin": "shipped bitstream, made from the same plan"}
    else:
        figures = build(plan, root, say, force=force)
        ran = ", ".join(figures["steps_run"])
        figures["origin"] = f"built here: {ran}" if ran else "built here before"
        if target.flash_offset is None and not geometry.streams:
            refuse_incomplete(loads(Path(figures["memories"]).read_text()), geometry)
        if default and in_checkout():
            which = ["--board", target.name, *(["--geometry", engine] if engine else [])]
            command = ["ternac build", *which, "--force"]
            ship(target, geometry, figures, " ".join(command))
    figures["geometry"] = geometry.name
    if image is None:
        return figures
    out = directory_of(plan, root) / f"model-{image.program_hash[:16]}{target.bitstream_suffix}"
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
