"""Gradients of a batch in equal parts, on as many threads as there are, up to one a part.

Each part is computed on one thread, forward and backward, and what the parts give is added in their order: so
the number of threads changes no bit. The number of parts does, as any other order of float sums.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from ternac.model.net.layers import BitLinear
from ternac.model.net.network import TernaryLM

__all__ = ["Parts", "one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """While entered, torch computes on the calling thread alone: sums do not depend on how many there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Parts:
    """``model`` and ``count - 1`` copies that share its weights; they are made at the first step.

    ``threads`` at most (None: torch's number).
    """

    def __init__(self, model: TernaryLM, count: int, threads: int | None = None) -> None:
        self.model, self.count = model, count
        self._copies: list[TernaryLM] = []
        self.busy = [0.0] * count
        """CPU seconds of each part in the last step."""
        self.threads = min(count, threads or torch.get_num_threads())
        self._pool = ThreadPoolExecutor(self.threads, initializer=torch.set_num_threads, initargs=(1,))

    def gradients(
        self, inputs: Tensor, targets: Tensor, state: Sequence[Tensor], weights: Tensor | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Add to the gradients of the model's weights; returns the loss of the batch and the new state.

        Arguments as those of `TernaryLM.loss`, of a batch that ``count`` divides.
        """
        model, size = self.model, inputs.shape[1] // self.count
        models = [model, *self._following()]
        keeps = model.draw_keeps(inputs.shape[1]) if model.training and model.dropout else []

        def work(number: int) -> tuple[Tensor, list[Tensor]]:
            began = time.thread_time()
            mine, one = slice(number * size, (number + 1) * size), models[number]
            one.keeps = [mask[mine] for mask in keeps]
            loss, after = one.loss(
                inputs[:, mine].contiguous(),
                targets[:, mine],
                [part[mine] for part in state],
                *(() if weights is None else (weights[:, mine],)),
            )
            (loss / self.count).backward()
            self.busy[number] = time.thread_time() - began
            return loss.detach(), after

        found = list(self._pool.map(work, range(self.count)))
        model.keeps = ()
        for copied in models[1:]:
            for total, part in zip(model.parameters(), copied.parameters(), strict=True):
                assert total.grad is not None and part.grad is not None
                total.grad += part.grad
        after = [torch.cat(states) for states in zip(*(after for _, after in found), strict=True)]
        return torch.stack([loss for loss, _ in found]).mean(), after

    def _following(self) -> list[TernaryLM]:
        """Return the copies with the model's weights and mode, and without gradients."""
        if not self._copies:
            for module in self.model.modules():
                if isinstance(module, BitLinear):
                    module.trits()  # sets the scale, which all share from here on
            self._copies = [copy.deepcopy(self.model) for _ in range(self.count - 1)]
        for copied in self._copies:
            copied.train(self.model.training)
            for mine, held in zip(copied.parameters(), self.model.parameters(), strict=True):
                mine.data, mine.grad = held.data, None
        return self._copies
