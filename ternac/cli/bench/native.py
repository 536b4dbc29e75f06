"""``ternac bench host``: the native executor beside NumPy, ggml and the limits of this machine."""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

from ternac.cli.bench.products import product_rows
from ternac.cli.bench.tokens import bench_geometry, bench_shipped
from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.errors import UsageError
from ternac.host.native.library import best_isa, isas, load
from ternac.host.native.peers import find_ggml
from ternac.host.native.weights import BITS
from ternac.program.mmfree_sizes import SHAPES
from ternac.program.zoo import open_program


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--geometry", choices=SHAPES, help="also a model of this published size, random trits"
    )
    parser.add_argument("--bits", choices=BITS, help="of its weights (default: both)")
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N",
        help="for --geometry; with more than one the wall clock counts (default: 1)",
    )  # fmt: skip
    parser.add_argument(
        "--sessions", type=int, default=16, metavar="N", help="for --geometry, at a time (default: 16)"
    )
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="of all candidates (default: 15)")
    parser.add_argument(
        "--ggml", metavar="FILE", help="ggml's libggml-cpu.so (default: of an installed package that has it)"
    )
    parser.add_argument("--no-products", action="store_true", help="leave out the rows of single products")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    for name, least in (("threads", 1), ("sessions", 1), ("rounds", 1)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}, needs at least {least}")
    load()
    ggml, where = find_ggml(args.ggml)
    began = time.monotonic()
    rows = [] if args.no_products else product_rows(ggml, where, args.rounds, say)
    for row in rows:
        ratios = ", ".join(f"{v:g} x {k}" for k, v in row["ratio_to"].items() if v is not None)
        say(f"  {row['kernel']:26} {row['shape']} {row['where']:5} {row['gmacs']:7.1f} GMAC/s   {ratios}")
    program = open_program(args.model)
    say(f"whole tokens, {program.name}")
    token = bench_shipped(program, args.rounds)
    say(
        f"  {token['shipped_tokens_per_second']:,.0f} tokens/s, {token['shipped_ratio_to_numpy']:g} x NumPy "
        f"({token['shipped_numpy_tokens_per_second']:,.0f})"
    )
    sizes = []
    for bits in [args.bits] if args.bits else list(BITS) if args.geometry else []:
        shape = SHAPES[args.geometry]
        found = bench_geometry(shape, bits, args.threads, args.sessions, args.rounds, say)
        sizes.append(found)
        say(_words(found))
    if sizes:
        token["geometry"] = max(sizes, key=lambda size: float(size["tokens_per_second"]))
    say(f"  {rows[0]['origin'] if rows else token['shipped_origin']}")
    return Outcome(
        {
            "rows": rows,
            "token": token,
            "geometries": sizes,
            "machine": {"processor": _processor(), "isas": isas(), "chosen": best_isa()},
            "peers": {"ggml": where},
            "seconds": round(time.monotonic() - began, 1),
        }
    )


def _words(found: dict[str, Any]) -> str:
    return (
        f"  {found['geometry']} at {found['bits_per_weight']} bits, {found['threads']} thread(s): "
        f"{found['tokens_per_second']:,.1f} tokens/s, {found['fraction_of_products']:.1%} of the products; "
        f"{found['sessions']} sessions {found['sessions_tokens_per_second']:,.1f} "
        f"(x {found['sessions_ratio_to_one']:g}), prompt {found['prompt_tokens_per_second']:,.1f} "
        f"(x {found['prompt_ratio_to_one']:g}); {found['held_over_packed']:.3f} of the packed weights held"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


VERB = Verb(
    help="The native executor beside NumPy, ggml and the memory's limit: products and whole tokens.",
    example="ternac bench host --geometry 370m --json",
    add_arguments=_arguments,
    run=_run,
)
