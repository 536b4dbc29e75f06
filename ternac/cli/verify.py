"""``ternac verify``: several executors run the same tokens and are compared, bit for bit, after each."""

from __future__ import annotations

import argparse
import time

import numpy as np

from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.compile.geometry import PRESETS, preset
from ternac.errors import UsageError
from ternac.host.executors import BOARDS, DEFAULT_BOARD, LOCAL
from ternac.host.verify import Subject, default_subject, open_runners, verify_presets
from ternac.program.zoo import TEXT
from ternac.progress import Progress
from ternac.run.evaluate import encode, read_text, split
from ternac.sim.verify import verify

EXECUTORS = "numpy,rtl"
PRESET_EXECUTORS = "torch,numpy,isa,rtl"


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser, fitting=True)
    parser.add_argument(
        "--executors",
        metavar="A,B,..",
        help=f"of {', '.join((*LOCAL, *BOARDS))}; the first one is the reference "
        f"(default: {EXECUTORS}; with presets: {PRESET_EXECUTORS})",
    )
    parser.add_argument(
        "--presets",
        metavar="A,B,..",
        help="compare on these engine presets instead, each with every weight code, with one session and "
        "with several, on the largest shipped model that fits (or a random program)",
    )
    parser.add_argument("--all-presets", action="store_true", help="--presets with every preset")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument(
        "--text", metavar="FILE", help="text that the tokens are taken from (default: the validation text)"
    )
    parser.add_argument(
        "--geometry", choices=PRESETS, default=DEFAULT_BOARD, help="engine of isa, rtl and netlist "
        f"(default: {DEFAULT_BOARD})",
    )  # fmt: skip


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.tokens < 1:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 1")
    data = read_text(args.text) if args.text else split(read_text(TEXT), "val")
    if args.presets or args.all_presets:
        return _run_presets(args, data, say)
    names = [name.strip() for name in (args.executors or EXECUTORS).split(",")]
    geometry = preset(args.geometry)
    subject = Subject.of(args.model) if args.model else default_subject(geometry)
    program = subject.program
    if subject.path is None:
        say(f"no shipped model fits {geometry.name}: a random program of {program.trits:,} ternary weights")
    runners = open_runners(names, subject, geometry)
    began = time.monotonic()
    try:
        if args.text is None and "tokenizer" not in program.meta:
            say(f"{program.name} has no tokenizer: random tokens")
            tokens = np.random.default_rng(0).integers(0, program.vocab, args.tokens)
        else:
            tokens = np.resize(encode(program, data), args.tokens)
        with Progress(args.tokens, f"verify {program.name}", "tokens") as bar:
            found = verify(program, runners, tokens.tolist(), bar.update)
    finally:
        for runner in runners:
            runner.close()
    for divergence in found:
        say(str(divergence))
    if not found:
        say(f"{args.tokens} tokens: {', '.join(names)} agree on every logit and every state word")
    cycles = {runner.name: runner.cycles for runner in runners if runner.cycles}
    return Outcome(
        {
            "tokens": args.tokens,
            "mismatches": len(found),
            "executors": names,
            "geometry": args.geometry,
            "model": program.name,
            "program_hash": program.hash,
            "divergences": [d.to_json() for d in found],
            "cycles": cycles,
            "origin": "cycle-exact simulation" if cycles else "run on this host",
            "seconds": round(time.monotonic() - began, 1),
        },
        ok=not found,
    )


def _run_presets(args: argparse.Namespace, data: bytes, say: Say) -> Outcome:
    if args.model:
        raise UsageError(f"MODEL is {args.model!r}, but --presets choose their own", "leave one of both out")
    presets = list(PRESETS) if args.all_presets else [name.strip() for name in args.presets.split(",")]
    executors = [name.strip() for name in (args.executors or PRESET_EXECUTORS).split(",")]
    began = time.monotonic()
    rows = []
    for row in verify_presets(presets, executors, args.tokens, data):
        rows.append(row)
        verdict = "FAIL" if row["mismatches"] else "equal"
        say(
            f"{verdict:5}  {row['geometry']:16} {row['weight_code']:8} {row['sessions']} sessions  "
            f"{row['model']} ({row['trits']:,} trits)  {','.join(row['executors'])}  "
            f"{row['tokens']} tokens, {row['seconds']:.0f} s"
        )
        for divergence in row["divergences"]:
            say(f"       {divergence}")
    mismatches = sum(row["mismatches"] for row in rows)
    return Outcome(
        {
            "rows": rows,
            "mismatches": mismatches,
            "seconds": round(time.monotonic() - began, 1),
            "origin": "cycle-exact simulation",
        },
        ok=not mismatches,
    )


VERBS = {
    "verify": Verb(
        help="Run the same tokens on several executors and compare logits and state bit for bit.",
        example="ternac verify shakespeare --executors torch,numpy,rtl --tokens 2000",
        add_arguments=_arguments,
        run=_run,
    )
}
