"""The verbs that need nothing but the program: ``eval`` and ``inspect``."""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb, add_model_argument
from ternac.errors import UsageError
from ternac.host.executors import LOCAL, describe, open_executor
from ternac.program.legality import shapes
from ternac.program.program import Program
from ternac.program.zoo import TEXT, open_program, resolve
from ternac.progress import Progress
from ternac.run import evaluate as ev
from ternac.text.tokenizer import tokenizer_of, whole_characters


def _eval_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--text", metavar="FILE", help="a text of your own, all of it; .xz is unpacked")
    source.add_argument(
        "--split", choices=("val", "train"), default="val", help="part of the shipped text (default: val)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N bytes, less a cut character")
    parser.add_argument(
        "--streams", type=int, default=ev.STREAMS, help="pieces read in parallel (default: 64)"
    )
    parser.add_argument(
        "--context", type=int, default=ev.CONTEXT, metavar="N",
        help="tokens fed uncounted before each piece (default: 256)",
    )  # fmt: skip
    parser.add_argument(
        "--executor",
        default="numpy",
        metavar="NAME",
        help=f"{describe(LOCAL)} (default: numpy)",
    )


def _eval(args: argparse.Namespace, say: Say) -> Outcome:
    for name, least in (("limit", 2), ("streams", 1), ("context", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise UsageError(f"--{name} is {value}, needs at least {least}")
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
    seconds = time.monotonic() - began
    per_char = "" if loss.nats_per_char is None else f"{loss.nats_per_char:.4f} nats per character, "
    per_byte = "" if loss.bits_per_byte is None else f"{loss.bits_per_byte:.4f} bits per byte, "
    say(
        f"{program.name} on {args.text or 'the shipped text, ' + args.split}: "
        f"{per_char}{per_byte}{loss.nats_per_token:.4f} nats per token\n"
        f"{loss.tokens} tokens in {seconds:.1f} s, integer program by the executor {executor.name}"
    )
    if not text.lossless:
        say("the tokenizer does not give this text back as it is, so there is no loss per byte or character")
    return Outcome(
        {
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
            "seconds": round(seconds, 3),
            "origin": f"integer program, executor {executor.name} on this host, measured",
        }
    )


def _inspect_arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument("--ops", action="store_true", help="list every op")


def summary(program: Program) -> dict[str, Any]:
    """What a program consists of, as plain data."""
    trits = [program.consts[name] for name, role in program.roles().items() if role == "trits"]
    ops: dict[str, int] = {}
    for op in program.ops:
        ops[op.kind] = ops.get(op.kind, 0) + 1
    return {
        "name": program.name,
        "hash": program.hash,
        "vocab": program.vocab,
        "trits": program.trits,
        "zeros": sum(int((t == 0).sum()) for t in trits) / max(1, program.trits),
        "bytes_2bit": sum(math.ceil(t.size / 4) for t in trits),
        "state_words": program.state_words,
        "states": dict(program.states),
        "ops": ops,
        "constants": {
            name: {"role": role, "shape": list(program.consts[name].shape)}
            for name, role in program.roles().items()
        },
        "logit_scale_bits": program.logit_scale_bits,
        "meta": dict(program.meta),
        "tokenizer_bytes": len(program.tokenizer),
    }


def op_lines(program: Program) -> list[str]:
    """One line per op: index, result with its type, kind, inputs, attributes."""
    types = shapes(program)
    lines = []
    for index, op in enumerate(program.ops):
        kind, length = types[op.ins[0] if op.kind == "STORE" else op.out]
        attrs = " ".join(f"{key}={value}" for key, value in op.attrs.items())
        inside = ", ".join(op.ins)
        what = f"{kind}[{length}]"
        lines.append(f"{index:4d}  {op.out:<14} {what:<10} = {op.kind}({inside}) {attrs}".rstrip())
    return lines


def _inspect(args: argparse.Namespace, say: Say) -> Outcome:
    path = resolve(args.model)
    program = open_program(path)
    data = summary(program)
    data["file_bytes"] = path.stat().st_size
    say(f"{program.name}  {program.hash}")
    say(f"  {data['trits']:,} ternary weights, {data['zeros']:.1%} zero; vocabulary {program.vocab}")
    say(f"  file {data['file_bytes']:,} bytes; weights at 2 bits {data['bytes_2bit']:,} bytes")
    say(f"  session state {program.state_words} words of 16 bits; logits * 2^-{program.logit_scale_bits}")
    say("  ops: " + ", ".join(f"{count} {kind}" for kind, count in sorted(data["ops"].items())))
    for key, value in program.meta.items():
        say(f"  {key}: {value}")
    if args.ops:
        data["op_list"] = op_lines(program)
        say("\n".join(data["op_list"]))
    return Outcome(data)


VERBS = {
    "eval": Verb(
        help="Loss of an integer program on a text.",
        example="ternac eval shakespeare --split val",
        add_arguments=_eval_arguments,
        run=_eval,
    ),
    "inspect": Verb(
        help="Show what is in a program file.",
        example="ternac inspect shakespeare --ops",
        add_arguments=_inspect_arguments,
        run=_inspect,
    ),
}
