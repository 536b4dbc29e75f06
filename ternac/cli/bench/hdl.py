"""``ternac bench hdl``: the engine's cycles per token, counted in the simulated board."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_board, add_geometry, add_model, engine_of, number, open_model
from ternac.cli.verb import Outcome, Say, Verb, counted
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry
    from ternac.hdl.boards.board import Board
    from ternac.program.program import Program

PROMPT = b"ROMEO:"


def bench_hdl(
    program: Program, target: Board, sessions: int, tokens: int, geometry: Geometry | None = None
) -> dict[str, Any]:
    """Count the cycles per token of the RTL over ``tokens`` tokens in each of ``sessions`` sessions.

    ``geometry``: another engine than the board's bitstream has; its clock is then an assumption.
    """
    from ternac.compile.compiler import compile_program
    from ternac.hdl.engine.schedule import batch_cycles, schedule
    from ternac.hdl.planner.estimate import routed_clock
    from ternac.host.device import Device
    from ternac.link import MAX_BATCH_TOKENS
    from ternac.run.generation import Run

    engine = geometry or target.engine
    name = engine.name
    if engine.streams:
        raise UsageError(f"the pace of {name} is its memory's", "ternac bench sdram measures it")
    image = compile_program(program, engine)
    if sessions > image.sessions:
        raise UsageError(
            f"--sessions is {sessions}; {name} holds {image.sessions} of {program.name}",
            "a memory of fewer rows leaves room for more: ternac export MODEL --rows N --even --out FILE"
            if program.memories
            else "",
        )
    together = min(sessions, len(image.entries))
    label = target.name if name == target.geometry else name
    with Device.open("sim", program, board=label, geometry=engine) as device:
        backend = device.board
        opened = [backend.open() for _ in range(sessions)]
        last = [PROMPT[-1]] * sessions
        cycles = steps = expected = 0
        before = backend.meter.cycles
        for at in range(0, sessions, together):
            group = slice(at, at + together)
            if len(opened[group]) == 1:
                for _ in range(tokens):
                    chosen, _ = backend.run(opened[at], Run([last[at]], 1))
                    last[at] = chosen[0]
                expected += tokens * schedule(image).cycles
            else:
                count = len(opened[group])
                backend.run_together(opened[group], [Run([token], tokens) for token in last[group]])
                expected += sum(
                    batch_cycles(image, count, min(MAX_BATCH_TOKENS, tokens - done))
                    for done in range(0, tokens, MAX_BATCH_TOKENS)
                )
            steps += tokens * len(opened[group])
        cycles = backend.meter.cycles - before
    clock, clock_origin = routed_clock(target, engine)
    per_token = cycles / steps
    return {
        "board": target.name,
        "geometry": name,
        "model": program.name,
        "program_hash": program.hash,
        "sessions": sessions,
        "sessions_together": together,
        "tokens": steps,
        "cycles_per_token": per_token,
        "schedule_cycles_per_token": expected / steps,
        "clock_mhz": clock,
        "tokens_per_second": clock * 1e6 / per_token,
        "macs_per_cycle": program.trits / per_token,
        "dot_unit_busy": schedule(image).dot_words / per_token,
        "origin": f"cycle-exact simulation (Verilator, engine cycles without the link) x {clock_origin}",
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_board(parser)
    add_geometry(parser)
    number(parser, "--sessions", "sessions, as many together as the engine takes", default=1, least=1)
    number(parser, "--tokens", "tokens per session (default: 4; with several sessions 24)", least=1)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import board

    tokens = args.tokens or (4 if args.sessions == 1 else 24)
    program = open_model(args.model, engine_of(args), say).program
    data = bench_hdl(program, board(args.board), args.sessions, tokens, args.geometry)
    exact = data["cycles_per_token"] == data["schedule_cycles_per_token"]
    _show(data, say)
    if not exact:
        say(f"  the schedule says {data['schedule_cycles_per_token']:,} cycles: they must be equal")
    return Outcome(data, ok=exact)


def _show(data: dict[str, Any], say: Say) -> None:
    say(
        f"{data['model']} on {data['geometry']}, {counted(data['sessions'], 'session')}: "
        f"{data['cycles_per_token']:,.0f} cycles/token"
    )
    say(f"  {data['tokens_per_second']:,.0f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['macs_per_cycle']:.0f} MACs per cycle, dot units busy {data['dot_unit_busy']:.1%}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Count the engine's cycles per token on a board, in cycle-exact simulation.",
    example="ternac bench hdl --board ulx3s-85f --sessions 2",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
