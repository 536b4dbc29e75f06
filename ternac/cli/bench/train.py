"""``ternac bench train``: tokens per second of the training step, against plain Brevitas."""

from __future__ import annotations

import argparse
import os
from typing import Any

from ternac.cli.arguments import number
from ternac.cli.train import TORCH_DEVICES, add_preset, add_shape, add_torch, settings
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_preset(parser, "shakespeare")
    number(parser, "--rounds", "steps of each contender", default=5, least=1)
    number(
        parser,
        "--parts",
        "measure instead the step in so many parts of the batch, on --threads, against one thread",
        least=2,
    )
    add_shape(parser)
    add_torch(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.training.bench import bench_parts, bench_train
    from ternac.progress import Progress

    device = TORCH_DEVICES[args.device]
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device gpu: torch finds no GPU here", "install a CUDA build, or leave it out")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model, train = settings(args, args.preset)
    if args.parts:
        if device == "cuda":
            raise UsageError("--parts is for CPUs", "leave it or --device out")
        threads = args.threads or min(args.parts, os.cpu_count() or 1)
        with Progress(3 * (args.rounds + 1), "bench", "steps") as bar:
            data = bench_parts(model, train, args.rounds, threads, bar)
        _show_parts(data, say)
        return Outcome(data, ok=data["equal_losses"] and data["equal_bits"])
    with Progress(3 * (args.rounds + 1), "bench", "steps") as bar:
        data = bench_train(model, train, args.rounds, bar, device)
    _show(data, say)
    return Outcome(data, ok=data["equal_losses"])


def _show_parts(data: dict[str, Any], say: Say) -> None:
    say(
        f"{data['ternary_weights']:,} ternary weights, {data['batch']} x {data['window']} tokens a step, "
        f"{data['parts']} parts on {data['threads']} thread(s), load {data['load']}"
    )
    for name, rate in data["tokens_per_second"].items():
        by_cpu = data["cpu_tokens_per_second"][name]
        say(f"  {name:<24} {rate:10,.0f} tokens/s; {by_cpu:10,.0f} by CPU seconds of the busiest thread")
    say(
        f"  {data['ratio']:.2f} times one thread, {data['cpu_ratio']:.2f} by CPU seconds, medians of rounds; "
        f"losses {'equal' if data['equal_losses'] else 'DIFFER'}, weights of both in parts "
        f"{'equal to the last bit' if data['equal_bits'] else 'DIFFER'}"
    )
    say(f"  at most {data['peak_megabytes']:,} MB of memory, with all three models")
    say(f"  {data['origin']}")


def _show(data: dict[str, Any], say: Say) -> None:
    say(
        f"{data['ternary_weights']:,} ternary weights, {data['batch']} x {data['window']} tokens a step, "
        f"{data['threads']} thread(s)"
    )
    for name, rate in data["tokens_per_second"].items():
        say(f"  {name:<24} {rate:10,.0f} tokens/s")
    for name, share in (data.get("mfu") or {}).items():
        say(f"  {name:<24} {share:10.2%} of {data['peak_tflops']:.0f} TFLOP/s ({data['gpu']}, bfloat16)")
    if "delta_scan" in data:
        scan = data["delta_scan"]
        say(f"  delta scan of the memory, {1000 * scan['seconds']:.1f} ms: {scan['share']:.1%} of the step")
    times = f"{data['ratio']:.2f} times plain Brevitas; " if data["ratio"] else ""
    say(f"  {times}losses {'equal' if data['equal_losses'] else 'DIFFER'}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Measure the training step's speed, against plain Brevitas.",
    example="ternac bench train --preset smoke --rounds 2",
    add_arguments=_arguments,
    run=_run,
)
