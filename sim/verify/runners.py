"""Executors of one session each, as `ternac verify` runs them side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry, preset
from ternac.errors import UsageError
from ternac.executors import make_executor
from ternac.program.ops import WIDE_KINDS
from ternac.program.program import Program
from ternac.program.zoo import open_program, resolve
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling

__all__ = ["BoardRunner", "Runner", "Step", "maker_names", "runners", "runners_of"]

Vector = npt.NDArray[Any]


@dataclass(frozen=True)
class Step:
    """What an executor has after a token: logits [vocab], states by name; from an engine also the token that
    it chose, its generator, the cycles that it took and those of the closed form (hdl/engine/schedule.py),
    which may not be ``exact``."""

    logits: Vector
    states: dict[str, Vector]
    chosen: int | None = None
    generator: int | None = None
    cycles: int | None = None
    closed_form: int | None = None
    exact: bool = True


class Runner(Protocol):
    """One executor with one session."""

    name: str

    @property
    def cycles(self) -> int:
        """Clock cycles of all tokens so far; 0 where there is no clock."""

    def step(self, token: int, sampling: Sampling, rng: int) -> Step:
        """Feed a token; an engine chooses the next one by ``sampling`` from generator state ``rng``."""

    def values(self) -> dict[str, Vector]:
        """What it can show of the last token's values, by name."""

    def close(self) -> None:
        """Let go of processes and devices."""


class _Executor:
    """An executor with the NumPy executor's interface as a runner; replays the last token for its trace."""

    cycles = 0

    def __init__(self, executor: Any, name: str | None = None) -> None:
        self.name, self.executor = name or executor.name, executor
        self.state = executor.open()
        self.before, self.token = self.state.copy(), 0

    def step(self, token: int, sampling: Sampling, rng: int) -> Step:
        self.before, self.token = self.state.copy(), token
        logits = self.executor.step(self.state, np.array([token]))[0]
        states = self.executor.state_dict(self.state).items()
        return Step(logits, {name: words[0] for name, words in states})

    def values(self) -> dict[str, Vector]:
        trace: dict[str, Vector] = {}
        self.executor.step(self.before.copy(), np.array([self.token]), trace=trace)
        return {name: value[0] if value.ndim == 2 else value for name, value in trace.items()}

    def close(self) -> None:
        pass


class _Native(_Executor):
    """The native or the GPU executor; it chooses the next token, too."""

    def __init__(self, program: Program, name: str = "native") -> None:
        super().__init__(make_executor(name, program), name)

    def step(self, token: int, sampling: Sampling, rng: int) -> Step:
        after = self.state.copy()
        found = super().step(token, sampling, rng)
        (chosen,), (following,) = self.executor.generate(after, [token], 1, sampling, [rng])
        self.state = after  # what generating made of it is what the next token sees
        return Step(found.logits, found.states, int(chosen[0]), following)

    def close(self) -> None:
        self.executor.close()


class _Machine:
    """The compiled image executed word for word in NumPy."""

    name = "machine"
    cycles = 0

    def __init__(self, program: Program, geometry: Geometry) -> None:
        from ternac.compile.compiler import compile_program
        from ternac.compile.machine import Machine

        self.machine = Machine(compile_program(program, geometry))

    def step(self, token: int, sampling: Sampling, rng: int) -> Step:
        logits = self.machine.step(token)
        return Step(logits, {name: self.machine.read(name) for name in self.machine.image.states})

    def values(self) -> dict[str, Vector]:
        return {name: self.machine.read(name) for name in self.machine.image.symbols}

    def close(self) -> None:
        pass


class BoardRunner:
    """The simulated board behind the byte link: the complete RTL, or with ``netlist`` what synthesis made of
    it, compiled by Verilator."""

    def __init__(self, program: Program, geometry: Geometry, *, netlist: Path | None = None) -> None:
        from ternac.host.board.backend import BoardBackend
        from ternac.host.board.transport import ProcessTransport
        from ternac.host.device import Device

        self.name = "rtl" if netlist is None else "netlist"
        line = None if netlist is None else ProcessTransport([str(netlist)])
        self.device = Device.open("sim", program, geometry=geometry, transport=line)
        self.program = program
        assert isinstance(self.device.backend, BoardBackend)
        self.board = self.device.backend
        self.session = self.board.open()

    @property
    def cycles(self) -> int:
        return self.board.meter.cycles

    def step(self, token: int, sampling: Sampling, rng: int) -> Step:
        from ternac.hdl.engine.schedule import schedule

        board = self.board
        before = board.meter.cycles
        (chosen,), following = board.run(self.session, [token], 1, sampling, rng)
        cycles = board.meter.cycles - before
        state = board.get_state(self.session)
        plan = schedule(board.image, greedy=sampling.greedy, top_k=sampling.top_k)
        return Step(
            board.read_vector(board.image.logits),
            {name: state[part] for name, part in self.program.state_slices().items()},
            chosen, following, cycles, plan.cycles, plan.exact,
        )  # fmt: skip

    def values(self) -> dict[str, Vector]:
        return {name: self.board.read_vector(symbol) for name, symbol in self.board.image.symbols.items()}

    def close(self) -> None:
        self.device.close()


def _torch(program: Program, path: Path | None) -> Runner:
    from ternac.model.net.executor import TorchExecutor
    from ternac.model.net.op_executor import TorchOpExecutor

    if any(op.kind in WIDE_KINDS for op in program.ops):  # imported: no model of this kit behind it
        return _Executor(TorchOpExecutor(program))
    if path is None:
        raise UsageError(f"{program.name} has no checkpoint for torch to run")
    return _Executor(TorchExecutor.for_program(program, path))


def _netlist(program: Program, geometry: Geometry) -> Runner:
    from ternac.sim.netlist import build_netlist_board

    return BoardRunner(program, geometry, netlist=build_netlist_board(geometry))


_MAKERS: dict[str, Callable[[Program, Path | None, Geometry], Runner]] = {
    "numpy": lambda program, path, geometry: _Executor(NumpyExecutor(program)),
    "native": lambda program, path, geometry: _Native(program),
    "gpu": lambda program, path, geometry: _Native(program, "gpu"),
    "torch": lambda program, path, geometry: _torch(program, path),
    "machine": lambda program, path, geometry: _Machine(program, geometry),
    "rtl": lambda program, path, geometry: BoardRunner(program, geometry),
    "netlist": lambda program, path, geometry: _netlist(program, geometry),
}


def maker_names() -> tuple[str, ...]:
    """All executors by name."""
    return tuple(_MAKERS)


def runners_of(names: Sequence[str], program: Program, path: Path | None, geometry: Geometry) -> list[Runner]:
    """A runner per name; ``path``: program or checkpoint, for torch. UsageError on an unknown or repeated
    name, or fewer than two."""
    kinds = {name.partition(":")[0] if name.startswith(("native:", "gpu:")) else name for name in names}
    if kinds - set(_MAKERS) or len(set(names)) != len(names) or len(names) < 2:
        raise UsageError(
            f"--executors {','.join(names)}: name at least two different ones",
            f"choose from: {', '.join(_MAKERS)}, native:ISA, native:ISA:BITS, gpu:cpu, gpu:interpret",
        )
    made: list[Runner] = []
    try:
        for name in names:
            if name.startswith(("native:", "gpu:")):
                made.append(_Native(program, name))
            else:
                made.append(_MAKERS[name](program, path, geometry))
    except BaseException:
        for runner in made:
            runner.close()
        raise
    return made


def runners(names: Sequence[str], model: str, geometry: str) -> tuple[Program, list[Runner]]:
    """The program of a model and a runner per name, as `runners_of`."""
    path = resolve(model)
    program = open_program(path)
    return program, runners_of(names, program, path, preset(geometry))
