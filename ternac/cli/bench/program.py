"""``ternac bench program``: a program on the native executor by op kind, and llama.cpp at equal trits."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ternac.cli.arguments import add_model, number, open_model
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.program.mmfree import SHAPES
from ternac.table import columns


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.host.native.weights import BITS

    add_model(parser, "the random program of --size")
    parser.add_argument(
        "--size",
        choices=SHAPES,
        help="a program with the ops of an imported MMfreeLM of this size, random trits",
    )
    parser.add_argument("--bits", choices=BITS, help="bits per weight (default: the executor's choice)")
    parser.add_argument("--isa", metavar="NAME", help="instruction set (default: the best of this processor)")
    number(parser, "--threads", "with more than one the wall clock counts", default=1, least=1, most=1024)
    number(
        parser, "--prompt", "tokens of a text, below the 512 of llama.cpp's", default=64, least=2, most=511
    )
    number(parser, "--sessions", "sessions at a time", default=16, least=1)
    number(parser, "--rounds", "rounds of all candidates", default=9, least=1)
    parser.add_argument(
        "--ggml", metavar="FILE", help="ggml's libggml-cpu.so (default: of an installed package that has it)"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.native.bench import find_ggml
    from ternac.host.native.executor import NativeExecutor
    from ternac.host.native.library import best_isa, isa_number
    from ternac.host.native.measure import imported_program, random_weights
    from ternac.host.native.program_bench import Setting, bench_program
    from ternac.host.native.weights import trits_per_byte

    if (args.model is None) == (args.size is None):
        raise UsageError("one of MODEL and --size is needed", "see: ternac bench program --help")
    isa_number(args.isa)
    began = time.monotonic()
    if args.size is None:
        program = open_model(args.model, None, say).program
        same = (
            shape for shape in SHAPES.values() if (shape.trits, shape.vocab) == (program.trits, program.vocab)
        )
        shape = next(same, None)
        executor = NativeExecutor(program, isa=args.isa, bits=args.bits, threads=args.threads)
    else:
        shape = SHAPES[args.size]
        program = imported_program(shape)
        isa = args.isa or best_isa()
        bits = "2" if trits_per_byte(args.bits, isa, [(1, program.trits)]) == 4 else "1.6"
        packed = random_weights(program, isa, bits)
        executor = NativeExecutor(program, isa=isa, threads=args.threads, weights=packed)
    ggml, why = find_ggml(args.ggml)
    setting = Setting(args.threads, args.prompt, args.sessions, args.rounds)
    data = bench_program(executor, shape, setting, ggml, why, say)
    executor.close()
    _show(data, say)
    return Outcome(data | {"seconds": round(time.monotonic() - began, 1)})


def _show(data: dict[str, Any], say: Say) -> None:
    rows = [
        [
            row["kind"],
            f"{row['ops']}",
            f"{row['us']:,.1f}",
            f"{row['share']:.1%}",
            f"{row['prompt_us']:,.1f}",
            f"{row['prompt_share']:.1%}",
        ]
        for row in data["ops"]
    ]
    prompt = f"of {data['prompt_tokens']} tokens"
    for line in columns(["op kind", "ops", "us a token", "share", f"us, {prompt}", "share"], rows):
        say(f"  {line}")
    say(f"  {data['ops_origin']}")
    say("  choosing a token, us: " + ", ".join(f"{name} {us:g}" for name, us in data["sampler_us"].items()))
    for name, rate in data["tokens_per_second"].items():
        say(f"  {name:20} {rate:10,.1f} tokens/s")
    for name, ratio in data["ratios"].items():
        if ratio is not None:
            say(f"  {name:34} x {ratio:g}")
    for name, why in data["why_null"].items():
        say(f"  {name}: not measured, {why}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Time a program by op kind on the native executor, beside llama.cpp's TQ2_0 at equal trits.",
    example="ternac bench program --size 370m --json",
    add_arguments=_arguments,
    run=_run,
)
