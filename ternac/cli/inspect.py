"""``ternac inspect``: what is in a program file."""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_model
from ternac.cli.verb import Outcome, Say, Verb

if TYPE_CHECKING:
    from ternac.program.program import Program


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "shakespeare")
    parser.add_argument("--ops", action="store_true", help="list every op")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.program.summary import op_lines, summary
    from ternac.program.zoo import open_program, resolve

    path = resolve(args.model)
    program = open_program(path)
    data = summary(program) | {"file_bytes": path.stat().st_size, "special_tokens": _special(program)}
    if args.ops:
        data["op_list"] = op_lines(program)
    _show(data, say)
    return Outcome(data)


def _special(program: Program) -> dict[str, Any]:
    """Return the tokens that begin and end a text, each with its own text where there is a tokenizer."""
    from ternac.errors import BadProgramFile, UsageError
    from ternac.text.tokenizer import tokenizer_of

    special, tokenizer = program.special, None
    if special.meta:
        with suppress(UsageError, BadProgramFile):  # then they have no text
            tokenizer = tokenizer_of(program)

    def entry(token: int) -> dict[str, Any]:
        return {"id": token, "text": None if tokenizer is None else tokenizer.decode([token])}

    return {
        "bos": None if special.bos is None else entry(special.bos),
        "eos": [entry(token) for token in special.eos],
        "add_bos": special.add_bos,
    }


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"{data['name']}  {data['hash']}")
    say(f"  {data['trits']:,} ternary weights, {data['zeros']:.1%} zero; vocabulary {data['vocab']}")
    say(f"  file {data['file_bytes']:,} bytes, sha256 {data['file_sha256'][:16]}")
    say(f"  weights at 2 bits {data['bytes_2bit']:,} bytes")
    say(f"  session state {data['state_words']} words of 16 bits; logits * 2^-{data['logit_scale_bits']}")
    for name, memory in data["memories"].items():
        rows = f"{memory['rows']} rows x {memory['width']} {memory['dtype']}"
        say(f"  memory {name}: {rows}, {memory['bytes']:,} bytes a session")
        say(f"    read by {', '.join(memory['read_by']) or 'no op'}")
        say(f"    updated by {', '.join(memory['updated_by']) or 'no op'}")
    for name, table in data["constant_rows"].items():
        sizes = f"{table['rows']} rows x {table['width']} i8, {table['bytes']:,} bytes"
        say(f"  constant rows {name}: {sizes}, read by {', '.join(table['read_by'])}")
    for loop in data["loops"]:
        say(_loop(loop))
    say("  ops: " + ", ".join(f"{count} {kind}" for kind, count in sorted(data["ops"].items())))
    special = data["special_tokens"]
    if special["bos"] is not None:
        where = "put in front of a prompt" if special["add_bos"] else "not put in front of a prompt"
        say(f"  begins a text: {_token(special['bos'])}, {where}")
    if special["eos"]:
        say(f"  ends a text: {', '.join(map(_token, special['eos']))}")
    for key, value in data["meta"].items():
        if key != "special_tokens":
            say(f"  {key}: {value}")
    for line in data.get("op_list", ()):
        say(line)


def _loop(loop: dict[str, Any]) -> str:
    """Say how often a loop runs, what it repeats and what it uses."""
    first, last = loop["ops"]
    runs = f"ops {first} to {last} run {loop['times']} times"
    asked = ", each run with rows and states of its own" if loop["levels"] else ""
    if not loop["levels"]:
        asked = f", or as often as --loops asks, 1 to {loop['most']}"
    used = [f"memory {name}" for name in loop["memories"]] + [f"state {name}" for name in loop["states"]]
    return f"  loop {loop['name']}: {runs}{asked}" + (f"; uses {', '.join(used)}" if used else "")


def _token(entry: dict[str, Any]) -> str:
    return f"token {entry['id']}" + ("" if entry["text"] is None else f" {entry['text']!r}")


VERB = Verb(
    help="Show what is in a program file.",
    example="ternac inspect shakespeare --ops",
    add_arguments=_arguments,
    run=_run,
)
