"""``ternac compare``: float, ternary and integer twins of one size, and what each step costs."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from ternac.cli.arguments import add_out, names_of, number
from ternac.cli.train import FORMER, add_preset, add_settings, add_tokenizer, add_torch, corpus_of, settings
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.table import columns


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_preset(parser, "smoke")
    parser.add_argument(
        "--text",
        type=Path,
        metavar="FILE",
        help="text file or folder (default: the shipped Tiny Shakespeare)",
    )
    parser.add_argument(
        "--eval-text",
        type=Path,
        metavar="FILE",
        help="text to measure on (default: the last part of the training text, which is kept for that)",
    )
    add_tokenizer(parser)
    parser.add_argument(
        "--kinds",
        default="float,ternary-float,integer",
        metavar="LIST",
        help="float, ternary-float, integer, transformer (default: the first three)",
    )
    add_out(parser, "folder of the runs (default: runs/compare-PRESET)", metavar="DIR")
    number(
        parser, "--lr-float", "learning rate of the float kinds (default: the same)", kind=float, metavar="LR"
    )
    number(parser, "--limit", "validation tokens to measure on", default=1 << 16, least=2)
    add_torch(parser, device=False)
    add_settings(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.study.compare import KINDS, Row, settings_of, table, train_kind
    from ternac.model.training.data import SHAKESPEARE
    from ternac.model.training.train import Progress as Report
    from ternac.progress import Progress

    kinds = names_of("--kinds", args.kinds)
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"no kind is called {kind!r}", f"kinds: {', '.join(KINDS)}")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    model, train = settings(args, args.preset)
    corpus = corpus_of(args.text or SHAKESPEARE, args.tokenizer, say)
    held_out = None if args.eval_text is None else corpus_of(args.eval_text, args.tokenizer, say)
    model = dataclasses.replace(model, vocab=corpus.vocab)
    out = args.out or Path("runs") / f"compare-{args.preset}"
    rows: list[Row] = []
    for kind in kinds:
        with Progress(train.steps, kind, "steps") as bar:

            def report(now: Report, bar: Progress = bar) -> None:
                bar.update(now.step, f"loss {now.train_nats:.3f}")

            chosen = settings_of(kind, train, args.lr_float)
            rows.append(train_kind(kind, model, chosen, corpus, out, args.limit, report, held_out))
    found, gap = table(rows, held_out or corpus)
    kept = len(held_out.tokens) if held_out else int(len(corpus.tokens) * train.val_fraction)
    _show(found, gap, say)
    data: dict[str, Any] = {
        "size": args.preset,
        "rows": found,
        "integer_minus_qat_nats": gap,
        "executors": ["torch", "numpy"] if gap is not None else [],
        "validation_tokens": min(args.limit, kept),
        "text_sha256": corpus.digest,
        "eval_text_sha256": held_out.digest if held_out else None,
        "settings": {"model": dataclasses.asdict(model), "train": dataclasses.asdict(train)},
        "out": str(out),
        "origin": "trained and measured on this host; integer: torch model and NumPy executor on the program",
    }
    return Outcome(data, ok=gap is None or gap == 0.0)


def _show(rows: list[dict[str, Any]], gap: float | None, say: Say) -> None:
    cells = [
        [
            row["kind"],
            f"{row['parameters']:,}",
            f"{row['nats_per_token']:.4f}",
            f"{row['bits_per_byte']:.4f}",
            "" if row["over_float"] is None else f"{row['over_float']:+.4f}",
        ]
        for row in rows
    ]
    for line in columns(("kind", "parameters", "nats/token", "bits/byte", "over float"), cells):
        say(line)
    if gap is not None:
        verdict = "exactly zero" if gap == 0.0 else "NOT ZERO: the program is not what was trained"
        say(f"integer program minus trained integer model: {gap:g} nats, {verdict}")


VERB = Verb(
    help="Train float, ternary and integer twins on the same text, and tell what each step costs.",
    example="ternac compare --preset smoke --kinds float,ternary-float,integer,transformer",
    add_arguments=_arguments,
    run=_run,
    renamed={**FORMER, "--size": "--preset"},
)
