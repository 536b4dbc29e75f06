"""``ternac bench``: figures with their origin. ``hdl`` counts the engine's cycles in the simulated board; the
others have modules of their own.
"""

from __future__ import annotations

import argparse
from typing import Any

from ternac.compile import compile_program
from ternac.errors import UsageError
from ternac.geometry import preset
from ternac.hdl.boards import BOARDS, Board, board
from ternac.hdl.estimate import routed_clock
from ternac.hdl.schedule import schedule
from ternac.host import bench_stream
from ternac.host.backend import BoardBackend
from ternac.host.device import Device
from ternac.sampling import GREEDY
from ternac.verb import Outcome, Say, Verb
from ternac.zoo import DEFAULT, open_program

PROMPT = b"ROMEO:"


def bench_hdl(model: str, target: Board, sessions: int, tokens: int) -> dict[str, Any]:
    """Cycles per token of the RTL over ``tokens`` tokens in each of ``sessions`` sessions."""
    program = open_program(model)
    image = compile_program(program, preset(target.geometry))
    if sessions > image.sessions:
        raise UsageError(
            f"--sessions is {sessions}; {target.name} holds {image.sessions} sessions of {program.name}"
        )
    expected = schedule(image).cycles
    with Device.open("sim", program, board=target.name) as device:
        backend = device.backend
        assert isinstance(backend, BoardBackend)
        opened = [backend.open() for _ in range(sessions)]
        last = [PROMPT[-1]] * sessions
        cycles = steps = 0
        for _ in range(tokens):
            for index, session in enumerate(opened):
                before = backend.meter.cycles
                chosen, _ = backend.run(session, [last[index]], 1, GREEDY, 1)
                last[index] = chosen[0]
                cycles += backend.meter.cycles - before
                steps += 1
    clock, clock_origin = routed_clock(target)
    per_token = cycles / steps
    return {
        "board": target.name,
        "model": program.name,
        "program_hash": program.hash,
        "sessions": sessions,
        "tokens": steps,
        "cycles_per_token": per_token,
        "schedule_cycles_per_token": expected,
        "clock_mhz": clock,
        "tokens_per_second": clock * 1e6 / per_token,
        "macs_per_cycle": program.trits / per_token,
        "dot_unit_busy": schedule(image).dot_words / per_token,
        "origin": f"cycle-exact simulation (Verilator, engine cycles without the link) x {clock_origin}",
    }


def _hdl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", choices=BOARDS, default="ulx3s-85f", help="default: ulx3s-85f")
    parser.add_argument(
        "--model", default=DEFAULT, help=f"program file or shipped model (default: {DEFAULT})"
    )
    parser.add_argument(
        "--sessions", type=int, default=1, metavar="N", help="sessions taking turns (default: 1)"
    )
    parser.add_argument("--tokens", type=int, default=4, metavar="N", help="tokens per session (default: 4)")


def _run_hdl(args: argparse.Namespace, say: Say) -> Outcome:
    for name in ("sessions", "tokens"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}, needs at least 1")
    data = bench_hdl(args.model, board(args.board), args.sessions, args.tokens)
    exact = data["cycles_per_token"] == data["schedule_cycles_per_token"]
    say(
        f"{data['model']} on {data['board']}, {data['sessions']} session(s): "
        f"{data['cycles_per_token']:,.0f} cycles/token"
    )
    say(f"  {data['tokens_per_second']:,.0f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['macs_per_cycle']:.0f} MACs per cycle, dot units busy {data['dot_unit_busy']:.1%}")
    say(f"  {data['origin']}")
    if not exact:
        say(
            f"  the schedule says {data['schedule_cycles_per_token']:,} cycles: they must be equal"
        )
    return Outcome(data, ok=exact)


BENCHES = {
    "hdl": Verb(
        help="The engine's speed on a board.",
        example="ternac bench hdl --board ulx3s-85f --sessions 2",
        add_arguments=_hdl_arguments,
        run=_run_hdl,
    ),
    "stream": bench_stream.VERB,
}
"""What can be measured."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    for name, bench in BENCHES.items():
        chosen = choices.add_parser(
            name, help=bench.help, description=bench.help, epilog=f"example:\n  {bench.example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        chosen.add_argument(
            "--json", action="store_true", default=argparse.SUPPRESS, help="print one JSON object"
        )
        bench.add_arguments(chosen)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    return BENCHES[args.what].run(args, say)


VERBS = {
    "bench": Verb(
        help="Measure, with the origin of every number.",
        example="ternac bench hdl --board ulx3s-85f --sessions 2",
        add_arguments=_arguments,
        run=_run,
    )
}
