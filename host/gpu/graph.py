"""One whole token as a CUDA graph: every launch of the phases and of the choice, replayed by one call.

A graph holds addresses, so it works on the static buffers of `ternac.host.gpu.memory.Rows`: token, slot and
generator of each row go in there, and the chosen token becomes the row's next one without the host.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ternac.host.gpu.engine import Engine
from ternac.sampling import Sampling

__all__ = ["Tokens"]

Key = tuple[int, bool, bool]


class Tokens:
    """Runs "feed the rows' tokens, choose the next" again and again; on CUDA through a graph for each number
    of rows and way of choosing.

    ``spare``: a slot whose state may be spoilt while a graph is made.
    """

    def __init__(self, engine: Engine, spare: int, graphs: bool) -> None:
        self.engine, self.spare, self.graphs = engine, spare, graphs
        self._made: dict[Key, Callable[[], object]] = {}

    def clear(self) -> None:
        """Forget all graphs."""
        self._made.clear()

    def ready(self, count: int, sampling: Sampling) -> Callable[[], object]:
        """What runs one token of the first ``count`` rows. Spoils the rows' buffers: fill them afterwards."""
        vocab = self.engine.program.vocab
        key = count, sampling.greedy, not sampling.greedy and 0 < sampling.top_k < vocab

        def token() -> None:
            self.engine.step(count)
            self.engine.choose(count, sampling)

        if not self.graphs:
            return token
        if key not in self._made:
            self._made[key] = self._capture(token, count)
        return self._made[key]

    def _capture(self, token: Callable[[], None], count: int) -> Callable[[], object]:
        rows = self.engine.rows
        rows.slots[:count] = self.spare
        rows.tokens[:count] = 0
        rows.at[:count] = 0
        rows.rngs[:count] = 1
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiles every kernel before anything is recorded
            token()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            token()
        return graph.replay
