"""``ternac bench link``: how much of the engine's speed comes over the line, cycle by cycle."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_board, add_model, number, open_model
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.hdl.boards.board import Board
    from ternac.program.program import Program

WORK = 160_000
"""Cycles of work in an answer by default: about 2 ms."""
ANSWERS = 3


def bench_link(target: Board, program: Program, chunk: int | None, turnaround: float) -> dict[str, Any]:
    """Run one session over the board's line, one request at a time and as many as its buffers allow.

    ``chunk``: tokens in an answer, 1 to 255. ``turnaround``: seconds the host takes from an answer to the
    request that it lets go (a USB bridge takes about 1 ms).
    """
    from ternac.compile.compiler import compile_program
    from ternac.hdl.engine.schedule import schedule
    from ternac.link import MAX_WORDS
    from ternac.sim.line import expected_tokens, run_line

    geometry = target.engine
    if geometry.streams:
        raise UsageError(f"{geometry.name} is bound by its memory, not by its line")
    cycles = schedule(compile_program(program, geometry)).cycles
    chunk = chunk or min(MAX_WORDS, max(8, WORK // cycles))
    rows = []
    for window in sorted({1, target.window}):
        run = run_line(
            target.clock_hz,
            target.baud,
            cycles,
            window=window,
            chunk=chunk,
            answers=ANSWERS,
            turnaround=turnaround,
        )
        rows.append(
            {
                "window": window,
                "tokens_per_second": target.clock_hz * run.between / run.cycles,
                "engine_share": run.engine_share,
                "tokens_right": run.tokens == expected_tokens(chunk * ANSWERS),
            }
        )
    return {
        "board": target.name,
        "model": program.name,
        "clock_mhz": target.clock_hz / 1e6,
        "baud": target.baud,
        "cycles_per_token": cycles,
        "tokens_per_answer": chunk,
        "turnaround_ms": turnaround * 1e3,
        "rows": rows,
        "origin": "cycle-exact simulation of UART, buffers and link controller; the engine is a stand-in "
        "with as many cycles a token as the real one's schedule; the host's turnaround is assumed",
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.link import MAX_WORDS

    add_model(parser)
    add_board(parser)
    number(parser, "--chunk", "tokens in an answer (default: about 2 ms of work)", least=1, most=MAX_WORDS)
    number(
        parser,
        "--turnaround",
        "the host's, in milliseconds",
        default=1,
        least=0,
        most=100,
        kind=float,
        metavar="MS",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import board

    target = board(args.board)
    program = open_model(args.model, target.engine, say).program
    data = bench_link(target, program, args.chunk, args.turnaround / 1e3)
    _show(data, say)
    return Outcome(data, ok=all(row["tokens_right"] for row in data["rows"]))


def _show(data: dict[str, Any], say: Say) -> None:
    say(
        f"{data['model']} on {data['board']}: {data['cycles_per_token']:,} cycles/token at "
        f"{data['clock_mhz']:g} MHz, {data['baud']:,} baud, {data['tokens_per_answer']} tokens an answer, "
        f"host {data['turnaround_ms']:g} ms"
    )
    for row in data["rows"]:
        say(
            f"  {row['window']} request(s) in flight: {row['tokens_per_second']:>9,.0f} tokens/s, "
            f"{row['engine_share']:.1%} of the engine's"
        )
    say(f"  {data['origin']}")


VERB = Verb(
    help="Count how much of the engine's speed comes over the line.",
    example="ternac bench link --board ulx3s-85f --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
