"""Comparison of float model and integer program on the same tokens: deviation per layer, loss of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.model.imports.mmfreelm_reference import FloatModel, bfloat16, block_norm
from ternac.model.imports.source import Floats
from ternac.program.numerics import IntArray
from ternac.program.program import Program
from ternac.run.evaluate import cut
from ternac.run.sequence import SequenceExecutor

STREAMS, CONTEXT = 8, 64
HEAD_TOKENS = 256  # logits that are in memory at a time
POINTS = ("h", "r1", "r2")  # state, residual behind the recurrent half, behind the gated half


@dataclass(frozen=True)
class Window:
    """A text as [B, T] tokens with their targets; ``live`` marks the predictions that count."""

    tokens: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    live: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, ids: npt.NDArray[Any]) -> Window:
        """Cut a text as `ternac.run.evaluate` does: 8 streams, at least 64 uncounted tokens before each."""
        parts = cut(len(ids), STREAMS, CONTEXT)
        place = parts.start[:, None] + np.arange(parts.steps)
        at = np.minimum(place, len(ids) - 2)
        target = at + 1
        live = (place == at) & (target >= parts.first[:, None]) & (target < parts.last[:, None])
        ids = ids.astype(np.int64)
        return cls(ids[at], ids[target], live)


class Deviations:
    """Deviations of values from a reference: RMS of the difference divided by RMS of the reference."""

    def __init__(self, reference: Mapping[str, Floats]) -> None:
        self.reference = reference
        self.found: dict[str, float] = {}

    def see(self, name: str, values: Floats) -> None:
        """Compare ``values`` if the reference has them."""
        wanted = self.reference.get(name)
        if wanted is not None:
            power = float(np.mean(np.square(wanted, dtype=np.float64)))
            error = float(np.mean(np.square(values - wanted, dtype=np.float64)))
            self.found[name] = math.sqrt(error / power) if power else math.sqrt(error)


@dataclass(frozen=True)
class Run:
    """Predictions of a model: mean loss of those that count, and its first choice after every token."""

    nats: float
    best: npt.NDArray[np.int64]


def _judge(logits: Callable[[slice], Any], window: Window) -> Run:
    """Return loss and first choices; ``logits(part)`` gives real logits [B, part, V] of some steps."""
    total, best = 0.0, np.empty_like(window.targets)
    step = max(1, HEAD_TOKENS // len(window.tokens))
    for start in range(0, window.tokens.shape[1], step):
        part = slice(start, start + step)
        values = np.asarray(logits(part), np.float64)
        best[:, part] = values.argmax(axis=-1)
        values -= values.max(axis=-1, keepdims=True)
        right = np.take_along_axis(values, window.targets[:, part, None], axis=-1)[..., 0]
        nats = np.log(np.exp(values).sum(axis=-1)) - right
        total += float(nats[window.live[:, part]].sum())
    return Run(total / int(window.live.sum()), best)


def run_float(
    model: FloatModel,
    window: Window,
    see: Callable[[str, Floats], None],
    progress: Callable[[int], None] = lambda layers: None,
) -> Run:
    """Run the float model on a text, one layer in memory at a time."""
    r = model.embed()[window.tokens]
    for index in range(model.config.layers):
        r = model.layer(index).forward(r, see)
        progress(index + 1)
    weights, head = model.head()
    h = model.cast(block_norm(r, weights, model.config.eps, "n", lambda name, values: None))
    return _judge(lambda part: head(h[:, part], "logits", lambda name, values: None), window)


def run_integer(
    program: Program, units: Mapping[str, float], window: Window, see: Callable[[str, Floats], None]
) -> Run:
    """Run the program on a text; ``see`` gets its values in real units."""
    executor = SequenceExecutor(program)
    wanted = {f"{layer}.{point}" for layer in range(len(program.states)) for point in POINTS}

    def show(name: str, values: IntArray) -> None:
        if name in wanted:
            see(name, (values / units[name]).astype(np.float32))

    codes = executor.run(executor.open(len(window.tokens)), window.tokens, show)
    return _judge(lambda part: codes[:, part] * 2.0**-program.logit_scale_bits, window)


def report(
    model: FloatModel,
    program: Program,
    ids: npt.NDArray[Any],
    progress: Callable[[int], None] = lambda layers: None,
) -> dict[str, Any]:
    """Run both models, and as a yardstick the float model with bfloat16 activations, on the same tokens."""
    window = Window.of(ids)
    layers = model.config.layers
    kept: dict[str, Floats] = {}

    def keep(name: str, values: Floats) -> None:
        if name.rpartition(".")[2] in POINTS:
            kept[name] = values

    float32 = run_float(model, window, keep, progress)
    integer, rough = Deviations(kept), Deviations(kept)
    program_run = run_integer(program, program.meta["units"], window, integer.see)
    progress(2 * layers)
    bf16 = run_float(FloatModel(model.config, model.source, bfloat16), window, rough.see)
    progress(3 * layers)
    runs = {"float32": float32, "integer": program_run, "bfloat16": bf16}
    return {
        "predictions": int(window.live.sum()),
        "nats_per_token": {name: run.nats for name, run in runs.items()},
        "perplexity": {name: math.exp(min(run.nats, 700.0)) for name, run in runs.items()},
        "same_first_choice": {
            name: float((run.best == float32.best)[window.live].mean())
            for name, run in runs.items()
            if name != "float32"
        },
        "layers": [
            {
                "layer": index,
                "integer": {point: integer.found[f"{index}.{point}"] for point in POINTS},
                "bfloat16": {point: rough.found[f"{index}.{point}"] for point in POINTS},
            }
            for index in range(layers)
        ],
    }
