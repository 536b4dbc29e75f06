"""``ternac bench gpu``: decode beside the memory's bandwidth, prompts in TOPS, both beside bf16 torch."""

from __future__ import annotations

import argparse
import importlib
import time

from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.program.mmfree_sizes import SHAPES


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--geometry", choices=SHAPES, default="2.7b", help="published size, random trits (default: 2.7b)"
    )
    parser.add_argument("--sessions", type=int, default=64, metavar="N", help="at a time (default: 64)")
    parser.add_argument("--prompt", type=int, default=512, metavar="N", help="tokens (default: 512)")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="of all candidates (default: 15)")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    for name in ("sessions", "prompt", "rounds"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}, needs at least 1")
    importlib.import_module("ternac.host.gpu.where").need("cuda")
    began = time.monotonic()
    measure = importlib.import_module("ternac.host.gpu.bench").measure  # torch is an optional package
    shape = SHAPES[args.geometry]
    data = measure(shape, "cuda", args.sessions, args.prompt, args.rounds, say)
    for row in data["rows"]:
        share = row["share_of_bandwidth"]
        words = "" if share is None else f", {share:.1%} of the memory's bandwidth"
        bf16 = row["ratio_to"]["bf16"]
        words += "" if bf16 is None else f", {bf16:g} x bf16"
        tops = "" if row["tops"] is None else f", {row['tops']:g} TOPS"
        say(f"  {row['kernel']:34} {row['tokens_per_second']:12,.1f} tokens/s{words}{tops}")
    say(f"  {data['rows'][0]['origin']}")
    return Outcome(data | {"seconds": round(time.monotonic() - began, 1)})


VERB = Verb(
    help="The GPU executor: decode beside the memory's bandwidth, prompts in TOPS, both beside bf16 torch.",
    example="ternac bench gpu --geometry 2.7b --json",
    add_arguments=_arguments,
    run=_run,
)
