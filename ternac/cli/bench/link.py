"""``ternac bench link``: what of the engine's speed comes over the line, cycle by cycle."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.compiler import compile_program
from ternac.compile.fitting import largest_model
from ternac.compile.geometry import preset
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, Board, board
from ternac.hdl.engine.schedule import schedule
from ternac.link import MAX_WORDS
from ternac.program.zoo import DEFAULT, open_program

__all__ = ["VERB", "bench_link"]

WORK = 160_000
"""Cycles of work in an answer by default: about 2 ms."""
ANSWERS = 3


def bench_link(target: Board, model: str, chunk: int | None, turnaround: float) -> dict[str, Any]:
    """One session over the board's line with one request at a time, and with as many as its buffers allow.

    ``chunk``: tokens in an answer, 1 to 255. ``turnaround``: seconds the host takes from an answer to the
    request that it lets go (a USB bridge takes about 1 ms).
    """
    from ternac.sim.line import expected_tokens, run_line

    geometry = preset(target.geometry)
    if geometry.streams:
        raise UsageError(f"{geometry.name} is bound by its memory, not by its line")
    cycles = schedule(compile_program(open_program(model), geometry)).cycles
    chunk = chunk or min(MAX_WORDS, max(8, WORK // cycles))
    rows = []
    for window in sorted({1, target.window}):
        run = run_line(
            target.clock_hz, target.baud, cycles,
            window=window, chunk=chunk, answers=ANSWERS, turnaround=turnaround,
        )  # fmt: skip
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
        "model": model,
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
    parser.add_argument("--board", choices=BOARDS, default="ulx3s-85f", help="default: ulx3s-85f")
    parser.add_argument("--model", help="program file or shipped model (default: the largest that fits)")
    parser.add_argument(
        "--chunk", type=int, metavar="N", help="tokens in an answer (default: about 2 ms of work)"
    )
    parser.add_argument(
        "--turnaround", type=float, default=1.0, metavar="MS", help="the host's, in milliseconds (default: 1)"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.chunk is not None and not 1 <= args.chunk <= MAX_WORDS:
        raise UsageError(f"--chunk is {args.chunk}, needs 1 to {MAX_WORDS}")
    if not 0 <= args.turnaround <= 100:
        raise UsageError(f"--turnaround is {args.turnaround}, needs 0 to 100 milliseconds")
    target = board(args.board)
    model = args.model or largest_model(preset(target.geometry)) or DEFAULT
    data = bench_link(target, model, args.chunk, args.turnaround / 1e3)
    say(
        f"{data['model']} on {data['board']}: {data['cycles_per_token']:,} cycles/token at "
        f"{data['clock_mhz']:g} MHz, {data['baud']:,} baud, {data['tokens_per_answer']} tokens an answer, "
        f"host {data['turnaround_ms']:g} ms"
    )
    for row in data["rows"]:
        say(
            f"  {row['window']} request(s) under way: {row['tokens_per_second']:>9,.0f} tokens/s, "
            f"{row['engine_share']:.1%} of the engine's"
        )
    say(f"  {data['origin']}")
    return Outcome(data, ok=all(row["tokens_right"] for row in data["rows"]))


VERB = Verb(
    help="What of the engine's speed comes over the line.",
    example="ternac bench link --board ulx3s-85f --json",
    add_arguments=_arguments,
    run=_run,
)
