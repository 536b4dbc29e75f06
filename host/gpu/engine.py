"""One program on one device: its phases, lowered twice, and the memory that they run in.

Calls come from one thread at a time; `ternac.host.gpu.executor` sees to it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ternac.errors import UsageError
from ternac.host.gpu.constants import Constants
from ternac.host.gpu.lower import Code, lower
from ternac.host.gpu.memory import Rows, Values
from ternac.host.gpu.plan import Plan, make_plan
from ternac.host.gpu.weights import Weights
from ternac.program.program import Program
from ternac.run.sampling import Sampling

FEW = 8
"""Rows up to which every row takes its own products; from there on tensor cores take them together."""
CHOSEN = 1024
"""Tokens that are chosen before the host looks."""


class Runner(Protocol):
    """What runs lowered phases: `ternac.host.gpu.plain.Plain` or `ternac.host.gpu.launch.Kernels`."""

    def prepare(self, code: Code) -> None:
        """Make ready what a launch needs."""

    def phase(self, code: Code, values: Values, first: int, count: int) -> None:
        """A phase for rows of different sessions."""

    def many(self, code: Code, values: Values, first: int, steps: int, batch: int, scan: bool) -> None:
        """A phase of a split plan for ``steps`` tokens of ``batch`` sessions."""

    def choose(self, values: Values, place: int, vocab: int, count: int, greedy: bool, some: bool) -> None:
        """The next token of ``count`` rows."""


class Layout:
    """A plan with its lowered phases and the memory of its values."""

    def __init__(self, engine: Engine, plan: Plan, rows: int) -> None:
        self.plan = plan
        self.codes = [
            lower(phase, plan, engine.program, engine.weights, engine.constants) for phase in plan.phases
        ]
        self.values = Values(plan.places, rows, engine.device)
        for code in self.codes:
            engine.runner.prepare(code)

    def value(self, name: str, count: int) -> Tensor:
        """A value that is still in memory, [count, elements]."""
        kind, place = self.plan.values[name], self.plan.places.offset[name]
        return self.values.area(kind.dtype)[:count, place : place + kind.length]


class Engine:
    """``rows`` at a time, sessions in up to ``slots`` slots of `Rows.states`."""

    def __init__(
        self, program: Program, weights: Weights, device: torch.device, rows: int, slots: int, make: Any
    ) -> None:
        self.program, self.weights, self.device = program, weights, device
        self.constants = Constants(program, device)
        self.rows = Rows(rows, slots, program.state_words, CHOSEN, device)
        self.runner: Runner = make(weights, self.constants, self.rows)
        self.few = Layout(self, make_plan(program), min(rows, FEW))

    @cached_property
    def many(self) -> Layout:
        """The split plan, made when more than `FEW` rows run for the first time."""
        return Layout(self, make_plan(self.program, split=True), self.rows.count)

    @cached_property
    def kept(self) -> Layout:
        """The plan that keeps every value, for one row."""
        return Layout(self, make_plan(self.program, keep=True), 1)

    def layout(self, count: int) -> Layout:
        """What ``count`` rows of different sessions run by."""
        return self.few if count <= FEW else self.many

    def step(self, count: int, layout: Layout | None = None) -> None:
        """One token of the first ``count`` rows, which are of different sessions."""
        layout = layout or self.layout(count)
        if layout is self.__dict__.get("many"):
            self.prompt(1, count, tail=True)
            return
        for code in layout.codes:
            self.runner.phase(code, layout.values, 0, count)

    def prompt(self, steps: int, batch: int, tail: bool) -> None:
        """``steps`` tokens of each of ``batch`` sessions: row t * batch + b is token t of session b.

        ``tail``: also what only the logits need.
        """
        if steps * batch > self.rows.count:
            raise UsageError(f"{steps * batch} rows at a time, holds {self.rows.count}")
        layout, at = self.many, 0
        phases = layout.plan.phases
        loops = dict(layout.plan.loops)
        while at < len(phases):
            last = loops.get(at)
            if last is None:
                self._one(at, 0, steps, batch, tail)
            else:
                for step in range(steps):
                    for index in range(at, last + 1):
                        self._one(index, step * batch, 1, batch, tail)
            at = (at if last is None else last) + 1

    def choose(self, count: int, sampling: Sampling, layout: Layout | None = None) -> None:
        """The next token of the first ``count`` rows; parameters are those of :meth:`set_sampling`."""
        layout = layout or self.layout(count)
        place, vocab = layout.plan.places.offset[self.program.logits], self.program.vocab
        some = not sampling.greedy and 0 < sampling.top_k < vocab
        self.runner.choose(layout.values, place, vocab, count, sampling.greedy, some)

    def set_sampling(self, sampling: Sampling) -> None:
        """Parameters of the draws to come."""
        self.rows.settings.copy_(torch.tensor([sampling.m, sampling.s, sampling.top_k]))

    @property
    def bytes_held(self) -> dict[str, int]:
        """Device memory by purpose."""
        layouts = [self.few, *(self.__dict__[n] for n in ("many", "kept") if n in self.__dict__)]
        states = self.rows.states
        return {
            "weights": self.weights.nbytes,
            "other": self.constants.nbytes,
            "rows": sum(layout.values.nbytes for layout in layouts),
            "states": states.numel() * states.element_size(),
        }

    def _one(self, index: int, first: int, steps: int, batch: int, tail: bool) -> None:
        layout = self.many
        phase = layout.plan.phases[index]
        if tail or not phase.tail:
            self.runner.many(layout.codes[index], layout.values, first, steps, batch, phase.alone)
