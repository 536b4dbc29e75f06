"""Give the memory of a trained model another size: maps of a seed, or maps evened out on a text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ternac.errors import UsageError
from ternac.model.net.memory import even_maps
from ternac.model.net.network import TernaryLM
from ternac.model.training.checkpoint import Checkpoint

EVEN_TOKENS, EVEN_STREAMS = 65_536, 64
"""Of a text, spread over it: more of them change the gain of a second reading by less than its error."""


def resize(model: TernaryLM, rows: int, seed: int, text: npt.NDArray[Any] | None = None) -> dict[str, int]:
    """Give the model's memory ``rows`` rows; return what a program's meta says of it.

    The address maps are those of ``seed``; with tokens ``text`` those of `even_maps`, so that such a text
    uses the rows evenly. Raises UsageError where the memory cannot have so many rows, or the text is too
    short.
    """
    memory = model.resized_memory(rows, seed)
    if text is None:
        model.resize_memory(rows, seed)
        return {"rows": rows, "seed": seed}
    length = min(EVEN_TOKENS, len(text)) // EVEN_STREAMS
    if not length:
        raise UsageError(f"maps cannot be evened out on a text of {len(text)} tokens", "give a longer one")
    begins = np.linspace(0, len(text) - length, EVEN_STREAMS).astype(np.int64)
    tokens = torch.from_numpy(text[begins + np.arange(length)[:, None]].astype(np.int64))
    model.resize_memory(rows, seed, even_maps(memory, model.address_moment(tokens)))
    return {"rows": rows, "seed": seed, "even": tokens.numel()}


def resized(saved: Checkpoint, model: TernaryLM) -> Checkpoint:
    """Return the checkpoint ``saved`` with the memory of ``model``, which was made of it and resized."""
    assert model.recall is not None
    config = saved.info["config"]
    config = config | {"model": config["model"] | {"memory": asdict(model.recall.config)}}
    tensors = saved.tensors | {"model.recall.maps": model.recall.maps}
    return Checkpoint(tensors, saved.info | {"config": config})
