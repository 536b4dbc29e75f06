"""``ternac sleep``: closed sessions are replayed into the weights of a new program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_out, add_seed, make_folder, number
from ternac.cli.train import add_torch
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.program.program import Program
    from ternac.run.executor import Executor

CHECKED = 256
"""Tokens on which the trained model and the new program are compared."""
HELD_OUT = 0.1
"""Part of several base texts that is measured and not read."""


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.model.net.config import SleepConfig

    default = SleepConfig()
    parser.add_argument(
        "model", metavar="PROGRAM", help="program file with its checkpoint beside it, or shipped model"
    )
    parser.add_argument(
        "sessions",
        nargs="+",
        type=Path,
        metavar="SESSION",
        help="text of a closed session; .json: its tokens, [1, 2, 3], several sessions, [[1, 2], [3]], or "
        "what ternac run --json printed",
    )
    add_out(parser, "the new program, a name in .safetensors", metavar="NEW", required=True)
    parser.add_argument(
        "--base",
        type=Path,
        metavar="FILE",
        help="text, or .json as above, that keeps what the program knows (default: the text of its training)",
    )
    number(parser, "--steps", "training steps", default=default.steps, least=1)
    number(parser, "--batch", "windows a step", default=default.batch, least=1)
    number(parser, "--window", "tokens of a window", default=default.window, least=1)
    number(parser, "--lr", "highest learning rate", default=default.lr, kind=float, metavar="X")
    number(
        parser,
        "--share",
        "share of the windows that are of sessions",
        default=default.share,
        kind=float,
        metavar="X",
    )
    number(
        parser,
        "--heard",
        "weight of the tokens themselves; the rest is that of what the program expected while it was awake "
        "(default: 1; of a memory system's program 0)",
        kind=float,
        metavar="X",
    )
    add_seed(parser, "seed of what is drawn")
    add_torch(parser, device=False)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    import torch

    from ternac.model.export.ship import write_file
    from ternac.model.net.config import SleepConfig
    from ternac.model.training.session_text import read_texts
    from ternac.model.training.sleep import (
        META,
        Sleeper,
        check_tokens,
        compare,
        record,
        replay,
        trits_changed,
    )
    from ternac.program.file import save
    from ternac.program.zoo import open_program, resolve
    from ternac.progress import Progress

    path = resolve(args.model)
    if args.out.suffix != ".safetensors":
        raise UsageError(f"--out {args.out}: the name must end in .safetensors")
    if args.out.resolve() == path.resolve():
        raise UsageError(f"--out {args.out} is the program that sleeps", "give the new one another name")
    make_folder(args.out)
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    program = open_program(path)
    heard = args.heard if args.heard is not None else 0.0 if "system" in program.meta else 1.0
    settings = SleepConfig(args.steps, args.batch, args.window, args.lr, args.share, heard, args.seed)
    sessions = [tokens for each in args.sessions for tokens in read_texts(each, program)]
    base, held_out, origin = _base(args.base, path, program)
    for what, texts in (("session", sessions), ("base text", [*base, *held_out])):
        for count, tokens in enumerate(texts, 1):
            check_tokens(tokens, program.vocab, f"{what} {count}")
    sleeper = Sleeper.open(program, path)
    say(f"{program.name}: {len(sessions)} sessions of {sum(map(len, sessions)):,} tokens; base text {origin}")
    kept = f"the floats of {sleeper.checkpoint}" if sleeper.checkpoint else "trits times their scales"
    say(f"weights begin as {kept}")
    before = _losses(program, (sessions, held_out))
    with Progress(settings.steps, "sleep", "steps") as bar:
        replay(sleeper.model, sessions, base, settings, lambda done, _, note: bar.update(done, note))
    new = sleeper.export({META: record(program, sessions, settings)})
    checked = compare(sleeper.model, new, sessions[0][:CHECKED])
    after = _losses(new, (sessions, held_out))
    changed = trits_changed(program, new)
    beside = None
    if sleeper.checkpoint is None:
        save(new, args.out)
    else:
        beside = write_file(args.out, new, sleeper.weights(settings.steps))
    for what, one, two in zip(("sessions", "base text, held out"), before, after, strict=True):
        say(f"  {what:20} {one:.4f} -> {two:.4f} nats per token, {two - one:+.4f}")
    say(f"  {changed:,} of {new.trits:,} ternary weights changed")
    say(f"  hash {new.hash[:16]}, was {program.hash[:16]}")
    say(f"trained model and new program agree on {checked} tokens, bit for bit")
    say(f"written: {args.out}" + (f", and its weights, {beside}" if beside else ""))
    return Outcome(
        {
            "program": str(args.out),
            "checkpoint": str(beside) if beside else None,
            "hash": new.hash,
            "from_hash": program.hash,
            "weights_from": str(sleeper.checkpoint) if sleeper.checkpoint else "trits",
            "sessions": len(sessions),
            "session_tokens": sum(map(len, sessions)),
            "base": origin,
            "session_nats": {"before": before[0], "after": after[0]},
            "base_nats": {"before": before[1], "after": after[1]},
            "trits_changed": changed,
            "ternary_weights": new.trits,
            "checked_tokens": checked,
            "settings": new.meta[META],
        }
    )


def _base(given: Path | None, path: Path, program: Program) -> tuple[list[Any], list[Any], str]:
    """Return base texts to read, those that are held out, and what they are.

    Raises UsageError if there are none, or not enough to hold some out.
    """
    from ternac.model.training.data import split
    from ternac.model.training.run_folder import TextRecord, record_beside
    from ternac.model.training.session_text import read_texts
    from ternac.program.zoo import TEXT

    if given is not None:
        texts = read_texts(given, program)
        if len(texts) == 1:
            train, held_out = split(texts[0], HELD_OUT)
            return [train], [held_out], str(given)
        count = max(1, round(HELD_OUT * len(texts)))
        return texts[:-count], texts[-count:], str(given)
    record: TextRecord | None = record_beside(path)
    if record is None:
        raise UsageError(f"nothing beside {path} records the text of its training", "name one: --base FILE")
    corpus = record.read(record.source if record.path else TEXT, program.tokenizer)
    train, held_out = split(corpus.tokens, record.val_fraction)
    return [train], [held_out], record.name if record.path else "the shipped text"


def _losses(program: Program, groups: Sequence[Sequence[Any]]) -> list[float]:
    """Return the mean nats per token of each group of texts, every text a session of its own."""
    from ternac.host.executors import open_executor
    from ternac.progress import Progress

    executor = open_executor("auto", program)
    total = sum(len(tokens) - 1 for texts in groups for tokens in texts)
    with Progress(total, f"loss of {program.name}", "tokens") as bar:
        found, done = [], 0
        for texts in groups:
            nats, count = 0.0, 0
            for tokens in texts:
                mean, predicted = _loss(executor, tokens)
                nats, count, done = nats + mean * predicted, count + predicted, done + predicted
                bar.update(done)
            found.append(nats / count)
    executor.close()
    return found


def _loss(executor: Executor, tokens: Any) -> tuple[float, int]:
    from ternac.run.evaluate import evaluate

    loss = evaluate(executor, tokens)
    return loss.nats_per_token, loss.tokens


VERB = Verb(
    help="Replay closed sessions into the weights of a program: a new program, with a new hash.",
    example="ternac sleep shakespeare monday.txt tuesday.txt --out slept.safetensors",
    add_arguments=_arguments,
    run=_run,
)
