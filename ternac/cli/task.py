"""``ternac task``: a task with one right answer a line, its texts, and how often a model answers right."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_budget, add_geometry, names_of, number
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry
    from ternac.program.program import Program
    from ternac.run.answers import Asked
    from ternac.run.home_commands import Line

BAR = 0.98
"""Share of the held-out compositions that must be answered right."""
ENGINE = "icebreaker"
QUESTIONS = 1000
ENGINE_QUESTIONS = 2
ACTIONS = ("bench", "make")
WRONG_SHOWN = 5


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="measure a model, or write the texts of the task")
    parser.add_argument(
        "what",
        nargs="?",
        metavar="MODEL|DIR",
        help="bench: program file, folder of a run, or name of a shipped model; make: folder of the texts",
    )
    add_budget(parser)
    number(parser, "--questions", "lines of each kind", default=QUESTIONS, least=1)
    parser.add_argument(
        "--executors",
        default="numpy,native",
        metavar="LIST",
        help="ask all questions on these, whose answers must be equal (default: %(default)s); an engine "
        f"(isa, rtl, netlist) is asked the first {ENGINE_QUESTIONS}",
    )
    add_geometry(parser, f"engine of isa, rtl and netlist (default: {ENGINE})")
    number(
        parser, "--bar", "share of held-out lines to answer right", default=BAR, least=0, most=1, kind=float
    )
    number(parser, "--scale", "make: so many times the usual number of lines", default=1, least=0, kind=float)
    number(parser, "--seed", "make: seed of the lines", default=1, least=0)


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    only = {"bench": {"--questions", "--executors", "--geometry", "--bar"}, "make": {"--scale", "--seed"}}
    for action, options in only.items():
        wrong = sorted(options & args.given)
        if action != args.action and wrong:
            raise UsageError(f"{wrong[0]} goes with {action}, not with {args.action}")
    return _make(args, say) if args.action == "make" else _bench(args, say)


def _make(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.run.home_commands import make

    if args.what is None:
        raise UsageError("make needs the folder of the texts", "for example: ternac task make commands-text")
    lines = make(Path(args.what), args.seed, args.scale)
    for name, count in lines.items():
        say(f"{count:,} lines: {Path(args.what) / name}.txt")
    return Outcome({"out": args.what, "seed": args.seed, "lines": lines})


def _bench(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.geometry import preset
    from ternac.host.executors import parse_executor
    from ternac.program.zoo import open_program
    from ternac.run.answers import Asked
    from ternac.run.home_commands import ARROW, lines_of

    if args.what is None:
        raise UsageError("bench needs a model of the task", "docs/task.md shows how to train one")
    names = names_of("--executors", args.executors)
    engines = [name for name in names if parse_executor(name).has_engine]
    plain = [name for name in names if name not in engines]
    if not plain:
        text = f"--executors {args.executors}: name one that is asked all questions"
        raise UsageError(text, "for example --executors native,rtl")
    program = open_program(args.what)
    lines = {kind: lines_of(kind, args.questions) for kind in ("held-out", "seen")}
    every = [line for some in lines.values() for line in some]
    asked = Asked(program, [line.said + ARROW for line in every])
    runs = [_ask(name, program, asked) for name in plain]
    found = runs[0]["answers"]
    mismatches = sum(a != b for run in runs[1:] for a, b in zip(found, run["answers"], strict=True))
    answers = [asked.text(answer).removeprefix(" ") for answer in found]
    split = len(lines["held-out"])
    scores = {
        "held_out": _scores(lines["held-out"], answers[:split]),
        "seen": _scores(lines["seen"], answers[split:]),
    }
    met = scores["held_out"]["right"] >= args.bar
    tokens = sum(len(answer) + 1 for answer in found) + asked.tokens
    for kind, score in scores.items():
        parts = ", ".join(f"{part} {share:.2%}" for part, share in score.items() if part != "right")
        say(f"{kind.replace('_', ' '):9} {score['right']:.2%} of {args.questions} answers right ({parts})")
    say(f"bar {args.bar:.2%} on held-out compositions: {'met' if met else 'MISSED'}")
    wrong = [
        {"said": line.said, "answer": answer, "wanted": line.answer}
        for line, answer in zip(every, answers, strict=True)
        if answer != line.answer
    ][:WRONG_SHOWN]
    for one in wrong:
        say(f"  wrong: {one['said']}: {one['answer']}, not {one['wanted']}")
    for run in runs:
        say(f"{run['executor']}: {tokens:,} tokens, {tokens / run['seconds']:,.0f} a second, measured here")
    rows: list[dict[str, Any]] = []
    for name in engines:
        row = _on_engine(name, program, args.geometry or preset(ENGINE), asked, found)
        rows.append(row)
        mismatches += row["mismatches"]
        clock = f", {row['cycles']:,} cycles" if row["cycles"] else ""
        equal = "answers equal" if not row["mismatches"] else f"{row['mismatches']} answers DIFFER"
        say(f"{name} ({row['geometry']}): {row['questions']} questions{clock}: {equal}")
    if mismatches:
        say(f"{mismatches} answers DIFFER between executors")
    data = {
        "model": program.name,
        "program": program.hash,
        "questions": args.questions,
        "tokens_per_question": round(tokens / len(every), 2),
        "scores": scores,
        "bar": args.bar,
        "met": met,
        "wrong": wrong,
        "executors": [
            {"executor": run["executor"], "tokens_per_second": round(tokens / run["seconds"], 1)}
            for run in runs
        ],
        "engines": rows,
        "mismatches": mismatches,
    }
    return Outcome(data, ok=met and not mismatches)


def _scores(lines: Sequence[Line], answers: Sequence[str]) -> dict[str, float]:
    """Return the share of right answers, and of those right in device, room, and what is behind them."""
    pairs = list(zip((line.answer for line in lines), answers, strict=True))
    scores = {"right": sum(wanted == answer for wanted, answer in pairs) / len(pairs)}
    for at, part in enumerate(("device", "room", "rest")):
        right = sum(_part(wanted, at) == _part(answer, at) for wanted, answer in pairs)
        scores[part] = right / len(pairs)
    return scores


def _part(answer: str, at: int) -> str:
    return [*answer.split(" ", 2), "", ""][at]


def _ask(name: str, program: Program, asked: Asked) -> dict[str, Any]:
    from ternac.host.executors import open_executor
    from ternac.progress import Progress
    from ternac.run.answers import ask

    executor = open_executor(name, program)
    began = time.perf_counter()
    with Progress(len(asked.questions), f"questions on {name}", "questions") as bar:
        answers = ask(executor, asked, bar.update)
    executor.close()
    return {"executor": name, "answers": answers, "seconds": time.perf_counter() - began}


def _on_engine(
    name: str, program: Program, geometry: Geometry, asked: Asked, wanted: Sequence[Sequence[int]]
) -> dict[str, Any]:
    """Ask the first questions on an engine; its answers must be ``wanted``."""
    from ternac.host.device import Device
    from ternac.run.answers import LONGEST, answer_of

    few = min(ENGINE_QUESTIONS, len(asked.questions))
    wrong = 0
    with Device.open(name, program, geometry=geometry) as device:
        for question, answer in zip(asked.questions[:few], wanted, strict=False):
            with device.session() as session:
                wrong += answer_of(session.tokens(question, LONGEST + 1), asked.end) != list(answer)
        cycles = device.backend.meter.cycles
    return {
        "executor": name,
        "geometry": geometry.name,
        "questions": few,
        "mismatches": wrong,
        "cycles": cycles or None,
        "origin": "cycle-exact simulation" if cycles else "run on this host",
    }


VERB = Verb(
    help="Make the texts of a task with one right answer a line, or measure how a model does it.",
    example="ternac task bench runs/commands --questions 100",
    add_arguments=_arguments,
    run=_run,
)
