"""``ternac integrate``: the engine as a block for a design made with other tools."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.arguments import PORT_BITS, add_geometry, add_out, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

PARTS = ("kv260",)
"""Names of `ternac.hdl.axi.resources.PARTS`, which imports Amaranth: slow for ``--help``. A test compares."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--part", choices=PARTS, help="take geometry and port for this device")
    add_geometry(parser, "engine (default: the part's, or tiny)")
    parser.add_argument(
        "--port-bits",
        type=int,
        choices=(0, *PORT_BITS),
        help="with a streaming unit on an AXI4 port of that width; 0: without (default: the part's, or 0)",
    )
    parser.add_argument(
        "--resources", action="store_true", help="synthesize for the part and estimate what the block takes"
    )
    number(
        parser,
        "--clock",
        "clock of the block, for HELLO",
        default=100,
        least=0.001,
        most=4000,
        kind=float,
        metavar="MHZ",
    )
    add_out(parser, "folder", metavar="DIR", default="build/axi")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import preset
    from ternac.hdl.axi.package import NAME, axi_design, write_files
    from ternac.hdl.axi.resources import PARTS, resources

    if args.resources and args.part is None:
        raise UsageError("--resources needs --part", f"parts: {', '.join(PARTS)}")
    part = PARTS.get(args.part)
    shape = args.geometry or preset(part.geometry if part else "tiny")
    geometry = shape.name
    port_bits = args.port_bits if args.port_bits is not None else part.port_bits if part else 0
    if shape.streams:
        raise UsageError(f"{geometry} has its weights in an SDRAM on its own pins", "take another geometry")
    files = write_files(axi_design(shape, port_bits, round(args.clock * 1e6)), args.out)
    data: dict[str, Any] = {
        "folder": str(args.out),
        "top": NAME,
        "geometry": geometry,
        "port_bits": port_bits,
        "files": files,
        "origin": "generated from the RTL and one register table",
    }
    if args.resources and part is not None:
        data["resources"] = resources(axi_design(shape, port_bits, 0), part)
    _show(data, say)
    return Outcome(data)


def _show(data: dict[str, Any], say: Say) -> None:
    for name, what in data["files"].items():
        say(f"{data['folder']}/{name}: {what}")
    if "resources" in data:
        found = data["resources"]
        say(
            f"{found['part']}: {found['lut']:,} LUT ({found['lut_share']:.1%}), {found['ff']:,} FF, "
            f"{found['bram36']:g} block RAMs, no DSP; {found['origin']}"
        )


VERB = Verb(
    help="Write the engine as an AXI block: Verilog, register map, FuseSoC core, Vivado script.",
    example="ternac integrate --part kv260 --out build/axi",
    add_arguments=_arguments,
    run=_run,
)
