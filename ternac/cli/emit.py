"""``ternac emit``: the engine as Verilog for other tools, with a testbench that needs only them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import (
    PORT_BITS,
    add_geometry,
    add_model,
    add_out,
    add_seed,
    number,
    open_model,
    refuse_unused,
)
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry
    from ternac.hdl.wide.shapes import WideShape

PARTS = ("kv260", "u250")
"""Names of `ternac.hdl.axi.resources.PARTS`, which imports Amaranth: slow for ``--help``. A test compares."""
TOPS = ("core", "link", "axi", "wide", "stream")
"""Names of `ternac.hdl.emit.tops.TOPS`, likewise."""
STREAM_BITS = 128
"""Width of the streaming unit's port where none is given."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "of the testbench: the largest shipped one that fits the engine, else a random program")
    parser.add_argument(
        "--top",
        choices=TOPS,
        default="link",
        help="core: the bare engine; link: behind its byte link; axi: behind AXI4-Lite and AXI4-Stream; "
        "wide: an engine for whole imported models behind AXI4-Lite and AXI4; "
        "stream: the streaming unit alone, without an engine (default: link)",
    )
    parser.add_argument(
        "--part", choices=PARTS, help="--top axi and wide: take geometry and port for this device"
    )
    add_geometry(parser, "engine (default: the part's, or tiny)")
    parser.add_argument(
        "--port-bits",
        type=int,
        choices=(0, *PORT_BITS),
        help="--top axi and stream: a streaming unit on an AXI4 port of that width; 0: without "
        f"(default: the part's; for stream {STREAM_BITS}, else 0)",
    )
    number(
        parser,
        "--clock",
        "clock of the design, which HELLO answers",
        default=100,
        least=0.001,
        most=4000,
        kind=float,
        metavar="MHZ",
    )
    number(
        parser,
        "--tokens",
        "tokens of the testbench, by argmax and as many drawn (--top wide: given)",
        default=4,
        least=1,
        most=60,
    )
    add_seed(parser, "seed of prompt, draws and activations of the testbench")
    parser.add_argument(
        "--no-lint", action="store_true", help="do not run Verilator's lint over what was written"
    )
    parser.add_argument(
        "--resources", action="store_true", help="with --part: synthesize and estimate what the block takes"
    )
    add_out(parser, "folder", metavar="DIR", default="build/emit")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import preset
    from ternac.hdl.axi.resources import PARTS, resources
    from ternac.hdl.emit.folder import WAIVERS, emit_folder, write_folder
    from ternac.hdl.emit.tops import TOPS, design
    from ternac.hdl.emit.wide import default_program
    from ternac.hdl.wide.shapes import wide_shape
    from ternac.sim.emitted import lint

    _refuse(args)
    top, part = TOPS[args.top], PARTS.get(args.part)
    geometry: Geometry | WideShape
    if top.name == "wide":
        geometry = wide_shape(part.wide if part else "tiny-wide")
        port_bits = geometry.port_bits
        # Nothing that ships is a program of wide ops.
        program = (
            default_program(args.seed) if args.model is None else open_model(args.model, None, say).program
        )
    else:
        geometry = args.geometry or preset(part.geometry if part else "tiny")
        port_bits = _port_bits(args, part.port_bits if part else 0)
        # The streaming unit takes any program: without an engine none has to fit.
        program = open_model(args.model, None if top.name == "stream" else geometry, say).program
    say(f"emitting {top.module}: about a minute for a small engine")
    folder = emit_folder(
        top,
        geometry,
        program,
        port_bits=port_bits,
        clock_hz=round(args.clock * 1e6),
        tokens=args.tokens,
        seed=args.seed,
    )
    write_folder(folder, args.out)
    data: dict[str, Any] = {
        "folder": str(args.out),
        "top": top.module,
        "geometry": None if top.name == "stream" else geometry.name,
        "port_bits": port_bits,
        "program": program.name,
        "plan": folder.manifest["plan"],
        "cells": folder.manifest["cells"],
        "files": {name: what for name, (what, _) in sorted(folder.files.items())},
        "compared": folder.vectors.compared,
        "origin": "generated from the RTL; expected results from NumPy, cycles from the closed form",
    }
    clean = True
    if not args.no_lint:
        found = lint(args.out, top.module, WAIVERS, folder.waivers)
        clean = found.clean and not found.beyond
        data["lint"] = {"clean": clean, "waived": found.waived, "beyond": list(found.beyond)}
    if args.resources and part is not None:
        data["resources"] = resources(design(top, geometry, port_bits=port_bits), part)
    _show(data, say)
    return Outcome(data, clean)


def _refuse(args: argparse.Namespace) -> None:
    """Raise UsageError if an option has no effect."""
    if args.resources and args.part is None:
        raise UsageError("--resources needs --part", f"parts: {', '.join(PARTS)}")
    if args.out.suffix == ".v":
        raise UsageError(f"--out {args.out}: a folder is needed", f"write --out {args.out.with_suffix('')}")
    if args.top not in ("axi", "wide"):
        refuse_unused(args, f"--top {args.top}", {"--part": "--top axi or wide"})
    if args.top == "wide":
        works = "--top core, link or axi; --part chooses the engine and its port"
        refuse_unused(args, "--top wide", dict.fromkeys(("--geometry", "--clock", "--port-bits"), works))
    if args.top in ("core", "link"):
        refuse_unused(args, f"--top {args.top}", {"--port-bits": "--top axi or stream"})
    if args.top == "stream":
        works = "--top core, link or axi"
        refuse_unused(args, "--top stream", dict.fromkeys(("--geometry", "--clock", "--tokens"), works))
    if args.top == "core":
        refuse_unused(args, "--top core", {"--clock": "--top link or axi"})


def _port_bits(args: argparse.Namespace, of_part: int) -> int:
    if args.top == "stream":
        if args.port_bits == 0:
            raise UsageError("--top stream needs an AXI4 port", f"write --port-bits {STREAM_BITS}")
        return args.port_bits or STREAM_BITS
    return of_part if args.port_bits is None else int(args.port_bits)


def _show(data: dict[str, Any], say: Say) -> None:
    for name, what in data["files"].items():
        say(f"{data['folder']}/{name}: {what}")
    for text in data["compared"]:
        say(f"the testbench compares {text}")
    if "lint" in data:
        found = data["lint"]
        parts = ", ".join(f"{number} {key}" for key, number in found["waived"].items())
        say(f"lint, -Wall: {sum(found['waived'].values())} warnings with a reason ({parts})")
        for text in found["beyond"]:
            say(f"  without a reason: {text}")
    if "resources" in data:
        found = data["resources"]
        say(
            f"{found['part']}: {found['lut']:,} LUT ({found['lut_share']:.1%}), {found['ff']:,} FF, "
            f"{found['bram36']:g} block RAMs, no DSP; {found['origin']}"
        )
    say(f"run it: make -C {data['folder']} icarus")


VERB = Verb(
    help="Write the engine as Verilog for other tools, with testbench, waivers and, for AXI, a register map.",
    example="ternac emit --geometry tiny --out build/emit",
    add_arguments=_arguments,
    run=_run,
)
