"""One whole token, or a whole prompt, as a CUDA graph: every launch of its phases, replayed by one call.

A graph holds addresses, so it works on the static buffers of `ternac.host.gpu.memory.Rows`: token, slot and
generator of each row go in there, and the chosen token becomes the row's next one without the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ternac.host.gpu.engine import Engine
from ternac.run.sampling import Sampling

__all__ = ["Graphs"]

Run = Callable[[], object]


class Graphs:
    """Tokens and prompts as they are run again and again; on CUDA each kind through a graph of its own.

    ``spare``: a slot whose state may be spoilt while a graph is made.
    """

    def __init__(self, engine: Engine, spare: int, enabled: bool) -> None:
        self.engine, self.spare, self.enabled = engine, spare, enabled
        self._made: dict[tuple[object, ...], Run] = {}

    def clear(self) -> None:
        """Forget all graphs."""
        self._made.clear()

    def token(self, count: int, sampling: Sampling) -> Run:
        """What feeds the first ``count`` rows' tokens and chooses the next. Spoils the rows' buffers: fill
        them afterwards."""

        def run() -> None:
            self.engine.step(count)
            self.engine.choose(count, sampling)

        vocab = self.engine.program.vocab
        some = not sampling.greedy and 0 < sampling.top_k < vocab
        return self._ready(("token", count, sampling.greedy, some), run)

    def prompt(self, steps: int, tail: bool) -> Run:
        """What feeds as many tokens of one session as there are rows; shorter prompts run without a graph.
        Spoils the rows' buffers."""

        def run() -> None:
            self.engine.prompt(steps, 1, tail)

        return self._ready(("prompt", tail), run) if steps == self.engine.rows.count else run

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
