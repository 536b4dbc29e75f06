"""``ternac eval``: loss of an integer program on a text, by any executor."""

from __future__ import annotations

import argparse
import time
from typing import Any

from ternac.cli.arguments import add_executor, add_model, number
from ternac.cli.verb import Outcome, Say, Verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.run.evaluate import CONTEXT, STREAMS

    add_model(parser, "shakespeare")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", metavar="FILE", help="a text of your own, all of it; .xz is unpacked")
    source.add_argument(
        "--split", choices=("val", "train"), default="val", help="part of the shipped text (default: val)"
    )
    number(parser, "--limit", "only the first N bytes, less a cut character", least=2)
    number(parser, "--streams", "pieces read in parallel", default=STREAMS, least=1)
    number(parser, "--context", "tokens fed uncounted before each piece", default=CONTEXT, least=0)
    add_executor(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.executors import open_executor
    from ternac.program.zoo import TEXT, open_program, resolve
    from ternac.progress import Progress
    from ternac.run import evaluate as ev
    from ternac.text.tokenizer import tokenizer_of, whole_characters

    program = open_program(args.model)
    tokenizer = tokenizer_of(program)
    if args.text:
        data = ev.read_text(args.text, args.limit)
    else:
        data = ev.split(ev.read_text(TEXT), args.split)[: args.limit]
    if tokenizer.name != "bytes" and len(data) == args.limit:
        data = whole_characters(data)
    with Progress(len(data), f"tokens of {program.name}", "bytes") as bar:
        text = tokenizer.encode(data, bar.update)
    executor = open_executor(args.executor, program, path=resolve(args.model))
    began = time.monotonic()
    with Progress(len(text.ids) - 1, f"eval {program.name}", "tokens") as bar:
        loss = ev.evaluate(executor, text, args.streams, args.context, bar.update)
    found = {
        "nats_per_token": loss.nats_per_token,
        "nats_per_char": loss.nats_per_char,
        "bits_per_byte": loss.bits_per_byte,
        "tokens": loss.tokens,
        "text_bytes": loss.text_bytes,
        "tokenizer": tokenizer.name,
        "lossless": text.lossless,
        "executor": executor.name,
        "model": program.name,
        "program_hash": program.hash,
        "streams": len(ev.cut(len(text.ids), args.streams, args.context).start),
        "context": args.context,
        "seconds": round(time.monotonic() - began, 3),
        "origin": f"integer program, executor {executor.name} on this host, measured",
    }
    _show(found, args.text or f"the shipped text, {args.split}", say)
    return Outcome(found)


def _show(data: dict[str, Any], text: str, say: Say) -> None:
    names = {
        "nats_per_char": "nats per character",
        "bits_per_byte": "bits per byte",
        "nats_per_token": "nats per token",
    }
    losses = ", ".join(f"{data[key]:.4f} {name}" for key, name in names.items() if data[key] is not None)
    say(f"{data['model']} on {text}: {losses}")
    say(
        f"{data['tokens']} tokens in {data['seconds']:.1f} s, "
        f"integer program by the executor {data['executor']}"
    )
    if not data["lossless"]:
        say("the tokenizer does not restore this text exactly, so there is no loss per byte or character")


VERB = Verb(
    help="Measure the loss of an integer program on a text.",
    example="ternac eval shakespeare --split val",
    add_arguments=_arguments,
    run=_run,
)
