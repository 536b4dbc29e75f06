"""Loss of the torch model on a text: the protocol of :mod:`ternac.run.evaluate`, many tokens at a time.

Because the logits are those of the integer program, so is the loss: both print the same number.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ternac.model.net.network import TernaryLM
from ternac.model.training.data import Tokens
from ternac.run import evaluate as protocol


@torch.no_grad()
def nats_per_token(
    model: TernaryLM,
    tokens: Tokens,
    streams: int = protocol.STREAMS,
    context: int = protocol.CONTEXT,
    window: int = 128,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> float:
    """Return the mean cross entropy in nats over all ``tokens`` but the first (see the protocol).

    ``progress`` is told the predictions done and those to be done.
    """
    parts = protocol.cut(len(tokens), streams, context)
    was_training = model.training
    model.eval()
    state = model.initial_state(len(parts.start))
    scale = 2.0**-model.config.scales.logits
    total, counted = 0.0, 0
    for begin in range(0, parts.steps, window):
        steps = np.arange(begin, min(begin + window, parts.steps))[:, None]
        at = np.minimum(parts.start + steps, len(tokens) - 2)
        live = (parts.start + steps == at) & (at + 1 >= parts.first) & (at + 1 < parts.last)
        fed = torch.from_numpy(tokens[at].astype(np.int64)).to(state[0].device)
        logits, state = model(fed, state)
        picked = torch.from_numpy(live).to(fed.device)
        targets = torch.from_numpy(tokens[at + 1].astype(np.int64)).to(fed.device)[picked]
        chosen = logits[picked].double().mul_(scale)
        total += float(torch.nn.functional.cross_entropy(chosen, targets, reduction="sum"))
        counted += int(live.sum())
        progress(counted, len(tokens) - 1)
    model.train(was_training)
    return total / counted
