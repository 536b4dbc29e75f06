"""``ternac bench host``: the native executor against NumPy, ggml and the limits of this machine."""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_model, number, open_model, refuse_unused
from ternac.cli.verb import Outcome, Say, Verb
from ternac.program.mmfree import SHAPES


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.host.native.weights import BITS

    add_model(parser, "shakespeare")
    parser.add_argument("--size", choices=SHAPES, help="also a model of this published size, random trits")
    parser.add_argument("--bits", choices=BITS, help="bits of its weights (default: both)")
    number(parser, "--threads", "for --size; with more than one the wall clock counts", default=1, least=1)
    number(parser, "--sessions", "for --size, sessions at a time", default=16, least=1)
    number(parser, "--rounds", "rounds of all candidates", default=15, least=1)
    parser.add_argument(
        "--ggml", metavar="FILE", help="ggml's libggml-cpu.so (default: of an installed package that has it)"
    )
    parser.add_argument("--no-products", action="store_true", help="leave out the rows of single products")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.native.bench import bench_geometry, bench_shipped, find_ggml, product_rows
    from ternac.host.native.library import best_isa, isas, load
    from ternac.host.native.weights import BITS

    if args.size is None:
        refuse_unused(args, "a shipped model", dict.fromkeys(("--bits", "--threads", "--sessions"), "--size"))
    if args.no_products:
        refuse_unused(args, "--no-products", {"--ggml": "the rows of single products"})
    load()
    ggml, where = find_ggml(args.ggml)
    began = time.monotonic()
    rows = [] if args.no_products else product_rows(ggml, where, args.rounds, say)
    for row in rows:
        ratios = ", ".join(f"{v:g} x {k}" for k, v in row["ratio_to"].items() if v is not None)
        say(f"  {row['kernel']:26} {row['shape']} {row['where']:5} {row['gmacs']:7.1f} GMAC/s   {ratios}")
    program = open_model(args.model, None, say).program
    say(f"whole tokens, {program.name}")
    token = bench_shipped(program, args.rounds)
    say(
        f"  {token['shipped_tokens_per_second']:,.0f} tokens/s, {token['shipped_ratio_to_numpy']:g} x NumPy "
        f"({token['shipped_numpy_tokens_per_second']:,.0f})"
    )
    sizes = []
    for bits in [args.bits] if args.bits else list(BITS) if args.size else []:
        shape = SHAPES[args.size]
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
    help="Measure the native executor against NumPy, ggml and the memory's limit.",
    example="ternac bench host --size 370m --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--geometry": "--size"},
)
