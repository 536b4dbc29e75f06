"""Arguments that several verbs take: one name, one meaning, one check.

``MODEL``       program file, or name of a shipped model
``--board``     a physical board, by name or by a file that declares it
``--geometry``  an engine: a preset, or a JSON file of explore
``--executor``  what computes a program on this host
``--device``    where a program runs: an executor or a board
``--out``       the file or folder that the verb writes
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cli.verb import Say
from ternac.compile.geometry import PRESETS, Geometry, read_geometry
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.boards.file import is_file_name
from ternac.manifest import DEFAULT_BOARD

if TYPE_CHECKING:
    from ternac.compile.fitting import Model
    from ternac.program.program import Program
    from ternac.run.sampling import Sampling

PICTURES = (".png", ".svg", ".pdf")
PORT_BITS = (32, 64, 128, 256, 512)
"""Widths of `ternac.hdl.stream.axi.PORT_BITS`, likewise."""


def number(
    parser: argparse.ArgumentParser,
    flag: str,
    text: str,
    *,
    default: float | None = None,
    least: float = -math.inf,
    most: float = math.inf,
    kind: Callable[[str], float] = int,
    metavar: str = "N",
) -> None:
    """Add an option that takes a number of ``least`` to ``most``; its help names the default."""
    hint = f"see: {parser.prog} --help"

    def parse(given: str) -> float:
        try:
            value = kind(given)
            if math.isnan(value):
                raise ValueError
        except ValueError:
            what = "a whole number" if kind is int else "a number"
            raise UsageError(f"{flag} is {given!r}, needs {what}", hint) from None
        if not least <= value <= most:
            span = f"at least {least:.15g}" if most == math.inf else f"{least:.15g} to {most:.15g}"
            raise UsageError(f"{flag} is {value:.15g}, needs {span}", hint)
        return value

    shown = text if default is None else f"{text} (default: {default:.15g})"
    parser.add_argument(flag, type=parse, default=default, metavar=metavar, help=shown)


def add_model(parser: argparse.ArgumentParser, default: str = "the largest shipped one that fits") -> None:
    """Add the optional MODEL, which `open_model` opens."""
    parser.add_argument(
        "model",
        nargs="?",
        metavar="MODEL",
        help=f"program file, or name of a shipped model (default: {default})",
    )
    add_budget(parser)


def add_budget(parser: argparse.ArgumentParser) -> None:
    """Add ``--budget``, for the verbs that read files from elsewhere; `ternac.cli.main` applies it."""
    number(
        parser,
        "--budget",
        "let a file that you trust cost X times as much (docs/limits.md)",
        default=1,
        least=1,
        most=1e8,
        kind=float,
        metavar="X",
    )


def open_model(name: str | None, geometry: Geometry | None, say: Say) -> Model:
    """Open MODEL, or by default the largest shipped model that fits ``geometry``, else a random program.

    Without a geometry the default is that of the default board's engine.
    """
    from ternac.compile.fitting import Model, default_model
    from ternac.program.zoo import open_program, resolve

    if name is not None or geometry is None:
        path = resolve(name)
        return Model(open_program(path), path)
    model = default_model(geometry)
    if model.path is None:
        say(f"no shipped model fits {geometry.name}: taking {model.program.name}, a fixed random program")
    return model


def _board(given: str) -> str:
    """Parse the name of a board, or of a file that declares one, which is read where the board is used.

    Raises UsageError if it is neither.
    """
    if given in PRESETS and given not in BOARDS:
        raise UsageError(f"--board {given}: this is an engine, not a board", f"write --geometry {given}")
    if not is_file_name(given):
        board(given)
    return given


def _simulated_board(given: str) -> str:
    """Parse likewise, or the name of an engine that is made for an imported model."""
    from ternac.compile.wide_board import is_wide_board

    return given if is_wide_board(given) else _board(given)


def add_board(parser: argparse.ArgumentParser, text: str = "board", *, simulated: bool = False) -> None:
    """Add ``--board``; ``simulated``: one that only a simulation has, too (docs/wide.md)."""
    parser.add_argument(
        "--board",
        type=_simulated_board if simulated else _board,
        choices=_Names(BOARDS),
        default=DEFAULT_BOARD,
        metavar="NAME",
        help=f"{text}: a name of ternac list, or a Python file that declares one (default: {DEFAULT_BOARD})",
    )


class _Names(tuple[str, ...]):
    """What a shell completes; files are valid too."""

    def __contains__(self, _: object) -> bool:
        return True


def add_geometry(parser: argparse.ArgumentParser, text: str = "engine (default: the board's)") -> None:
    """Add ``--geometry``, a `Geometry`; None unless it is given."""
    parser.add_argument(
        "--geometry",
        type=read_geometry,
        choices=_Names(PRESETS),
        metavar="NAME",
        help=f"{text}: {', '.join(PRESETS)}, or a JSON file of ternac explore (FILE or FILE:NAME)",
    )


def engine_of(args: argparse.Namespace) -> Geometry:
    """Return the engine of ``--geometry``, else that of ``--board``; of the default board where ``--board``
    names an engine that is made for a program.
    """
    from ternac.compile.wide_board import is_wide_board

    name = DEFAULT_BOARD if is_wide_board(args.board) else args.board
    return args.geometry or board(name).engine


def add_loopback(parser: argparse.ArgumentParser) -> None:
    """Add ``--loopback``."""
    parser.add_argument(
        "--loopback",
        action="store_true",
        help="the bitstream that ternac board loopback tests the board with",
    )


def refuse_with_loopback(args: argparse.Namespace, *options: str) -> None:
    """Raise UsageError if MODEL or one of ``options`` was written beside ``--loopback``."""
    if not args.loopback:
        return
    if args.model is not None:
        raise UsageError("MODEL has no effect with --loopback", "the loopback has no engine: leave one out")
    refuse_unused(args, "--loopback", dict.fromkeys(options, "an engine: leave --loopback out"))


def add_device(parser: argparse.ArgumentParser, shown: str, **more: Any) -> None:
    """Add ``--device``; ``shown`` is the default in words, ``more`` goes to `add_argument`."""
    from ternac.host.executors import describe

    parser.add_argument("--device", metavar="WHERE", help=f"{describe()} (default: {shown})", **more)


def refuse_unused(args: argparse.Namespace, where: str, works: Mapping[str, str]) -> None:
    """Raise UsageError if an option was written that has no effect with ``where``.

    ``works``: each such option, and what it does work with.
    """
    for option, needs in works.items():
        if option in args.given:
            raise UsageError(f"{option} has no effect with {where}", f"it works with {needs}")


ENGINES = "--device sim, netlist, isa, serial:PORT or replay:FILE"
LINKS = "--device sim, netlist, serial:PORT or replay:FILE"


def unused_on(devices: Sequence[str], *, named: bool) -> dict[str, str]:
    """Return the options that none of ``devices`` heeds, and what they work with.

    ``named``: MODEL is given; else ``--geometry`` chooses the default one.
    """
    from ternac.host.executors import parse_executor

    found = [parse_executor(device) for device in devices]
    unused = {}
    if not any(name.has_engine for name in found):
        unused = {"--board": ENGINES, **({"--geometry": ENGINES} if named else {})}
    if all(name.local for name in found):
        unused |= dict.fromkeys(("--bitstream", "--record", "--no-fallback", "--reopen"), LINKS)
    if all(name.kind != "sim" for name in found):
        unused["--waves"] = "--device sim"
    return unused


def default_engine(args: argparse.Namespace, devices: Sequence[str]) -> Geometry | None:
    """Return the engine that the default model must fit; None if none is named and no device has one."""
    from ternac.host.executors import parse_executor

    asked = args.geometry is not None or any(parse_executor(device).has_engine for device in devices)
    return engine_of(args) if asked else None


def add_executor(parser: argparse.ArgumentParser, default: str = "numpy") -> None:
    """Add ``--executor``."""
    from ternac.host.executors import LOCAL, describe

    text = f"{describe(LOCAL)} (default: {default})"
    parser.add_argument("--executor", default=default, metavar="NAME", help=text)


def path_of(given: str) -> Path:
    """Parse a path. Raises UsageError if it is empty: that would be the current folder."""
    if not given:
        raise UsageError("the name of a file is empty", "name the file, or . for the current folder")
    return Path(given)


def add_out(
    parser: argparse.ArgumentParser,
    text: str,
    *,
    metavar: str = "FILE",
    default: str | None = None,
    **more: Any,
) -> None:
    """Add ``--out``, a path."""
    shown = text if default is None else f"{text} (default: {default})"
    path = None if default is None else Path(default)
    parser.add_argument("--out", type=path_of, default=path, metavar=metavar, help=shown, **more)


def add_picture(parser: argparse.ArgumentParser, data: str = "") -> None:
    """Add ``--out`` for a picture; ``data`` says what a ``.json`` would hold, where that may be written."""
    suffixes = (*PICTURES, *((".json",) if data else ()))

    def picture(given: str) -> Path:
        if Path(given).suffix not in suffixes:
            raise UsageError(f"--out {given}: the name must end in {', '.join(suffixes)}")
        return Path(given)

    text = f"also draw a picture: {', '.join(PICTURES)}" + (f"; .json: {data}" if data else "")
    parser.add_argument("--out", type=picture, metavar="FILE", help=text)


def make_folder(out: Path | None) -> None:
    """Make the folder of ``--out``, before the work. Raises UsageError if it cannot be made."""
    try:
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out {out}: cannot make the folder: {error.strerror}") from None


def add_seed(parser: argparse.ArgumentParser, text: str, default: int | None = 1) -> None:
    """Add ``--seed``."""
    number(parser, "--seed", text, default=default, least=0)


TEMPERATURE = 0.8
"""Default of `add_sampling`. The likeliest token at every step makes these models repeat themselves."""


def add_sampling(parser: argparse.ArgumentParser) -> None:
    """Add the options that `sampling_of` and `seed_of` read."""
    text = f"0 takes the likeliest token (default: {TEMPERATURE})"
    number(parser, "--temperature", text, least=0, kind=float, metavar="T")
    number(parser, "--top-k", "draw among the K likeliest (default: 0, all)", least=0, metavar="K")
    parser.add_argument("--greedy", action="store_true", help="always take the likeliest token")
    add_seed(parser, "seed of the draws (default: another one each time, which is printed)", default=None)


def add_ignore_eos(parser: argparse.ArgumentParser) -> None:
    """Add ``--ignore-eos``."""
    text = "continue behind a token that ends the text, as if it were any other"
    parser.add_argument("--ignore-eos", action="store_true", help=text)


def check_ignore_eos(args: argparse.Namespace, program: Program) -> None:
    """Raise UsageError if ``--ignore-eos`` is given and no token of the program ends a text."""
    if args.ignore_eos and not program.special.eos:
        raise UsageError(
            f"--ignore-eos has no effect: no token of {program.name} ends a text",
            "leave it out; ternac inspect shows which tokens a model has for that",
        )


def add_loops(parser: argparse.ArgumentParser) -> None:
    """Add ``--loops``, which `ternac.program.loops.check_loops` checks."""
    text = "runs of the model's loops at every token (default: as the model says; see: ternac inspect)"
    number(parser, "--loops", text, least=1)


def check_sampling(args: argparse.Namespace) -> None:
    """Raise UsageError if options of `add_sampling` conflict."""
    works = "a --temperature above 0, without --greedy"
    if args.greedy:
        refuse_unused(args, "--greedy", dict.fromkeys(("--temperature", "--top-k", "--seed"), works))
    if args.temperature == 0:
        refuse_unused(args, "--temperature 0", dict.fromkeys(("--top-k", "--seed"), works))


def sampling_of(args: argparse.Namespace, program: Program) -> Sampling:
    """Return the rule that the options of `add_sampling` ask for."""
    from ternac.run.sampling import Sampling

    temperature = 0.0 if args.greedy else TEMPERATURE if args.temperature is None else args.temperature
    return Sampling.from_temperature(temperature, program.logit_scale_bits, args.top_k or 0)


def seed_of(args: argparse.Namespace) -> int:
    """Return ``--seed``, else a new one that is short enough to type."""
    import secrets

    seed: int = secrets.randbelow(1_000_000) if args.seed is None else args.seed
    return seed


def names_of(flag: str, given: str) -> list[str]:
    """Split a comma-separated list. Raises UsageError if it names none, or one twice."""
    names = [name.strip() for name in given.split(",") if name.strip()]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"{flag} {given}: name at least one, and none twice")
    return names
