"""What one multiply-accumulate costs in lookup tables, registers and clock.

Bare is the dot units and their trees (`hdl/array/bare.py`); wrapped is the column array, with memories,
pipelines, norm and sequencer, divided by its lanes, and the whole engine. Any Verilog file can
stand next to them, synthesized with the same command.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from ternac.compile.geometry import Geometry
from ternac.errors import UsageError
from ternac.hdl.array.bare import BareArray
from ternac.hdl.boards.boards import board
from ternac.hdl.build.devices import Device, device
from ternac.hdl.build.trial import Design, Say, mapped_netlist, place, placed_netlist, synthesize
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.netlist.parts import COLUMN_ARRAY, parts_of
from ternac.manifest import read_manifest

WORDS = 8
"""Words of a row that the bare accumulators have room for."""
BOARD = "ulx3s-85f"

COUNTED = (
    "everything in fabric: dot units with their adder trees and accumulators, the flags' delay line, one "
    "activation register of 8 bits a lane shared by the columns"
)
HELD = ", one register of 2 bits for each weight"
FED = "; weights, activations and sums sit in block RAM whose addresses are pins, so nothing is subtracted"
WRAPPED = (
    "the column array: dot units, weight store, x buffer, banks, pipelines, side lane, norm, their control "
    "and the sequencer, and every cell that place and route adds"
)
CORE = "the whole engine core: column array and sampler"
BITSTREAM = "the whole bitstream: engine core, link controller, UART, clock generator"
PORTS = "; weights, activations and sums are ports"


def bare_design(
    target: Device, columns: int, lanes: int, *, chain: int, fold: int, radix: int, direct: bool = False
) -> BareArray:
    """Build the bare array, between block RAMs where it can be placed.

    Raises UsageError if there can be no such shape.
    """
    try:
        return BareArray(
            columns,
            lanes,
            chain,
            WORDS * lanes,
            fold=fold,
            radix=radix,
            tech=target.tech,
            fed=not target.estimate,
            direct=direct,
        )
    except ValueError as error:
        raise UsageError(str(error), "choose --lanes, --chain and --fold so that they divide") from None


def bare(array: BareArray, target: Device, say: Say, *, placed: bool) -> dict[str, Any]:
    """Figures of the bare array, placed and routed or only synthesized."""
    unit = array.units[0]
    shape = {
        "columns": array.columns,
        "lanes": array.lanes,
        "chain": array.chain,
        "fold": unit.fold,
        "radix": unit.radix,
        "latency_cycles": unit.latency,
        "form": unit.tech.value,
    }
    text = rtlil.convert(array, name="top", emit_src=False)
    name = "-".join(["bare", target.name, *map(str, shape.values())])
    design = Design(name, "design.il", text)
    synthesis = synthesize(design, target, array.macs, say)
    figures = place(design, target, array.macs, say) if placed else synthesis
    counted = COUNTED + ("" if array.direct else HELD) + (FED if array.fed else PORTS)
    result = {**figures, **shape, "counted": counted}
    return {**result, "synthesis": synthesis} if placed else result


def wrapped(say: Say, *, placed: bool, geometry: Geometry | None = None) -> dict[str, Any]:
    """Figures of the column array of ``geometry`` (the ULX3S preset) with everything around it, divided by
    its lanes; under ``engine`` those of the whole engine.

    Placed figures are this run's, or the shipped bitstream's when its geometry is today's.
    """
    target, geometry = device("ecp5"), geometry or board(BOARD).engine
    core = EngineCore(geometry, tech=target.tech)
    text = rtlil.convert(core, name="top", emit_src=False)
    design = Design(f"wrapped-{geometry.name}", "design.il", text)
    whole = synthesize(design, target, geometry.macs, say)
    synthesis = _array_of(whole, parts_of(mapped_netlist(design, target)), CORE)
    what = {
        "geometry": geometry.name,
        "columns": geometry.columns,
        "lanes": geometry.lanes,
        "weight_code": geometry.weight_code,
        "weight_capacity": geometry.weight_capacity,
        "counted": WRAPPED,
    }
    manifest = read_manifest(BOARD, geometry.name)
    if placed:
        whole = place(design, target, geometry.macs, say)
        parts = parts_of(placed_netlist(design, target))
        return {**_array_of(whole, parts, CORE), **what, "synthesis": synthesis}
    current = manifest is not None and manifest.get("geometry_hash") == geometry.hash.hex()
    if manifest is not None and current and "parts" in manifest:
        whole = {**{key: manifest[key] for key in ("comb", "ff", "dsp", "fmax_mhz")}, "macs": geometry.macs}
        whole["origin"] = f"place and route (manifest of the shipped bitstream for {BOARD})"
        return {**_array_of(whole, manifest["parts"], BITSTREAM), **what, "synthesis": synthesis}
    return {**synthesis, **what}


def _array_of(whole: dict[str, Any], parts: dict[str, dict[str, int]], counted: str) -> dict[str, Any]:
    """The figures of ``whole`` for the column array alone: what `COLUMN_ARRAY` names, and every cell that
    belongs to no part.
    """
    outside = [own for name, own in parts.items() if name not in COLUMN_ARRAY]
    array = {key: whole[key] - sum(own[key] for own in outside) for key in ("comb", "ff")}
    share = {f"{key}_per_mac": round(cells / whole["macs"], 3) for key, cells in array.items()}
    engine = {f"{key}_per_mac": round(whole[key] / whole["macs"], 3) for key in array}
    kept = {key: value for key, value in whole.items() if key not in ("cells", "seconds")}
    return {
        **kept,
        **share,
        **array,
        "engine": {**engine, **{key: whole[key] for key in array}, "counted": counted},
    }


def peer(
    file: Path, top: str, macs: int, target: Device, ours: dict[str, dict[str, Any]], say: Say
) -> dict[str, Any]:
    """Synthesize a foreign Verilog file in the same way; its ratios are to the figures of ``ours``."""
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file} cannot be read: {error}", "name one Verilog file") from None
    figures = synthesize(Design(f"peer-{target.name}-{top}", "design.v", text, top), target, macs, say)
    ratios = {}
    for name, own in ours.items():
        base = own.get("synthesis", own)
        ratios[name] = {
            key: round(figures[key] / base[key], 3) if base[key] else None
            for key in ("comb_per_mac", "ff_per_mac")
        }
    return {
        **figures,
        "file": file.name,
        "top": top,
        "ratios": ratios,
        "ratios_origin": "this run: synthesis of the peer over synthesis of ours, same command",
    }
