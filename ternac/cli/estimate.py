"""``ternac estimate``: cycles, speed, resources and memory use, without synthesis."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.arguments import add_board, add_geometry, add_model, engine_of, open_model
from ternac.cli.verb import Outcome, Say, Verb, counted


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_geometry(parser)
    parser.add_argument("--ops", action="store_true", help="show cycles by op")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import board
    from ternac.hdl.planner.estimate import estimate

    target = board(args.board)
    geometry = engine_of(args)
    data = estimate(open_model(args.model, geometry, say).program, target, geometry)
    _show(data, args.ops, say)
    return Outcome(data)


def _show(data: dict[str, Any], ops: bool, say: Say) -> None:
    least = " or more" if data["cycles_are"] != "exact" else ""
    say(f"{data['model']} on {data['board']}: {data['cycles_per_token']:,} cycles per token{least}")
    say(f"  {data['tokens_per_second']:,.0f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['macs_per_cycle']:.0f} MACs per cycle, dot units busy {data['dot_unit_busy']:.1%}")
    both = data["together"]
    say(
        f"  {counted(both['sessions'], 'session')} at a time: "
        f"{both['cycles_per_token']:,.0f} cycles per token, "
        f"{both['tokens_per_second']:,.0f} tokens/s in all, dot units busy {both['dot_unit_busy']:.1%}"
    )
    about = data["resources"]
    rams = "".join(f", {data[key]} {key}" for key in ("bram", "spram") if key in data)
    say(f"  {data['comb']:,} COMB, {data['ff']:,} FF{rams}")
    for text in about["too_small"]:
        say(f"  does not fit the chip: {text}")
    if data["shipped"]:
        say(f"  shipped build: {data['shipped']['comb']:,} COMB, {data['shipped']['ff']:,} FF")
    say(f"  {about['origin']}")
    joules = data["energy"]["joules_per_token"]
    amount = "" if joules is None else f"{joules * 1e6:,.1f} uJ per token, "
    say(f"  energy: {amount}{data['energy']['origin']}")
    for name, use in data["memory"].items():
        say(f"  {name:8} {use['used']:6} of {use['depth']:6} words")
    say(f"  {counted(data['sessions'], 'session')} on chip")
    for row in data["cycles_by_op"] if ops else ():
        say(f"  {row['op']:16} {row['cycles']:6} cycles {row['dot_words']:6} dot words")
    say(f"  origin: {data['origin']}")


VERB = Verb(
    help="Estimate cycles, speed, resources and memory use of a model on a board, without synthesis.",
    example="ternac estimate shakespeare --board ulx3s-85f",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
