"""``ternac bench gpu``: the GPU executor against the memory's bandwidth and bf16 torch."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ternac.cli.arguments import number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.program.mmfree import SHAPES


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", choices=SHAPES, default="2.7b", help="published size, random trits (default: 2.7b)"
    )
    number(parser, "--sessions", "sessions at a time", default=64, least=1)
    number(parser, "--prompt", "tokens of a prompt", default=512, least=1)
    number(parser, "--rounds", "rounds of all candidates", default=15, least=1)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.gpu.where import need

    need("cuda")
    from ternac.host.gpu.bench import measure  # torch is an optional package: `need` says how to get it

    began = time.monotonic()
    data = measure(SHAPES[args.size], "cuda", args.sessions, args.prompt, args.rounds, say)
    _show(data, say)
    return Outcome(data | {"seconds": round(time.monotonic() - began, 1)})


def _show(data: dict[str, Any], say: Say) -> None:
    for row in data["rows"]:
        share = row["share_of_bandwidth"]
        words = "" if share is None else f", {share:.1%} of the memory's bandwidth"
        bf16 = row["ratio_to"]["bf16"]
        words += "" if bf16 is None else f", {bf16:g} x bf16"
        tops = "" if row["tops"] is None else f", {row['tops']:g} TOPS"
        say(f"  {row['kernel']:34} {row['tokens_per_second']:12,.1f} tokens/s{words}{tops}")
    say(f"  {data['rows'][0]['origin']}")


VERB = Verb(
    help="Measure the GPU executor: tokens and prompts, against the memory's bandwidth and bf16 torch.",
    example="ternac bench gpu --size 2.7b --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--geometry": "--size"},
)
