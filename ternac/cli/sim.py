"""``ternac sim``: a testbench on the RTL."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.arguments import add_geometry, add_model, add_seed, number, open_model, refuse_unused
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

BENCHES = ("engine", "axi", "dot", "stream", "sampler")


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.sim.cocotb.runner import SIMULATORS

    add_model(parser, "on tiny a random program of --seed, else the largest shipped one that fits")
    parser.add_argument(
        "--bench",
        choices=BENCHES,
        default="engine",
        help="engine: the whole engine against NumPy, op by op; else one component (default: engine)",
    )
    parser.add_argument(
        "--simulator", choices=SIMULATORS, default="verilator", help="simulator (default: verilator)"
    )
    add_geometry(parser, "engine of the engine's bench (default: tiny)")
    number(parser, "--tokens", "tokens of the engine's bench", default=4, least=1)
    add_seed(parser, "seed of program and stimulus")
    parser.add_argument("--waves", action="store_true", help="record all signals and write a GTKWave view")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import PRESETS
    from ternac.sim.cocotb.benches import run_bench, run_engine, view_path

    options = {"simulator": args.simulator, "seed": args.seed, "waves": args.waves, "say": say}
    if args.bench != "engine":
        refuse_unused(
            args, f"--bench {args.bench}", dict.fromkeys(("--geometry", "--tokens"), "--bench engine")
        )
        if args.model:
            raise UsageError(f"MODEL has no effect with --bench {args.bench}", "it works with --bench engine")
    geometry = args.geometry or PRESETS["tiny"]
    if args.model or geometry != PRESETS["tiny"]:
        program = open_model(args.model, geometry, say).program
        result = run_engine(program, geometry, tokens=args.tokens, **options)
    else:
        result = run_bench(args.bench, tokens=args.tokens, **options)
    view = view_path(result)
    data = {
        "bench": args.bench,
        "simulator": args.simulator,
        "seed": args.seed,
        "ok": result.ok,
        "tests": [
            {"name": t.name, "passed": t.passed, "message": t.message, "sim_ns": t.sim_ns}
            for t in result.tests
        ],
        "log": str(result.log),
        "waves": str(result.waves) if result.waves else None,
        "view": str(view) if view else None,
    }
    for test in result.tests:
        verdict = "pass" if test.passed else "FAIL"
        say(f"{verdict}  {test.name}  {test.sim_ns:.0f} ns simulated in {test.seconds:.1f} s")
    if not result.ok:
        say(result.failures())
    _show(data, say)
    return Outcome(data, ok=result.ok)


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"log: {data['log']}")
    if data["view"]:
        say(f"waves: {data['waves']}\nview: gtkwave {data['waves']} {data['view']}")


VERB = Verb(
    help="Run a testbench on the RTL: the whole engine against NumPy op by op, or one component.",
    example="ternac sim --bench engine --simulator icarus --waves",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
