"""``ternac tokenizer``: makes a tokenizer from a text, or says what one makes of a text."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import Any

from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.geometry import PRESETS, Geometry
from ternac.errors import UsageError
from ternac.files import read_bytes, write_bytes
from ternac.progress import Progress
from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer, Tokenizer, tokenizer_of
from ternac.text.training import train_bpe

SHOWN = 1 << 20
"""Bytes of the text that the mean length of a token is told for."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action",
        choices=("train", "show"),
        help="train: a byte-level BPE on TEXT; show: what --tokenizer makes of TEXT",
    )
    parser.add_argument("text", metavar="TEXT", help="text file, plain or .xz, UTF-8")
    parser.add_argument(
        "--vocab", type=int, default=256, metavar="N", help="train: number of tokens (default: 256)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("tokenizer.json"), metavar="FILE",
        help="train: file to write (default: tokenizer.json)",
    )  # fmt: skip
    parser.add_argument(
        "--tokenizer", metavar="FILE", help="show: a tokenizer.json, or a program (default: bytes)"
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    data = read_bytes(args.text)
    made: Tokenizer
    extra: dict[str, Any] = {}
    if args.action == "train":
        if args.tokenizer:
            raise UsageError("--tokenizer goes with show, not with train")
        json = train_bpe(data, args.vocab)
        write_bytes(args.out, json)
        say(f"written: {args.out}")
        made = HuggingFaceTokenizer(json)
        extra = {"out": str(args.out), "sha256": hashlib.sha256(json).hexdigest(), "bytes": len(json)}
    else:
        made = _given(args.tokenizer)
    part = data[:SHOWN]
    if not isinstance(made, ByteTokenizer):
        part = part.decode(errors="ignore").encode() if len(data) > SHOWN else data
    with Progress(len(part), "tokens", "bytes") as bar:
        text = made.encode(part, bar.update)
    mean = text.bytes / max(1, len(text.ids))
    say(f"vocabulary {made.vocab}; {mean:.3f} bytes per token on the first {text.bytes:,} bytes")
    if not text.lossless:
        say("it does not give this text back as it is")
    widths = {name: widest(made.vocab, geometry) for name, geometry in PRESETS.items()}
    for name, width in widths.items():
        most = f"a model of width up to {width}" if width else "no model: too many tokens"
        say(f"  {name}: {most}")
    return Outcome(
        {
            "tokenizer": made.name,
            "vocab": made.vocab,
            "bytes_per_token": mean,
            "text_bytes": text.bytes,
            "lossless": text.lossless,
            "widest_model": widths,
            **extra,
        }
    )


def widest(vocab: int, geometry: Geometry) -> int:
    """Largest width whose embedding of ``vocab`` rows an engine holds; 0 if its logits or no width fits.

    A row takes a power of two of words in each column.
    """
    if geometry.slots(vocab) > geometry.logit_slots:
        return 0
    words = geometry.embed_depth // vocab
    return min(1024, geometry.columns * (1 << (words.bit_length() - 1))) if words else 0


def _given(name: str | None) -> Tokenizer:
    """A tokenizer.json, or that of a program."""
    if name is None:
        return ByteTokenizer()
    if name.endswith(".json"):
        return HuggingFaceTokenizer(read_bytes(name), name)
    from ternac.program.zoo import open_program

    return tokenizer_of(open_program(name))


VERBS = {
    "tokenizer": Verb(
        help="make a tokenizer from a text, or see what one makes of it; which engines hold its vocabulary",
        example="ternac tokenizer train my.txt --vocab 256 --out tokenizer.json",
        add_arguments=_arguments,
        run=_run,
    )
}
