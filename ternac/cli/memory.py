"""``ternac memory``: the memory systems in small, each with its task, its figures and their bars."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import PICTURES, add_geometry, add_out, names_of, refuse_unused
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError

if TYPE_CHECKING:
    from ternac.compile.geometry import Geometry
    from ternac.model.memory.system import Case, Found, System
    from ternac.program.program import Program
    from ternac.run.executor import Executor

FIRST_TOKENS = 200
"""Tokens of a session that the executors of ``--first`` run."""
FIRST_CASES = 8
ENGINE_CASES = 2
WHOLE_TOKENS = 640
"""An engine runs the first cases: such a short one as a whole, of others `FIRST_TOKENS`."""
ACTIONS = ("bench", "list")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="measure a system, or list all")
    parser.add_argument("name", nargs="?", metavar="NAME", help="which system (see: ternac memory list)")
    parser.add_argument(
        "--executors",
        default="numpy,native",
        metavar="LIST",
        help="run all cases on these (default: %(default)s); an engine (isa, rtl, netlist) runs "
        f"{ENGINE_CASES} of those whose model fits, {FIRST_TOKENS} tokens or a short case whole",
    )
    add_geometry(parser, "engine of isa, rtl and netlist (default: the smallest with rows that fits)")
    parser.add_argument(
        "--first",
        default="",
        metavar="LIST",
        help=f"run the first {FIRST_TOKENS} tokens of {FIRST_CASES} cases on these as well, such as gpu:cpu",
    )
    parser.add_argument(
        "--train", action="store_true", help="train the models instead of taking those shipped"
    )
    parser.add_argument("--seeds", default="", metavar="LIST", help="with --train: seeds (default: 1)")
    parser.add_argument(
        "--plot", type=_picture, metavar="FILE", help=f"draw curves of the system: {', '.join(PICTURES)}"
    )
    add_out(parser, "with --train: folder for the programs of the first seed", metavar="DIR")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.model.memory.system import NAMES, open_system

    if args.action == "list":
        for option in ("--train", "--seeds", "--out", "--executors", "--first", "--plot", "--geometry"):
            if option in args.given:
                raise UsageError(f"{option} does not go with list")
        if args.name:
            raise UsageError(f"list takes no name, got {args.name!r}")
        systems = {name: open_system(name).title for name in NAMES}
        for name, title in systems.items():
            say(f"{name:10} {title}")
        return Outcome({"systems": systems})
    if not args.name:
        raise UsageError("bench needs the name of a system", f"systems: {', '.join(NAMES)}")
    if not args.train and {"--seeds", "--out"} & args.given:
        raise UsageError("--seeds and --out go with --train", "the shipped models are of one seed")
    system = open_system(args.name)
    if args.plot and not system.draws:
        raise UsageError(f"{system.name} has no curves to draw", "leave --plot out")
    return _bench(system, args, say)


def _picture(given: str) -> Path:
    if Path(given).suffix not in PICTURES:
        raise UsageError(f"--plot {given}: the name must end in {', '.join(PICTURES)}")
    return Path(given)


def _bench(system: System, args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.files import make_folder
    from ternac.host.executors import parse_executor
    from ternac.program.file import save

    named = names_of("--executors", args.executors)
    engines = [name for name in named if parse_executor(name).has_engine]
    executors = [name for name in named if name not in engines]
    if not executors:
        text = f"--executors {args.executors}: name one that runs all cases"
        raise UsageError(text, "for example --executors numpy,rtl")
    if not engines:
        works = {"--geometry": "isa, rtl or netlist in --executors"}
        refuse_unused(args, f"--executors {args.executors}", works)
    first = names_of("--first", args.first) if args.first else []
    seeds = [_seed(word) for word in names_of("--seeds", args.seeds or "1")]
    if args.out:
        make_folder(args.out)  # before an hour of training, not behind it
    if args.plot:
        make_folder(args.plot.parent)
    say(f"{system.name}: {system.title}")
    runs: list[dict[str, Any]] = []
    for number, seed in enumerate(seeds if args.train else [0]):
        programs = {part: _program(system, part, seed if args.train else None) for part in system.parts}
        if args.train and args.out and number == 0:
            for part, program in programs.items():
                save(program, args.out / f"{part}.safetensors")
        plot = args.plot if number == 0 else None
        # Whether anything fits is known before minutes of cases.
        on_engine = _on_engines(system, programs, engines, args.geometry, say) if engines else {}
        run = _measure(system, programs, executors, first, plot, say)
        if engines:
            run["engine"] = on_engine
            run["mismatches"] += on_engine["mismatches"]
        runs.append({"seed": seed, **run} if args.train else run)
    met = all(figure["met"] for run in runs for figure in run["figures"])
    wrong = sum(run["mismatches"] for run in runs)
    if wrong:
        say(f"{wrong} cases DIFFER between executors")
    data = {
        "system": system.name,
        "title": system.title,
        "executors": named,
        "first": first,
        "plot": str(args.plot) if args.plot else None,
        "runs": runs,
    }
    return Outcome(data | {"met": met, "mismatches": wrong}, ok=met and not wrong)


def _seed(word: str) -> int:
    if not word.isdecimal() or int(word) >= 1 << 31:
        raise UsageError(f"seed {word!r} is not a number in 0..{(1 << 31) - 1}")
    return int(word)


def _program(system: System, part: str, seed: int | None) -> Program:
    """The shipped model, or one trained with ``seed``."""
    from ternac.progress import Progress

    if seed is None:
        return system.shipped(part)
    with Progress(1, f"train {system.name} {part}", "steps") as bar:

        def report(done: int, total: int, note: str) -> None:
            bar.total = total
            bar.update(done, note)

        return system.train(part, seed, report)


def _measure(
    system: System,
    programs: dict[str, Program],
    executors: Sequence[str],
    first: Sequence[str],
    plot: Path | None,
    say: Say,
) -> dict[str, Any]:
    """Run the cases on every executor; figures are those of the first, which the others must equal."""
    from ternac.host.executors import open_executor

    found: dict[str, list[Found]] = {}
    models, wrong, tokens = {}, 0, 0
    for part, program in programs.items():
        cases = system.cases(part, program)
        for name in executors:
            other = _cases_on(open_executor(name, program), system, part, cases, None)
            wrong += _differing(found.setdefault(part, other), other)
        some = cases[:FIRST_CASES]
        if first:
            reference = _cases_on(open_executor(executors[0], program), system, part, some, FIRST_TOKENS)
            for name in first:
                other = _cases_on(open_executor(name, program), system, part, some, FIRST_TOKENS)
                wrong += _differing(reference, other)
        tokens += sum(len(case.tokens) for case in cases)
        models[part] = {
            "program": program.hash,
            "trits": program.trits,
            "rows_bytes": sum(2 * memory.words for memory in program.memories.values()),
            "constant_rows_bytes": sum(
                int(program.consts[name].nbytes) for name, role in program.roles().items() if role == "rows"
            ),
            "cases": len(cases),
        }
    figures = system.figures(programs, found)
    for figure in figures:
        bar = "" if figure.bar is None else f"  bar {'<=' if figure.most else '>='} {figure.bar:g}"
        verdict = "" if figure.bar is None else "  met" if figure.met else "  MISSED"
        note = f"  {figure.note}" if figure.note else ""
        say(f"  {figure.name:52} {figure.value:10.4f}{bar}{verdict}{note}")
    if plot is not None:
        from ternac.model.memory.picture import write_picture

        write_picture(plot, system.title, system.curves(programs, found))
        say(f"  curves: {plot}")
    said = f"  {tokens:,} tokens on each of {', '.join(executors)}: outputs and states, rows included, "
    say(said + ("equal" if not wrong else "NOT equal"))
    return {
        "models": models,
        "figures": [figure.to_json() for figure in figures],
        "mismatches": wrong,
        "tokens": tokens,
        "origin": "integer programs, run on this host",
    }


def _on_engines(
    system: System,
    programs: dict[str, Program],
    engines: Sequence[str],
    geometry: Geometry | None,
    say: Say,
) -> dict[str, Any]:
    """Run some cases of each model that fits on an engine, against NumPy.

    Raises DoesNotFit or UnsupportedOp if no model fits.
    """
    from ternac.errors import ProgramError
    from ternac.host.verify import engine_with_rows, verify_texts
    from ternac.progress import Progress

    fitting, refused = dict[str, "Geometry"](), dict[str, ProgramError]()
    for part, program in programs.items():
        try:
            fitting[part] = engine_with_rows(program, geometry)
        except ProgramError as error:
            refused[part] = error
            say(f"  {part} does not fit: {error}")
    if not fitting:
        raise next(iter(refused.values()))
    rows = []
    for part, engine in fitting.items():
        texts = [
            (case.tokens[: None if len(case.tokens) <= WHOLE_TOKENS else FIRST_TOKENS].tolist(), case.loops)
            for case in _engine_cases(system.cases(part, programs[part]))
        ]
        total = sum(len(tokens) for tokens, _ in texts)
        say(f"  {part}: {len(texts)} cases, {total} tokens on {engine.name}")
        for name in engines:
            with Progress(total, f"{system.name} {part} on {name}", "tokens") as bar:
                row = verify_texts(programs[part], name, engine, texts, bar.update)
            rows.append({"model": part, **row})
            verdict = "NOT equal" if row["mismatches"] else "equal"
            clock = f", {row['cycles']:,} cycles" if row["cycles"] else ""
            said = f"  {part} on {name} ({engine.name}): {row['cases']} cases, {row['tokens']} tokens{clock}"
            say(f"{said}: {verdict}")
    return {
        "rows": rows,
        "mismatches": sum(row["mismatches"] for row in rows),
        "does_not_fit": {
            part: {"type": type(error).__name__, "message": str(error)} for part, error in refused.items()
        },
        "origin": "cycle-exact simulation" if any(row["cycles"] for row in rows) else "run on this host",
    }


def _engine_cases(cases: Sequence[Case]) -> list[Case]:
    """The first cases; where they ask for loops, the first one of each number of runs."""
    by_loops = {case.loops: case for case in reversed(cases)}
    if set(by_loops) == {None}:
        return list(cases[:ENGINE_CASES])
    return [by_loops[loops] for loops in dict.fromkeys(case.loops for case in cases)]


def _cases_on(
    executor: Executor, system: System, part: str, cases: Sequence[Any], limit: int | None
) -> list[Found]:
    from ternac.model.memory.system import run_cases
    from ternac.progress import Progress

    with Progress(1, f"{system.name} {part} on {executor.name}", "tokens") as bar:

        def report(done: int, total: int, note: str) -> None:
            bar.total = total
            bar.update(done)

        found = run_cases(executor, cases, report, limit)
    executor.close()
    return found


def _differing(one: Sequence[Found], other: Sequence[Found]) -> int:
    """Number of cases in which two executors found different logits or states."""
    return sum(a.digest != b.digest for a, b in zip(one, other, strict=True))


VERB = Verb(
    help="Measure a memory system: what its model remembers, on several executors.",
    example="ternac memory bench cache",
    add_arguments=_arguments,
    run=_run,
)
