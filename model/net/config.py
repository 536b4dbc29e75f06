"""Hyper-parameters: the shape and the fixed scales of a model, and how it is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ternac.errors import UsageError


@dataclass(frozen=True)
class Scales:
    """Fraction bits of every activation: an integer code ``q`` stands for ``q * 2**-bits``.

    All are static powers of two, so that each requantization is a plain shift.
    """

    embed: int = 5  #: i8 embedding
    residual: int = 8  #: i16 residual stream
    square: int = 4  #: i8 copy of the residual that the norm squares
    norm: int = 5  #: i8 norm output; RMS 1.0 is the code 2**norm
    pre: int = 4  #: i8 input of every table
    state: int = 12  #: i16 SiLU output and recurrent state
    gate: int = 5  #: i8 output gate g
    mixed: int = 6  #: i8 h * g
    up: int = 4  #: i8 up projection
    act: int = 5  #: i8 SiLU of the gate projection
    hidden: int = 5  #: i8 product inside the GLU
    logits: int = 8  #: i16 logits


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a MatMul-free LM: ``layers`` blocks of MLGRU (width ``d``) and GLU (inner width ``m``)."""

    vocab: int = 256
    d: int = 192
    m: int = 384
    layers: int = 3
    scales: Scales = field(default_factory=Scales)
    temper: float = 1.0  #: gain of the norm before the head: all logits are so many times as large

    def __post_init__(self) -> None:
        for name, low, high in (
            ("vocab", 2, 65535),
            ("d", 1, 1024),
            ("m", 1, 65535),
            ("layers", 1, 255),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"model.{name} = {value} is outside {low}..{high}")
        if not 0.5 <= self.temper <= 1.5:
            raise UsageError(f"model.temper = {self.temper} is outside [0.5, 1.5]")

    @property
    def ternary_weights(self) -> int:
        """Return the number of trits, head included."""
        return self.layers * (4 * self.d * self.d + 3 * self.d * self.m) + self.vocab * self.d


@dataclass(frozen=True)
class TrainConfig:
    """How a model is trained. ``batch`` streams advance by ``window`` tokens per step."""

    steps: int = 2400
    batch: int = 24
    window: int = 256
    lr: float = 4e-3
    lr_final: float = 0.02  #: last learning rate as a fraction of ``lr``
    warmup: int = 50
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.98
    clip: float = 1.0
    dropout: float = 0.1
    seed: int = 1
    eval_every: int = 250
    checkpoint_every: int = 250
    val_fraction: float = 0.1
    eval_tokens: int = 0  #: an evaluation measures so many tokens of the held-out part; 0 = all of it
    bf16_backward: bool = True
    hold_exponents: bool = True  #: weight scales are set from mean |W| once, at the start
    weight_limit: float = 1.5  #: master weights are clamped to this many steps of their scale; 0 = not at all
    sharpen: float = (
        1.0  #: logits count this many times in the training loss alone, so that they end up smaller
    )
    temper: float = 1.0  #: ``ModelConfig.temper`` of the finished model; the run itself keeps its own
    average: float = 0.0  #: decay per step of the average of the weights, which is what is kept; 0 = none

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "window", "eval_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"train.{name} must be at least 1")
        for name in ("warmup", "eval_tokens", "seed"):
            if not 0 <= getattr(self, name) < 1 << 63:
                raise UsageError(f"train.{name} = {getattr(self, name)} is outside 0..2**63-1")
        for name, fits, span in (
            ("lr", 0.0 < self.lr < math.inf, "(0, inf)"),
            ("lr_final", 0.0 <= self.lr_final <= 1.0, "[0, 1]"),
            ("weight_decay", 0.0 <= self.weight_decay < math.inf, "[0, inf)"),
            ("beta1", 0.0 <= self.beta1 < 1.0, "[0, 1)"),
            ("beta2", 0.0 <= self.beta2 < 1.0, "[0, 1)"),
            ("clip", 0.0 < self.clip <= math.inf, "(0, inf]"),
            ("weight_limit", 0.0 <= self.weight_limit < math.inf, "[0, inf)"),
            ("dropout", 0.0 <= self.dropout < 1.0, "[0, 1)"),
            ("sharpen", 0.5 <= self.sharpen <= 2.0, "[0.5, 2]"),
            ("temper", 0.5 <= self.temper <= 1.5, "[0.5, 1.5]"),
            ("average", 0.0 <= self.average < 1.0, "[0, 1)"),
            ("val_fraction", 0.0 < self.val_fraction < 1.0, "(0, 1)"),
        ):
            if not fits:
                raise UsageError(f"train.{name} = {getattr(self, name)} is outside {span}")


PRESETS: dict[str, tuple[ModelConfig, TrainConfig]] = {
    "shakespeare": (ModelConfig(), TrainConfig(steps=4000, dropout=0.15, average=0.998, temper=0.9)),
    "shakespeare-small": (
        ModelConfig(d=96, m=192, layers=3),
        TrainConfig(steps=3600, batch=12, dropout=0.0, lr=5e-3),
    ),
    # For 50 MB of novels, in the 256 tokens of a BPE; the validation part is what chooses no weights.
    "prose": (
        ModelConfig(),
        TrainConfig(steps=3600, dropout=0.0, average=0.998, checkpoint_every=100, val_fraction=0.003),
    ),
    "smoke": (
        ModelConfig(d=32, m=48, layers=2),
        TrainConfig(steps=40, batch=8, window=64, eval_every=20, checkpoint_every=20, warmup=5),
    ),
}


def to_dict(model: ModelConfig, train: TrainConfig) -> dict[str, Any]:
    """Return both configurations as plain JSON values."""
    return {"model": asdict(model), "train": asdict(train)}


def _pick(cls: type, values: dict[str, Any], where: str) -> dict[str, Any]:
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"unknown setting {where}.{unknown[0]}", hint=f"known: {', '.join(sorted(known))}")
    return values


def from_dict(values: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """Invert :func:`to_dict`. Raises UsageError if a name is unknown."""
    model = dict(_pick(ModelConfig, values.get("model", {}), "model"))
    if "scales" in model:
        model["scales"] = Scales(**_pick(Scales, dict(model["scales"]), "model.scales"))
    train = _pick(TrainConfig, values.get("train", {}), "train")
    return ModelConfig(**model), TrainConfig(**train)
