"""``ternac eval``: loss of an integer program on a text, by any executor."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_executor, add_loops, add_model, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

LEAST_TOKENS = 8
"""The longest n-gram that --distinct counts."""

if TYPE_CHECKING:
    import numpy.typing as npt

    from ternac.model.training.run_folder import TextRecord
    from ternac.program.program import Program
    from ternac.run.executor import Executor
    from ternac.text.tokenizer import Encoded


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.run.evaluate import CONTEXT, STREAMS
    from ternac.run.second_reading import PASSAGES

    add_model(parser, "shakespeare")
    parser.add_argument(
        "--text",
        metavar="FILE",
        help="a text of your own, all of it unless --split is given; .xz is unpacked",
    )
    parser.add_argument(
        "--split",
        choices=("val", "train"),
        help="part of the text that the model was trained on, as its run records it; --text says where that "
        "text is now (default without --text: val)",
    )
    number(parser, "--limit", "only the first N bytes, less a cut character", least=2)
    number(parser, "--streams", "pieces read in parallel", default=STREAMS, least=1)
    number(parser, "--context", "tokens fed uncounted before each piece", default=CONTEXT, least=0)
    parser.add_argument(
        "--again",
        metavar="D,..",
        help="measure instead how much better passages of the text are read a second time, so many tokens "
        "later; between them stands the other part of the split",
    )
    number(parser, "--passages", "passages of --again and --distinct", default=PASSAGES, least=2)
    number(
        parser,
        "--distinct",
        "measure instead how much the model repeats itself: it writes N tokens behind each of --passages "
        "passages, by argmax, with penalties and by draws",
        least=LEAST_TOKENS,
        most=1 << 16,
    )
    add_executor(parser)
    add_loops(parser)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.host.executors import open_executor
    from ternac.model.training.run_folder import record_beside
    from ternac.program.loops import check_loops
    from ternac.program.zoo import TEXT, open_program, resolve
    from ternac.progress import Progress
    from ternac.run import evaluate as ev
    from ternac.text.tokenizer import tokenizer_of, whole_characters

    program = open_program(args.model)
    check_loops(program, args.loops)
    tokenizer = tokenizer_of(program)
    record = None if args.text and not args.split else record_beside(resolve(args.model))
    if record is not None and not args.text and not record.path:  # of a shipped model
        record = None
    if args.text and args.split and record is None:
        raise UsageError(
            f"nothing beside {resolve(args.model)} records which text the model was trained on",
            "leave --split out to measure all of the text, or name the folder of the run or its export",
        )
    which = args.split or "val"
    if record is not None:
        text = _part(record, args, which, program.tokenizer)
        origin = f"{record.words(which)} of {args.text or record.name}"
    else:
        if args.text:
            data, origin = ev.read_text(args.text, args.limit), str(args.text)
        else:
            data, origin = ev.split(ev.read_text(TEXT), which)[: args.limit], f"the shipped text, {which}"
        if tokenizer.name != "bytes" and len(data) == args.limit:
            data = whole_characters(data)
        try:
            with Progress(len(data), f"tokens of {program.name}", "bytes") as bar:
                text = tokenizer.encode(data, bar.update)
        except UsageError as error:
            raise UsageError(f"{origin}: {error}", error.hint) from None
    executor = open_executor(args.executor, program, path=resolve(args.model))
    if args.again is not None:
        if args.text and record is None:
            raise UsageError(
                "--again needs other text between the readings", "leave --text out, or name a split"
            )
        return _again(args, say, executor, text, _between(args, record, which, program))
    if args.distinct is not None:
        return _distinct(args, say, executor, text)
    began = time.monotonic()
    with Progress(len(text.ids) - 1, f"eval {program.name}", "tokens") as bar:
        loss = ev.evaluate(executor, text, args.streams, args.context, bar.update, loops=args.loops)
    found = {
        "nats_per_token": loss.nats_per_token,
        "nats_per_char": loss.nats_per_char,
        "bits_per_byte": loss.bits_per_byte,
        "tokens": loss.tokens,
        "text_bytes": loss.text_bytes,
        "tokenizer": tokenizer.name,
        "lossless": text.lossless,
        "executor": executor.name,
        "loops": args.loops,
        "model": program.name,
        "program_hash": program.hash,
        "streams": len(ev.cut(len(text.ids), args.streams, args.context).start),
        "context": args.context,
        "text": origin,
        "split": which if record is not None or not args.text else None,
        "seconds": round(time.monotonic() - began, 3),
        "origin": f"integer program, executor {executor.name} on this host, measured",
    }
    _show(found, say)
    return Outcome(found)


def _again(
    args: argparse.Namespace, say: Say, executor: Executor, text: Encoded, other: npt.NDArray[Any]
) -> Outcome:
    """Measure second readings at the distances of ``--again``."""
    from ternac.progress import Progress
    from ternac.run.second_reading import PASSAGE, second_reading

    found = []
    say(f"{executor.program.name}: nats per token of {args.passages} passages of {PASSAGE} tokens")
    for distance in _distances(args.again):
        with Progress(2 * PASSAGE + distance - 1, f"{distance} apart", "tokens") as bar:
            one = second_reading(
                executor, text.ids, other, distance, args.passages, progress=bar.update, loops=args.loops
            )
        found.append(one)
        say(
            f"  {distance:>7} tokens later: {one.first:.3f} first, {one.second:.3f} second, "
            f"gain {one.gain:.3f} (+-{one.error:.3f}); {one.unread:.3f} there without the first reading"
        )
    readings = [asdict(one) | {"gain": one.gain} for one in found]
    about = {"model": executor.program.name, "executor": executor.name, "loops": args.loops}
    return Outcome({**about, "readings": readings})


def _distinct(args: argparse.Namespace, say: Say, executor: Executor, text: Encoded) -> Outcome:
    """Measure distinct n-grams of what the model writes."""
    from ternac.progress import Progress
    from ternac.run.repetition import GRAMS, repetition, ways

    if args.loops is not None:
        raise UsageError("--loops has no effect with --distinct", "leave one of them out")
    work = args.distinct * len(ways(executor.program.logit_scale_bits))
    with Progress(work, f"{executor.program.name} writes", "tokens") as bar:
        found = repetition(executor, text.ids, args.distinct, args.passages, bar.update)
    say(
        f"{executor.program.name}: distinct n-grams of {args.distinct} tokens behind each of "
        f"{args.passages} passages, and texts that end in a loop"
    )
    names = ", ".join(f"{n}-grams" for n in GRAMS)
    say(f"  {'':<30} {names}, loops")
    for one in found:
        say(f"  {one.way:<30} {', '.join(f'{part:.3f}' for part in one.distinct)}, {one.loops:.0%}")
    rows = [
        {
            "way": one.way,
            "distinct": dict(zip(map(str, GRAMS), one.distinct, strict=True)),
            "loops": one.loops,
        }
        for one in found
    ]
    about = {"model": executor.program.name, "executor": executor.name, "tokens": args.distinct}
    return Outcome({**about, "passages": args.passages, "ways": rows})


def _distances(given: str) -> list[int]:
    """Return the numbers of ``--again``. Raises UsageError if one is none."""
    parts = given.split(",")
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--again is {given!r}, needs numbers of tokens", "for example --again 0,1024")
    return [int(part) for part in parts]


def _between(
    args: argparse.Namespace, record: TextRecord | None, which: str, program: Program
) -> npt.NDArray[Any]:
    """Return the tokens of the part of the text that is not measured."""
    from ternac.program.zoo import TEXT
    from ternac.run import evaluate as ev
    from ternac.text.tokenizer import tokenizer_of

    rest = "train" if which == "val" else "val"
    if record is None:
        return tokenizer_of(program).encode(ev.split(ev.read_text(TEXT), rest)).ids
    corpus = record.read(Path(args.text) if args.text else record.source, program.tokenizer)
    return record.part(corpus, rest).ids


def _part(record: TextRecord, args: argparse.Namespace, which: str, tokenizer: bytes) -> Encoded:
    """Return a part of the text of the model's run, at most ``--limit`` bytes of it."""
    from ternac.model.training.run_folder import encoded

    if args.limit is not None and tokenizer:
        raise UsageError("--limit counts bytes, and a split of a tokenizer's text tokens", "leave one out")
    corpus = record.read(Path(args.text) if args.text else record.source, tokenizer)
    part = record.part(corpus, which)
    if args.limit is None or args.limit >= len(part.ids):
        return part
    start = 0 if which == "train" else len(corpus.tokens) - len(part.ids)
    return encoded(corpus, start, start + args.limit)


def _show(data: dict[str, Any], say: Say) -> None:
    names = {
        "nats_per_char": "nats per character",
        "bits_per_byte": "bits per byte",
        "nats_per_token": "nats per token",
    }
    losses = ", ".join(f"{data[key]:.4f} {name}" for key, name in names.items() if data[key] is not None)
    say(f"{data['model']} on {data['text']}: {losses}")
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
