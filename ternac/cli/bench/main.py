"""``ternac bench``: figures with their origin. ``hdl`` counts the engine's cycles in the simulated board; the
others have modules of their own.
"""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.bench import array as array_bench
from ternac.cli.bench import gpu as bench_gpu
from ternac.cli.bench import link as bench_link
from ternac.cli.bench import native as bench_host
from ternac.cli.bench import sdram as bench_sdram
from ternac.cli.bench import stream as bench_stream
from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.compiler import compile_program
from ternac.compile.fitting import largest_model
from ternac.compile.geometry import PRESETS, preset
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, Board, board
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.hdl.planner.estimate import routed_clock
from ternac.host.device import Device
from ternac.link import MAX_BATCH_TOKENS
from ternac.program.zoo import DEFAULT, open_program
from ternac.run.generation import Run

PROMPT = b"ROMEO:"


def bench_hdl(
    model: str, target: Board, sessions: int, tokens: int, geometry: str | None = None
) -> dict[str, Any]:
    """Cycles per token of the RTL over ``tokens`` tokens in each of ``sessions`` sessions.

    ``geometry``: another preset than the board's bitstream has; its clock is then an assumption.
    """
    name = geometry or target.geometry
    if preset(name).streams:
        raise UsageError(f"the pace of {name} is its memory's", "ternac bench sdram measures it")
    program = open_program(model)
    image = compile_program(program, preset(name))
    if sessions > image.sessions:
        raise UsageError(
            f"--sessions is {sessions}; {name} holds {image.sessions} sessions of {program.name}"
        )
    together = min(sessions, len(image.entries))
    with Device.open("sim", program, board=target.name if name == target.geometry else name) as device:
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
    clock, clock_origin = routed_clock(target)
    if name != target.geometry:
        clock_origin = f"the clock of {target.geometry}, assumed: {name} has no bitstream"
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


def _hdl_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--board", choices=BOARDS, default="ulx3s-85f", help="default: ulx3s-85f")
    parser.add_argument(
        "--model", help="program file or shipped model (default: the largest shipped one that fits)"
    )
    parser.add_argument(
        "--sessions", type=int, default=1, metavar="N", help="sessions taking turns (default: 1)"
    )
    parser.add_argument(
        "--tokens", type=int, metavar="N", help="tokens per session (default: 4, several sessions: 24)"
    )
    parser.add_argument("--geometry", choices=PRESETS, help="another engine than the board's bitstream has")


def _run_hdl(args: argparse.Namespace, say: Say) -> Outcome:
    if args.tokens is None:
        args.tokens = 4 if args.sessions == 1 else 24
    for name in ("sessions", "tokens"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}, needs at least 1")
    target = board(args.board)
    model = args.model or largest_model(preset(args.geometry or target.geometry)) or DEFAULT
    data = bench_hdl(model, target, args.sessions, args.tokens, args.geometry)
    exact = data["cycles_per_token"] == data["schedule_cycles_per_token"]
    say(
        f"{data['model']} on {data['geometry']}, {data['sessions']} session(s): "
        f"{data['cycles_per_token']:,.0f} cycles/token"
    )
    say(f"  {data['tokens_per_second']:,.0f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['macs_per_cycle']:.0f} MACs per cycle, dot units busy {data['dot_unit_busy']:.1%}")
    say(f"  {data['origin']}")
    if not exact:
        say(f"  the schedule says {data['schedule_cycles_per_token']:,} cycles: they must be equal")
    return Outcome(data, ok=exact)


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--preset", default="shakespeare", metavar="NAME", help="shape and batch to train")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="steps of each (default: 5)")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's choice)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where (default: cpu)")


def _run_train(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.cli.bench.train import run  # torch is an optional package: asked for only here

    return run(args.preset, args.rounds, args.threads, say, args.device)


BENCHES = {
    "array": array_bench.VERB,
    "hdl": Verb(
        help="The engine's speed on a board.",
        example="ternac bench hdl --board ulx3s-85f --sessions 2",
        add_arguments=_hdl_arguments,
        run=_run_hdl,
    ),
    "gpu": bench_gpu.VERB,
    "host": bench_host.VERB,
    "link": bench_link.VERB,
    "sdram": bench_sdram.VERB,
    "stream": bench_stream.VERB,
    "train": Verb(
        help="The training step's speed, beside plain Brevitas.",
        example="ternac bench train --preset smoke --rounds 2",
        add_arguments=_train_arguments,
        run=_run_train,
    ),
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
