"""``ternac bench array``: what one multiply-accumulate costs in lookup tables, registers and clock."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_geometry, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.hdl.build.devices import DEVICES

    parser.add_argument("--family", choices=DEVICES, default="ecp5", help="device family (default: ecp5)")
    number(parser, "--columns", "dot units", default=10)
    number(parser, "--lanes", "lanes of each", default=192)
    number(parser, "--chain", "register stages of a chain (default: the family's)")
    number(parser, "--fold", "lanes added at a stage (default: the family's)")
    number(parser, "--radix", "sums added at a register of the tree (default: the family's)")
    parser.add_argument("--portable", action="store_true", help="plain Amaranth, no instantiated cells")
    parser.add_argument("--direct", action="store_true", help="no registers for the weights")
    add_geometry(parser, "engine to wrap (default: the board's)")
    parser.add_argument("--no-place", action="store_true", help="synthesize only")
    parser.add_argument("--place", action="store_true", help="place and route the wrapped array too")
    parser.add_argument(
        "--peer", type=Path, metavar="FILE", help="a Verilog file to measure with the same command"
    )
    parser.add_argument("--top", metavar="NAME", help="the peer's top module")
    number(parser, "--macs", "multiply-accumulates per cycle of the peer", least=1)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.build.array_bench import bare, bare_design, peer, wrapped
    from ternac.hdl.build.devices import device
    from ternac.hdl.cells.tech import Technology

    target = device(args.family)
    if args.portable:
        target = replace(target, tech=Technology.PORTABLE)
    if (args.peer is None, args.top is None, args.macs is None) not in ((True,) * 3, (False,) * 3):
        raise UsageError("--peer, --top and --macs belong together", "give all three or none")
    if args.place and (target.estimate or args.no_place):
        raise UsageError("--place needs --family ecp5 and contradicts --no-place")
    if args.geometry and target.estimate:
        raise UsageError("--geometry needs --family ecp5: no other wraps the engine")
    shape = {
        name: getattr(target.shape, name) if getattr(args, name) is None else getattr(args, name)
        for name in ("chain", "fold", "radix")
    }
    array = bare_design(target, args.columns, args.lanes, **shape, direct=args.direct)
    found = {"bare": bare(array, target, say, placed=not (args.no_place or target.estimate))}
    if not target.estimate:
        found["wrapped"] = wrapped(say, placed=args.place, geometry=args.geometry)
    if args.peer is not None:
        found["peer"] = peer(args.peer, args.top, args.macs, target, found, say)
    _show(found, say)
    return Outcome({"device": target.name, "comb": target.unit, **found, "origin": "each part names its own"})


def _show(found: dict[str, dict[str, Any]], say: Say) -> None:
    for name, figures in found.items():
        clock = f", {figures['fmax_mhz']} MHz" if figures["fmax_mhz"] else ""
        say(f"{name}: {figures['comb_per_mac']:.2f} COMB and {figures['ff_per_mac']:.2f} FF per MAC{clock}")
        say(f"  {figures['macs']:,} MACs; {figures['origin']}")


VERB = Verb(
    help="Count what a multiply-accumulate costs: bare array, whole engine, and any Verilog file.",
    example="ternac bench array --family ecp5 --columns 1 --lanes 48 --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--device": "--family"},
)
