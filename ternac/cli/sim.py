"""``ternac sim``: run a testbench on the RTL."""

from __future__ import annotations

import argparse

from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

__all__ = ["VERBS"]


def _sim_arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.sim.cocotb.runner import SIMULATORS

    parser.add_argument(
        "--bench",
        default="engine",
        metavar="NAME",
        help="engine (the whole engine against NumPy, op by op), dot or sampler (default: engine)",
    )
    parser.add_argument("--simulator", choices=SIMULATORS, default="verilator", help="default: verilator")
    parser.add_argument(
        "--model",
        metavar="MODEL",
        help="program file or shipped model for the engine's bench (default: a small random program)",
    )
    parser.add_argument("--geometry", default="tiny", metavar="NAME", help="of --model; default: tiny")
    parser.add_argument("--tokens", type=int, default=4, metavar="N", help="tokens of the engine's bench")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of the program and the stimulus")
    parser.add_argument("--waves", action="store_true", help="record all signals and write a GTKWave view")


def _sim(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import preset
    from ternac.program.zoo import open_program
    from ternac.sim.cocotb.benches import run_bench, run_engine, view_path

    if args.tokens < 1:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 1")
    if args.bench != "engine" and args.model:
        raise UsageError("--model is for the engine's bench only")
    options = {"simulator": args.simulator, "seed": args.seed, "waves": args.waves, "say": say}
    if args.model:
        geometry = preset(args.geometry)
        result = run_engine(open_program(args.model), geometry, tokens=args.tokens, **options)
    else:
        result = run_bench(args.bench, tokens=args.tokens, **options)
    for test in result.tests:
        verdict = "pass" if test.passed else "FAIL"
        say(f"{verdict}  {test.name}  {test.sim_ns:.0f} ns simulated in {test.seconds:.1f} s")
    if not result.ok:
        say(result.failures())
    say(f"log: {result.log}")
    view = view_path(result)
    if view is not None:
        say(f"waves: {result.waves}\nview: gtkwave {result.waves} {view}")
    return Outcome(
        {
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
        },
        ok=result.ok,
    )


VERBS = {
    "sim": Verb(
        help="Run a testbench on the RTL: the whole engine against NumPy op by op, or one component.",
        example="ternac sim --bench engine --simulator icarus --waves",
        add_arguments=_sim_arguments,
        run=_sim,
    )
}
