"""``ternac verify``: several executors run the same tokens and are compared, bit for bit, after each."""

from __future__ import annotations

import argparse
import time
from contextlib import ExitStack

from ternac.cli.arguments import (
    add_board,
    add_geometry,
    add_model,
    engine_of,
    names_of,
    number,
    open_model,
    refuse_unused,
)
from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.geometry import PRESETS
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS

EXECUTORS = "numpy,rtl"
ALL_EXECUTORS = "torch,numpy,isa,rtl"


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.host.executors import BOARDS, LOCAL

    add_model(parser)
    parser.add_argument(
        "--executors",
        metavar="A,B,..",
        help=f"of {', '.join((*LOCAL, *BOARDS))}; the first one is the reference "
        f"(default: {EXECUTORS}; with --geometries: {ALL_EXECUTORS})",
    )
    add_board(parser, "board of serial:PORT, whose engine is the default one", simulated=True)
    add_geometry(parser, "engine of isa, rtl, netlist and boards (default: the board's)")
    parser.add_argument(
        "--geometries",
        metavar="A,B,..",
        help="compare on these engines instead, each with every weight code, with one session and with "
        "several, on the largest shipped model that fits (or a random program)",
    )
    parser.add_argument("--all-geometries", action="store_true", help="--geometries with every engine")
    number(parser, "--tokens", "tokens to run", default=200, least=1)
    parser.add_argument(
        "--text", metavar="FILE", help="text that the tokens are taken from (default: the validation text)"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.wide import has_wide_ops
    from ternac.compile.wide_board import WIDE, is_wide_board
    from ternac.host.board.wide import wide_engine
    from ternac.host.executors import parse_executor
    from ternac.host.verify import open_runners, tokens_of
    from ternac.program.zoo import TEXT
    from ternac.progress import Progress
    from ternac.run.evaluate import read_text, split
    from ternac.sim.verify import rows_due, verify
    from ternac.text.tokenizer import tokenizer_of

    data = read_text(args.text) if args.text else split(read_text(TEXT), "val")
    if args.geometries or args.all_geometries:
        return _run_geometries(args, data, say)
    names = (args.executors or EXECUTORS).split(",")
    if not any(parse_executor(name).has_engine for name in names):
        engines = "isa, rtl, netlist or serial:PORT in --executors"
        works = {"--board": engines, **({"--geometry": f"{engines}, or without MODEL"} if args.model else {})}
        refuse_unused(args, f"--executors {','.join(names)}", works)
    geometry = engine_of(args)
    # A port without --board: the board that the engine is named after, as far as there is one.
    board = args.board if "--board" in args.given or geometry.name not in BOARDS else geometry.name
    model = open_model(args.model, geometry, say)
    program = model.program
    engine = geometry.name
    if has_wide_ops(program):
        made = f"programs without wide ops: an engine is made for this one ({WIDE}, --board {WIDE}-32x4)"
        options = ["--geometry"] if is_wide_board(args.board) else ["--board", "--geometry"]
        refuse_unused(args, f"the wide ops of {program.name}", dict.fromkeys(options, made))
        board = args.board if is_wide_board(args.board) else WIDE
        engine = wide_engine(board, program).name
    elif is_wide_board(args.board):
        raise UsageError(f"--board {args.board}: {program.name} has no wide ops", "leave --board out")
    with ExitStack() as opened:
        runners = open_runners(names, model, geometry, board, say=say)
        for runner in runners:
            opened.callback(runner.close)
        began = time.monotonic()
        if args.text is not None:
            tokenizer_of(program)  # who names a text is told if it cannot be read
        elif "tokenizer" not in program.meta:
            say(f"{program.name} has no tokenizer: random tokens")
        tokens = tokens_of(program, data, args.tokens)
        with Progress(args.tokens, f"verify {program.name}", "tokens") as bar:
            found = verify(program, runners, tokens, bar.update)
    for divergence in found:
        say(str(divergence))
    if not found:
        say(f"{args.tokens} tokens: {', '.join(names)} agree on every logit and every state word")
        compared = [index + 1 for index in range(args.tokens) if rows_due(program, index, args.tokens)]
        if len(compared) < args.tokens:
            say(f"rows of memories: compared after token {', '.join(map(str, compared))}")
    cycles = {runner.name: runner.cycles for runner in runners if runner.cycles}
    return Outcome(
        {
            "tokens": args.tokens,
            "mismatches": len(found),
            "executors": names,
            "geometry": engine,
            "model": program.name,
            "program_hash": program.hash,
            "divergences": [d.to_json() for d in found],
            "cycles": cycles,
            "origin": "cycle-exact simulation" if cycles else "run on this host",
            "seconds": round(time.monotonic() - began, 1),
        },
        ok=not found,
    )


def _run_geometries(args: argparse.Namespace, data: bytes, say: Say) -> Outcome:
    from ternac.host.verify import verify_presets

    if args.geometries and args.all_geometries:
        raise UsageError("--geometries has no effect with --all-geometries", "give one of them")
    if args.model or args.geometry or "--board" in args.given:
        text = "leave MODEL, --board and --geometry out"
        raise UsageError("--geometries choose engine and model", text)
    presets = list(PRESETS) if args.all_geometries else names_of("--geometries", args.geometries)
    executors = (args.executors or ALL_EXECUTORS).split(",")
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


VERB = Verb(
    help="Run the same tokens on several executors and compare logits and state bit for bit.",
    example="ternac verify shakespeare --executors torch,numpy,rtl --tokens 2000",
    add_arguments=_arguments,
    run=_run,
    renamed={"--presets": "--geometries", "--all-presets": "--all-geometries"},
)
