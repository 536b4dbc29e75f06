"""``ternac inspect``: what is in a program file."""

from __future__ import annotations

import argparse
from typing import Any

from ternac.cli.arguments import add_model
from ternac.cli.verb import Outcome, Say, Verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "shakespeare")
    parser.add_argument("--ops", action="store_true", help="list every op")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.program.summary import op_lines, summary
    from ternac.program.zoo import open_program, resolve

    path = resolve(args.model)
    program = open_program(path)
    data = summary(program) | {"file_bytes": path.stat().st_size}
    if args.ops:
        data["op_list"] = op_lines(program)
    _show(data, say)
    return Outcome(data)


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"{data['name']}  {data['hash']}")
    say(f"  {data['trits']:,} ternary weights, {data['zeros']:.1%} zero; vocabulary {data['vocab']}")
    say(f"  file {data['file_bytes']:,} bytes, sha256 {data['file_sha256'][:16]}")
    say(f"  weights at 2 bits {data['bytes_2bit']:,} bytes")
    say(f"  session state {data['state_words']} words of 16 bits; logits * 2^-{data['logit_scale_bits']}")
    for name, memory in data["memories"].items():
        rows = f"{memory['rows']} rows x {memory['width']} {memory['dtype']}"
        say(f"  memory {name}: {rows}, {memory['bytes']:,} bytes a session")
    say("  ops: " + ", ".join(f"{count} {kind}" for kind, count in sorted(data["ops"].items())))
    for key, value in data["meta"].items():
        say(f"  {key}: {value}")
    for line in data.get("op_list", ()):
        say(line)


VERB = Verb(
    help="Show what is in a program file.",
    example="ternac inspect shakespeare --ops",
    add_arguments=_arguments,
    run=_run,
)
