"""One program on one device: its phases, lowered for few rows and for many, and the memory they run in.

Calls come from one thread at a time; `ternac.host.gpu.executor` sees to it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, Protocol

import torch
from torch import Tensor

from ternac.errors import UsageError
from ternac.host.gpu.lower import Code, lower
from ternac.host.gpu.memory import Constants, Rows, Values
from ternac.host.gpu.plan import Plan, make_plan
from ternac.host.gpu.weights import Weights
from ternac.program.program import Program
from ternac.run.sampling import Sampling

FEW = 8
"""Rows up to which every row takes its own products; from there on tensor cores take them together."""
CHOSEN = 1024
"""Tokens that are chosen before the host looks."""
MOST_RUNS = 8
"""Numbers of runs of the loops whose plans are kept."""


class Runner(Protocol):
    """Runs lowered phases: `ternac.host.gpu.torch_ops.TorchOps` or `ternac.host.gpu.launch.Kernels`."""

    def prepare(self, code: Code) -> None:
        """Make ready what a launch needs."""

    def forget(self, code: Code) -> None:
        """Drop what `prepare` made: the phase runs no more."""

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
        self.codes = [lower(phase, plan, engine.weights, engine.constants) for phase in plan.phases]
        self.values = Values(plan.places, rows, engine.device)
        for code in self.codes:
            engine.runner.prepare(code)

    def value(self, name: str, count: int) -> Tensor:
        """A value that is still in memory, [count, elements]."""
        kind, place = self.plan.values[name], self.plan.places.offset[name]
        return self.values.area(kind.dtype)[:count, place : place + kind.length]


class Layouts:
    """The layouts for one number of runs of the loops (None: as the program says)."""

    def __init__(self, engine: Engine, loops: int | None) -> None:
        self.engine, self.loops = engine, loops

    @cached_property
    def few(self) -> Layout:
        """The plan for up to `FEW` rows."""
        return self._layout(min(self.engine.rows.count, FEW))

    @cached_property
    def many(self) -> Layout:
        """The split plan, for prompts and more rows."""
        return self._layout(self.engine.rows.count, split=True)

    @cached_property
    def kept(self) -> Layout:
        """The plan that keeps every value, for one row."""
        return self._layout(1, keep=True)

    def made(self) -> list[Layout]:
        """Those that were needed so far."""
        return [layout for layout in self.__dict__.values() if isinstance(layout, Layout)]

    def _layout(self, rows: int, *, split: bool = False, keep: bool = False) -> Layout:
        plan = make_plan(self.engine.program, split=split, keep=keep, loops=self.loops)
        return Layout(self.engine, plan, rows)


class Engine:
    """``rows`` at a time, sessions in up to ``slots`` slots of `Rows.states`.

    ``loops`` of its methods: runs of the loops, as a request may ask for them.
    """

    def __init__(
        self, program: Program, weights: Weights, device: torch.device, rows: int, slots: int, make: Any
    ) -> None:
        self.program, self.weights, self.device = program, weights, device
        self.constants = Constants(program, device)
        self.rows = Rows(rows, slots, program.state_words, CHOSEN, device)
        self.runner: Runner = make(weights, self.constants, self.rows)
        self._layouts: dict[int | None, Layouts] = {}
        self.layout(1)  # what the program breaks is said here

    def layouts(self, loops: int | None = None) -> Layouts:
        """The layouts for ``loops`` runs of the loops; made as they are needed."""
        if loops not in self._layouts:
            self._layouts[loops] = Layouts(self, loops)
        return self._layouts[loops]

    def surplus(self, loops: int | None) -> int | None:
        """The number of runs to forget, if any, before ``loops`` runs get layouts of their own."""
        others = [runs for runs in self._layouts if runs is not None]
        return others[0] if loops not in self._layouts and len(others) >= MOST_RUNS else None

    def forget(self, loops: int) -> None:
        """Drop the layouts for ``loops`` runs."""
        for layout in self._layouts.pop(loops).made():
            for code in layout.codes:
                self.runner.forget(code)

    def layout(self, count: int, loops: int | None = None) -> Layout:
        """The layout by which ``count`` rows of different sessions run."""
        layouts = self.layouts(loops)
        return layouts.few if count <= FEW else layouts.many

    def step(self, count: int, layout: Layout | None = None, loops: int | None = None) -> None:
        """One token of the first ``count`` rows, which are of different sessions.

        ``layout``: `layout` of ``count`` if it is not given; `Layouts.kept` for a trace.
        """
        layout = layout or self.layout(count, loops)
        if layout is self.layouts(loops).__dict__.get("many"):
            self.prompt(1, count, tail=True, loops=loops)
            return
        for code in layout.codes:
            self.runner.phase(code, layout.values, 0, count)

    def prompt(self, steps: int, batch: int, tail: bool, loops: int | None = None) -> None:
        """``steps`` tokens of each of ``batch`` sessions: row t * batch + b is token t of session b.

        ``tail``: also what only the logits need.
        """
        if steps * batch > self.rows.count:
            raise UsageError(f"{steps * batch} rows at a time, holds {self.rows.count}")
        layout, at = self.layouts(loops).many, 0
        phases = layout.plan.phases
        ranges = dict(layout.plan.loops)
        while at < len(phases):
            last = ranges.get(at)
            if last is None:
                self._one(layout, at, 0, steps, batch, tail)
            else:
                for step in range(steps):
                    for index in range(at, last + 1):
                        self._one(layout, index, step * batch, 1, batch, tail)
            at = (at if last is None else last) + 1

    def choose(self, count: int, sampling: Sampling, loops: int | None = None) -> None:
        """The next token of the first ``count`` rows; parameters are those of :meth:`set_sampling`."""
        layout = self.layout(count, loops)
        place, vocab = layout.plan.places.offset[self.program.logits], self.program.vocab
        some = not sampling.greedy and 0 < sampling.top_k < vocab
        self.runner.choose(layout.values, place, vocab, count, sampling.greedy, some)

    def set_sampling(self, sampling: Sampling) -> None:
        """Parameters of the draws to come."""
        self.rows.settings.copy_(torch.tensor([sampling.m, sampling.s, sampling.top_k]))

    @property
    def bytes_held(self) -> dict[str, int]:
        """Device memory by purpose."""
        layouts = [layout for each in self._layouts.values() for layout in each.made()]
        states = self.rows.states
        return {
            "weights": self.weights.nbytes,
            "other": self.constants.nbytes,
            "rows": sum(layout.values.nbytes for layout in layouts),
            "states": states.numel() * states.element_size(),
        }

    def _one(self, layout: Layout, index: int, first: int, steps: int, batch: int, tail: bool) -> None:
        phase = layout.plan.phases[index]
        if tail or not phase.tail:
            self.runner.many(layout.codes[index], layout.values, first, steps, batch, phase.alone)


Run = Callable[[], object]


class Graphs:
    """Tokens and prompts that are run again and again; on CUDA each kind through a graph of its own.

    A graph is every launch of one token or prompt, replayed by one call. It holds addresses, so it works on
    the static buffers of `Rows`: token, slot and generator of each row go in there, and the chosen token
    becomes the row's next one without the host. ``spare``: a slot whose state may change while a graph is
    made.
    """

    def __init__(self, engine: Engine, spare: int, enabled: bool) -> None:
        self.engine, self.spare, self.enabled = engine, spare, enabled
        self._made: dict[tuple[object, ...], Run] = {}

    def clear(self) -> None:
        """Forget all graphs."""
        self._made.clear()

    def forget(self, loops: int) -> None:
        """Forget the graphs for ``loops`` runs of the loops."""
        self._made = {key: run for key, run in self._made.items() if key[0] != loops}

    def token(self, count: int, sampling: Sampling, loops: int | None = None) -> Run:
        """Return a function that feeds the tokens of the first ``count`` rows and chooses the next.

        Making it overwrites the rows' buffers: fill them afterwards.
        """

        def run() -> None:
            self.engine.step(count, loops=loops)
            self.engine.choose(count, sampling, loops)

        vocab = self.engine.program.vocab
        some = not sampling.greedy and 0 < sampling.top_k < vocab
        return self._ready((loops, "token", count, sampling.greedy, some), run)

    def prompt(self, steps: int, tail: bool, loops: int | None = None) -> Run:
        """Return a function that feeds ``steps`` tokens of one session.

        Only as many tokens as there are rows are a graph. Making it overwrites the rows' buffers.
        """

        def run() -> None:
            self.engine.prompt(steps, 1, tail, loops)

        return self._ready((loops, "prompt", tail), run) if steps == self.engine.rows.count else run

    def _ready(self, key: tuple[object, ...], run: Run) -> Run:
        if not self.enabled:
            return run
        if key not in self._made:
            self._made[key] = self._capture(run)
        return self._made[key]

    def _capture(self, run: Run) -> Run:
        rows = self.engine.rows
        rows.slots.fill_(self.spare)
        rows.rngs.fill_(1)
        rows.tokens.zero_()
        rows.at.zero_()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles every kernel before anything is recorded
            run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay
