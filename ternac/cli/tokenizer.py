"""``ternac tokenizer``: train a tokenizer on a text, or see what one makes of a text."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_budget, add_out, make_folder, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.geometry import PRESETS, Geometry
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.text.tokenizer import Tokenizer

VOCAB = 256
SHOWN = 1 << 20
"""Bytes of the text on which the mean length of a token is measured."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("train", "show"),
        help="train: a byte-level BPE on TEXT; show: what --tokenizer makes of TEXT",
    )
    parser.add_argument("text", metavar="TEXT", help="text file, plain or .xz, UTF-8")
    add_budget(parser)
    number(parser, "--vocab", f"train: number of tokens (default: {VOCAB})")
    add_out(parser, "train: file to write (default: tokenizer.json)")
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="show: a tokenizer.json, or a program (default: bytes)"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.files import read_bytes, write_bytes
    from ternac.progress import Progress
    from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer
    from ternac.text.training import train_bpe

    data = read_bytes(args.text)
    made: Tokenizer
    extra: dict[str, Any] = {}
    if args.action == "train":
        if args.tokenizer:
            raise UsageError("--tokenizer goes with show, not with train")
        make_folder(args.out)
        json = train_bpe(data, VOCAB if args.vocab is None else args.vocab)
        out = args.out or Path("tokenizer.json")
        write_bytes(out, json)
        say(f"written: {out}")
        made = HuggingFaceTokenizer(json)
        extra = {"out": str(out), "sha256": hashlib.sha256(json).hexdigest(), "bytes": len(json)}
    else:
        if args.out is not None or args.vocab is not None:
            raise UsageError("--vocab and --out go with train, not with show")
        made = _given(args.tokenizer)
    part = data[:SHOWN]
    if not isinstance(made, ByteTokenizer):
        part = part.decode(errors="ignore").encode() if len(data) > SHOWN else data
    with Progress(len(part), "tokens", "bytes") as bar:
        text = made.encode(part, bar.update)
    found = {
        "tokenizer": made.name,
        "vocab": made.vocab,
        "bytes_per_token": text.bytes / max(1, len(text.ids)),
        "text_bytes": text.bytes,
        "lossless": text.lossless,
        "widest_model": {name: widest(made.vocab, geometry) for name, geometry in PRESETS.items()},
        **extra,
    }
    _show(found, say)
    return Outcome(found)


def _show(data: dict[str, Any], say: Say) -> None:
    mean, size = f"{data['bytes_per_token']:.3f} bytes per token", f"the first {data['text_bytes']:,} bytes"
    say(f"vocabulary {data['vocab']}; {mean} on {size}")
    if not data["lossless"]:
        say("it does not restore this text exactly")
    for name, width in data["widest_model"].items():
        most = f"a model of width up to {width}" if width else "no model: too many tokens"
        say(f"  {name}: {most}")


def widest(vocab: int, geometry: Geometry) -> int:
    """Return the largest width whose embedding of ``vocab`` rows fits an engine; 0 if none does.

    A row takes a power of two of words in each column.
    """
    if geometry.slots(vocab) > geometry.logit_slots:
        return 0
    words = geometry.embed_depth // vocab
    return min(1024, geometry.columns * (1 << (words.bit_length() - 1))) if words else 0


def _given(name: str | None) -> Tokenizer:
    """Open a tokenizer.json, or the tokenizer of a program."""
    from ternac.files import read_bytes
    from ternac.program.zoo import open_program
    from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer, tokenizer_of

    if name is None:
        return ByteTokenizer()
    if name.endswith(".json"):
        return HuggingFaceTokenizer(read_bytes(name), name)
    return tokenizer_of(open_program(name))


VERB = Verb(
    help="Train a tokenizer on a text, or show what one makes of it and which engines hold its vocabulary.",
    example="ternac tokenizer train my.txt --vocab 256 --out tokenizer.json",
    add_arguments=_arguments,
    run=_run,
)
