"""``ternac verify``: several executors run the same tokens; logits and state must be equal after every one.

The first executor named is the reference. On a difference the reference's trace of that token is compared
with whatever the other can show of its own values, so that the report names the first op that diverged.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.evaluate import encode, read_text, split
from ternac.executor import NumpyExecutor
from ternac.geometry import PRESETS, preset
from ternac.program import Program
from ternac.progress import Progress
from ternac.sim.compare import Divergence, first_divergence
from ternac.verb import Outcome, Say, Verb, add_model_argument
from ternac.zoo import TEXT, open_program, resolve

Vector = npt.NDArray[Any]


class Runner(Protocol):
    """One executor with one session."""

    name: str

    def step(self, token: int) -> tuple[Vector, dict[str, Vector]]:
        """Feed a token; logits [vocab] and states by name."""

    def values(self) -> dict[str, Vector]:
        """What it can show of the last token's values, by name."""

    def close(self) -> None:
        """Let go of processes and devices."""


class _Executor:
    """An executor with the NumPy executor's interface as a runner; replays the last token for its trace."""

    def __init__(self, executor: Any) -> None:
        self.name, self.executor = executor.name, executor
        self.state = executor.open()
        self.before, self.token = self.state.copy(), 0

    def step(self, token: int) -> tuple[Vector, dict[str, Vector]]:
        self.before, self.token = self.state.copy(), token
        logits = self.executor.step(self.state, np.array([token]))[0]
        return logits, {name: words[0] for name, words in self.executor.state_dict(self.state).items()}

    def values(self) -> dict[str, Vector]:
        trace: dict[str, Vector] = {}
        self.executor.step(self.before.copy(), np.array([self.token]), trace=trace)
        return {name: value[0] if value.ndim == 2 else value for name, value in trace.items()}

    def close(self) -> None:
        pass


class _Machine:
    """The compiled image executed word for word in NumPy."""

    name = "machine"

    def __init__(self, program: Program, geometry: str) -> None:
        from ternac.compile import compile_program
        from ternac.machine import Machine

        self.machine = Machine(compile_program(program, preset(geometry)))

    def step(self, token: int) -> tuple[Vector, dict[str, Vector]]:
        logits = self.machine.step(token)
        return logits, {name: self.machine.read(name) for name in self.machine.image.states}

    def values(self) -> dict[str, Vector]:
        return {name: self.machine.read(name) for name in self.machine.image.symbols}

    def close(self) -> None:
        pass


class _Rtl:
    """The simulated board: the complete RTL, compiled by Verilator, behind the byte link."""

    name = "rtl"

    def __init__(self, program: Program, geometry: str) -> None:
        from ternac.host.device import Device

        self.program = program
        self.device = Device.open("sim", program, board=geometry)
        self.session = self.device.session()

    def step(self, token: int) -> tuple[Vector, dict[str, Vector]]:
        logits = self.session.step(token)
        state = self.session.state
        return logits, {name: state[part] for name, part in self.program.state_slices().items()}

    def values(self) -> dict[str, Vector]:
        from ternac.host.backend import BoardBackend

        assert isinstance(self.device.backend, BoardBackend)
        board = self.device.backend
        return {name: board.read_vector(symbol) for name, symbol in board.image.symbols.items()}

    def close(self) -> None:
        self.device.close()


def _torch(program: Program, path: Path) -> Runner:
    from ternac.model.executor import TorchExecutor

    return _Executor(TorchExecutor.for_program(program, path))


def runners(names: Sequence[str], model: str, geometry: str) -> tuple[Program, list[Runner]]:
    """The program and a runner per name; UsageError on an unknown or repeated name."""
    path = resolve(model)
    program = open_program(path)
    makers: dict[str, Callable[[], Runner]] = {
        "numpy": lambda: _Executor(NumpyExecutor(program)),
        "torch": lambda: _torch(program, path),
        "machine": lambda: _Machine(program, geometry),
        "rtl": lambda: _Rtl(program, geometry),
    }
    unknown = [n for n in names if n not in makers]
    if unknown or len(set(names)) != len(names) or len(names) < 2:
        raise UsageError(
            f"--executors {','.join(names)}: name at least two different ones",
            f"choose from: {', '.join(makers)}",
        )
    return program, [makers[name]() for name in names]


def verify(
    program: Program, parts: Sequence[Runner], tokens: Sequence[int], progress: Callable[[int], None]
) -> list[Divergence]:
    """Run ``tokens`` on all ``parts``; the first divergence of each part from the first one (none: all
    equal).

    A part that diverged is not run further.
    """
    reference, others = parts[0], list(parts[1:])
    found: list[Divergence] = []
    for index, token in enumerate(tokens):
        logits, states = reference.step(int(token))
        for other in list(others):
            got, got_states = other.step(int(token))
            pair = (reference.name, other.name)
            here = first_divergence(
                program, index, {program.logits: logits}, {program.logits: got},
                states=states, got_states=got_states, executors=pair,
            )  # fmt: skip
            if here is None:
                continue
            earlier = first_divergence(program, index, reference.values(), other.values(), executors=pair)
            found.append(earlier or here)
            others.remove(other)
        progress(index + 1)
        if not others:
            break
    return found


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model_argument(parser)
    parser.add_argument(
        "--executors", default="numpy,rtl", metavar="A,B,..",
        help="of numpy, torch, machine (the compiled image in NumPy) and rtl (Verilator); default: numpy,rtl",
    )  # fmt: skip
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="default: 200")
    parser.add_argument(
        "--text", metavar="FILE", help="where the tokens come from (default: the validation text)"
    )
    parser.add_argument(
        "--geometry",
        choices=PRESETS,
        default="ulx3s-85f",
        help="engine for rtl and machine; default: ulx3s-85f",
    )


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.tokens < 1:
        raise UsageError(f"--tokens is {args.tokens}, needs at least 1")
    names = [name.strip() for name in args.executors.split(",")]
    data = read_text(args.text) if args.text else split(read_text(TEXT), "val")
    program, parts = runners(names, args.model, args.geometry)
    tokens = encode(program, data)
    tokens = np.resize(tokens, args.tokens)
    began = time.monotonic()
    try:
        with Progress(args.tokens, f"verify {program.name}", "tokens") as bar:
            found = verify(program, parts, tokens.tolist(), bar.update)
    finally:
        for part in parts:
            part.close()
    for divergence in found:
        say(str(divergence))
    if not found:
        say(f"{args.tokens} tokens: {', '.join(names)} agree on every logit and every state word")
    return Outcome(
        {
            "tokens": args.tokens,
            "mismatches": len(found),
            "executors": names,
            "geometry": args.geometry,
            "model": program.name,
            "program_hash": program.hash,
            "divergences": [d.to_json() for d in found],
            "seconds": round(time.monotonic() - began, 1),
        },
        ok=not found,
    )


VERB = Verb(
    help="Run the same tokens on several executors and compare logits and state, bit for bit, after each.",
    example="ternac verify shakespeare --executors torch,numpy,rtl --tokens 2000",
    add_arguments=_arguments,
    run=_run,
)
