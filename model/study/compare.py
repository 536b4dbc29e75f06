"""The price of ternary weights and integers: twins of one size, trained the same way on the same text.

    float          float weights and activations
    ternary-float  ternary weights, float activations
    integer        ternary weights, integer activations: what is deployed
    transformer    a float transformer of as many parameters

All see the same bytes in the same order with the same optimizer, schedule and seed; the learning rate of the
float kinds may differ. The integer model's loss is taken twice by one routine, from the logits of the trained
torch model and from those of the exported program: the difference is zero, or something is broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ternac.errors import UsageError
from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.net.executor import TorchExecutor
from ternac.model.study.float_models import FloatTwin, Transformer
from ternac.model.training.data import Corpus
from ternac.model.training.evaluate import nats_per_token
from ternac.model.training.train import Progress, Trainer
from ternac.run import evaluate as ev
from ternac.run.numpy_executor import NumpyExecutor

KINDS = ("float", "ternary-float", "integer", "transformer")


class TwinTrainer(Trainer):
    """Trains one of the float kinds as :class:`Trainer` trains the integer model."""

    kind = "float"

    def build(self, model: ModelConfig) -> nn.Module:
        """Return a fresh model of ``kind``."""
        if self.kind == "transformer":
            return Transformer(model, self.config.dropout, self.config.window)
        return FloatTwin(model, self.config.dropout, ternary=self.kind == "ternary-float")


class _TernaryFloat(TwinTrainer):
    kind = "ternary-float"


class _Transformer(TwinTrainer):
    kind = "transformer"


TRAINERS: dict[str, type[Trainer]] = {
    "float": TwinTrainer,
    "ternary-float": _TernaryFloat,
    "integer": Trainer,
    "transformer": _Transformer,
}


@dataclass(frozen=True)
class Row:
    """One trained kind: ``nats`` per token of the validation text; for ``integer`` also the program's."""

    kind: str
    parameters: int
    nats: float
    steps: int
    lr: float
    seconds: float
    program_nats: float | None = None

    def to_json(self, measured: Corpus, base: float | None) -> dict[str, Any]:
        """Return plain data; ``measured`` names the text of the losses, ``base`` is the float twin's loss."""
        return {
            "kind": self.kind,
            "parameters": self.parameters,
            "nats_per_token": self.nats,
            "bits_per_byte": self.nats / math.log(2) / measured.bytes_per_token,
            "over_float": None if base is None else self.nats - base,
            "steps": self.steps,
            "lr": self.lr,
            "seconds": round(self.seconds, 1),
        }


def train_kind(
    kind: str,
    model: ModelConfig,
    train: TrainConfig,
    corpus: Corpus,
    out: Path,
    limit: int,
    report: Callable[[Progress], None],
    held_out: Corpus | None = None,
) -> Row:
    """Train one kind in ``out / kind`` (or resume there), and measure it on ``limit`` tokens of ``held_out``,
    or of the part of ``corpus`` that is kept for validation.

    Its weights are those at the end of the run, averaged where the settings say so, its logits tempered where
    they say so.
    """
    if kind not in TRAINERS:
        raise UsageError(f"no kind is called {kind!r}", f"kinds: {', '.join(KINDS)}")
    if model.memory and kind != "integer":
        raise UsageError(f"the {kind} twin has no memory", "compare with --memory none, or --kinds integer")
    trainer = TRAINERS[kind](model, train, corpus.tokens, out / kind, tokenizer=corpus.tokenizer)
    trainer.run(report)
    val = (trainer.val_text if held_out is None else held_out.tokens)[:limit]
    program_nats = None
    with trainer.averaged(), trainer.tempered():
        parameters = sum(p.numel() for p in trainer.model.parameters())
        if kind == "integer":
            torch_side = TorchExecutor(trainer.model, "integer", tokenizer=corpus.tokenizer)
            nats = ev.evaluate(torch_side, val).nats_per_token
            program_nats = ev.evaluate(NumpyExecutor(torch_side.program), val).nats_per_token
        else:
            nats = nats_per_token(trainer.model, val)
    return Row(kind, parameters, nats, trainer.step, train.lr, trainer.seconds, program_nats)


def settings_of(kind: str, train: TrainConfig, lr_float: float | None) -> TrainConfig:
    """Return the training settings of a kind: all the same but for the learning rate of the float kinds."""
    return train if kind == "integer" or lr_float is None else replace(train, lr=lr_float)


def table(rows: list[Row], measured: Corpus) -> tuple[list[dict[str, Any]], float | None]:
    """Return the rows as plain data, and the loss of the integer program minus that of its model (0.0)."""
    base = next((row.nats for row in rows if row.kind == "float"), None)
    integer = next((row for row in rows if row.program_nats is not None), None)
    gap = None
    if integer is not None and integer.program_nats is not None:
        gap = integer.program_nats - integer.nats
    return [row.to_json(measured, base) for row in rows], gap
