"""Cost of a model on a board, by schedule and area model, without synthesis."""

from __future__ import annotations

from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.row_store import SECTORS
from ternac.errors import DoesNotFit
from ternac.hdl.boards.board import Board
from ternac.hdl.boards.boards import VARIANTS
from ternac.hdl.engine.schedule import Schedule, batch_cycles, schedule
from ternac.hdl.planner.area import area, model_error
from ternac.link import MAX_BATCH_TOKENS
from ternac.manifest import read_manifest
from ternac.program.program import Program


def routed_clock(target: Board, geometry: Geometry | None = None) -> tuple[float, str]:
    """Design clock in MHz and where it comes from: the shipped build, or the board's stated clock.

    ``geometry``: of another engine on the board; one that the board has no bitstream for takes the clock of
    the board's own, and the text says so.
    """
    if geometry is not None:
        variant = VARIANTS.get(geometry.name, target)
        target = variant if variant.name == target.name else target
        if geometry.name != target.geometry:
            clock, origin = routed_clock(target)
            return clock, f"clock of {target.geometry}, assumed ({origin})"
    manifest = read_manifest(target.name, target.geometry)
    if manifest is None:
        return target.clock_hz / 1e6, "stated clock, no build shipped"
    return float(manifest["clock_mhz"]), "routed clock of the shipped build"


def memory_use(image: Image) -> dict[str, dict[str, int]]:
    """Words used and available of every memory."""
    use = {
        mem.name.lower(): {"used": int(words.shape[1]), "depth": image.geometry.memory(mem).depth}
        for mem, words in image.memories.items()
    }
    bank = image.state_base + image.sessions * image.state_slots
    use[Mem.BANK.name.lower()] = {"used": bank, "depth": image.geometry.bank_depth}
    if image.geometry.rows:
        rows = image.row_start(image.sessions - 1) + image.row_words
        depth = SECTORS if image.geometry.stores_rows else image.geometry.rows
        use[Mem.ROWS.name.lower()] = {"used": rows, "depth": depth}
    return use


def cycles_by_op(plan: Schedule) -> list[dict[str, Any]]:
    """Name, cycles and dot words of every pass, in order."""
    return [{"op": p.name, "cycles": p.cycles, "dot_words": p.dot_words} for p in plan.passes]


def shipped(target: Board, geometry: Geometry) -> dict[str, Any] | None:
    """Resources and clock of the shipped build; None when that is of another geometry."""
    manifest = read_manifest(target.name, geometry.name)
    if manifest is None or manifest.get("geometry_hash") != geometry.hash.hex():
        return None
    keys = ("comb", "ff", "bram", "spram", "dsp", "clock_mhz", "fmax_mhz")
    figures = {key: manifest[key] for key in keys if key in manifest}
    return {**figures, "origin": "place and route (manifest of the shipped bitstream)"}


def resources(target: Board, geometry: Geometry) -> dict[str, Any]:
    """``comb``, ``ff``, ``bram`` (``spram``), ``dsp`` by the area model, and of the shipped build."""
    found = area(geometry, target)
    missing = found.excess(target.resources)
    return {
        "comb": found.comb,
        "ff": found.ff,
        "bram": found.bram,
        **({"spram": found.spram} if found.spram is not None else {}),
        "dsp": 0,
        "resources": {
            "available": target.resources,
            "fits": not missing,
            "too_small": missing,
            "comb_by_group": found.comb_by_group,
            "ff_by_group": found.ff_by_group,
            "bram_by_memory": found.bram_by_memory,
            "origin": f"estimate: area model, within {model_error(target.family):.1%} of every build that it "
            "was checked on (docs/planner.md); block RAM counted",
        },
        "shipped": shipped(target, geometry),
    }


def streamed_resources(target: Board, geometry: Geometry) -> dict[str, Any]:
    """Return the same for an engine whose weights stream, from its build: the area model does not cover it.

    Raises DoesNotFit if no build of it is shipped.
    """
    found = shipped(target, geometry)
    if found is None:
        raise DoesNotFit(
            f"no build of {geometry.name} is shipped, and the area model does not cover streamed weights",
            f"build it: ternac build --board {target.name} --geometry {geometry.name}",
        )
    return {
        **{key: found[key] for key in ("comb", "ff", "bram", "dsp")},
        "resources": {
            "available": target.resources,
            "fits": True,
            "too_small": [],
            "origin": found["origin"],
        },
        "shipped": found,
    }


def energy(target: Board, tokens_per_second: float, *, exact: bool) -> dict[str, Any]:
    """Bound the energy of a token from above: power of the supply over an ``exact`` speed, else nothing."""
    if not exact:
        return {"joules_per_token": None, "origin": "not estimated: the speed is only bounded from above"}
    return {
        "joules_per_token": target.supply_watts / tokens_per_second,
        "origin": f"estimate, an upper bound: the {target.supply_watts:g} W that a USB 2.0 port gives the "
        "whole board, over tokens per second; no board has been measured",
    }


def together(image: Image, plan: Schedule, clock: float) -> dict[str, Any]:
    """Return the figures of all contexts at the same time, over the longest BATCH; ``clock`` in MHz."""
    contexts = len(image.entries)
    cycles = batch_cycles(image, contexts, MAX_BATCH_TOKENS)
    per_token = cycles / (contexts * MAX_BATCH_TOKENS)
    return {
        "sessions": contexts,
        "cycles_per_token": round(per_token, 2),
        "tokens_per_second": clock * 1e6 / per_token,
        "dot_unit_busy": plan.dot_words / per_token,
    }


def estimate(program: Program, target: Board, geometry: Geometry | None = None) -> dict[str, Any]:
    """Return the figures of ``program`` on a board, with the board's engine unless another is given.

    Raises DoesNotFit or IllegalProgram if the compiler does, DoesNotFit if the chip cannot form a memory.
    """
    geometry = geometry or target.engine
    image = compile_program(program, geometry)
    plan = schedule(image)
    clock, clock_origin = routed_clock(target, geometry)
    exact = "closed-form schedule (held equal to the RTL by tests)"
    if geometry.streams:
        exact = "lower bound: closed-form schedule, as if the memory gave a word every cycle"
    speed = clock * 1e6 / plan.cycles
    return {
        "board": target.name,
        "geometry": geometry.name,
        "model": program.name,
        "program_hash": program.hash,
        "cycles_per_token": plan.cycles,
        "cycles_are": "a lower bound" if geometry.streams else "exact",
        "clock_mhz": clock,
        "tokens_per_second": speed,
        "macs_per_cycle": program.trits / plan.cycles,
        "dot_unit_busy": plan.dot_words / plan.cycles,
        "together": together(image, plan, clock),
        **(streamed_resources if geometry.streams else resources)(target, geometry),
        "bytes_per_token": plan.dot_words * image.geometry.chain * image.geometry.stage_bits // 8,
        "energy": energy(target, speed, exact=not geometry.streams),
        "sessions": image.sessions,
        "memory": memory_use(image),
        "cycles_by_op": cycles_by_op(plan),
        "origin": f"{exact} x {clock_origin}; resources name their own",
    }
