"""Hyper-parameters: the shape and the fixed scales of a model, and how it is trained."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
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
    row: int = 5  #: i8 values written to a memory, its rows and what is read from it

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not 0 <= value <= 15:
                raise UsageError(f"model.scales.{one.name} = {value} is outside 0..15")


@dataclass(frozen=True)
class MemoryConfig:
    """One memory layer (FwPKM): ``heads`` x ``slots`` x ``slots`` rows of ``width`` int8 elements.

    Head k's row has two digits, each the winner of ``slots`` scores of fixed ternary maps by ``seed``.
    """

    after: int = 1  #: blocks before it
    heads: int = 8
    slots: int = 16
    width: int = 24
    rate: int = 1  #: a write corrects its rows by 2**-rate of the error
    seed: int = 1

    def __post_init__(self) -> None:
        for name, low, high in (
            ("after", 1, 255),
            ("width", 1, 1024),
            ("rate", 0, 15),
            ("seed", 0, 2**31 - 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"model.memory.{name} = {value} is outside {low}..{high}")
        for name, low, high in (("heads", 1, 256), ("slots", 2, 1024)):
            value = getattr(self, name)
            if not low <= value <= high or value & (value - 1):
                raise UsageError(
                    f"model.memory.{name} = {value} is not a power of two in {low}..{high}",
                    "the mean over heads is a shift, a row's number a pair of bit fields",
                )
        if self.width % 2:
            raise UsageError(
                f"model.memory.width = {self.width} is odd", "a state word holds two elements of a row"
            )

    def resized(self, rows: int, seed: int) -> MemoryConfig:
        """Return the same memory with ``rows`` rows and maps of ``seed``: maps are not trained, so any do.

        Raises UsageError unless the rows are ``heads`` times the square of a power of two.
        """
        slots = math.isqrt(max(0, rows) // self.heads)
        if rows != self.heads * slots * slots or not 2 <= slots <= 1024 or slots & (slots - 1):
            sizes = ", ".join(str(self.heads * 4**bits) for bits in range(1, 11))
            raise UsageError(f"a memory of {self.heads} heads cannot have {rows} rows", f"choose of {sizes}")
        return replace(self, slots=slots, seed=seed)

    @property
    def bits(self) -> int:
        """Return the bits of a digit."""
        return self.slots.bit_length() - 1

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return self.heads * self.slots * self.slots

    def trits(self, d: int) -> int:
        """Return the ternary weights of the layer in a model of width ``d``, fixed maps included."""
        return d * (2 * self.heads * self.slots + 3 * self.width)


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a MatMul-free LM: ``layers`` blocks of MLGRU (width ``d``) and GLU (inner width ``m``)."""

    vocab: int = 256
    d: int = 192
    m: int = 384
    layers: int = 3
    scales: Scales = field(default_factory=Scales)
    temper: float = 1.0  #: gain of the norm before the head: all logits are so many times as large
    forget_bias: float = (
        0.0  #: added before the sigmoid of forget gates: 3 keeps a state for 20 tokens, not 2
    )
    memory: MemoryConfig | None = None

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
        if not 0.0 <= self.forget_bias <= 6.0:
            raise UsageError(f"model.forget_bias = {self.forget_bias} is outside [0, 6]")
        if self.memory and self.memory.after > self.layers:
            raise UsageError(
                f"model.memory.after = {self.memory.after}, but the model has {self.layers} blocks",
                "put the memory behind one of them",
            )

    @property
    def ternary_weights(self) -> int:
        """Return the number of trits, head included."""
        blocks = self.layers * (4 * self.d * self.d + 3 * self.d * self.m)
        return blocks + self.vocab * self.d + (self.memory.trits(self.d) if self.memory else 0)


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
    parts: int = 1  #: of the batch: their gradients are computed apart, and added in order
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
    repeats: float = 0.0  #: share of the streams that read passages again, for a memory to be of use
    question_weight: float = 1.0  #: of the loss before " =>" in a line; what is behind it counts 1
    mask_steps: int = (
        1  #: steps that dropout masks are kept: a memory finds what it wrote under the same mask
    )

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "window", "eval_every", "checkpoint_every", "mask_steps", "parts"):
            if getattr(self, name) < 1:
                raise UsageError(f"train.{name} must be at least 1")
        if self.batch % self.parts:
            raise UsageError(
                f"a batch of {self.batch} streams has no {self.parts} equal parts",
                hint=f"--batch {self.batch - self.batch % self.parts or self.parts}",
            )
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
            ("repeats", 0.0 <= self.repeats < 1.0, "[0, 1)"),
            ("question_weight", 0.0 <= self.question_weight <= 1.0, "[0, 1]"),
            ("val_fraction", 0.0 < self.val_fraction < 1.0, "(0, 1)"),
        ):
            if not fits:
                raise UsageError(f"train.{name} = {getattr(self, name)} is outside {span}")


@dataclass(frozen=True)
class SleepConfig:
    """Settings of the replay of `ternac.model.training.sleep`: how long, how fast, and what is learnt.

    ``share`` of the windows are cut from sessions, the others from base text. ``heard``: weight of the token
    that came, in sessions; the rest is that of what the program expected there, awake, as in base text it is
    all.
    """

    steps: int = 300
    batch: int = 32
    window: int = 64
    lr: float = 5e-5
    share: float = 0.25
    heard: float = 1.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "window"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 0.0 < self.lr <= 1.0:
            raise UsageError(f"lr = {self.lr} is outside (0, 1]")
        if not 0.0 < self.share <= 1.0:
            raise UsageError(f"share = {self.share} is outside (0, 1]: that part of the windows is replayed")
        if not 0.0 <= self.heard <= 1.0:
            raise UsageError(f"heard = {self.heard} is outside [0, 1]")


PRESETS: dict[str, tuple[ModelConfig, TrainConfig]] = {
    "shakespeare": (ModelConfig(), TrainConfig(steps=4000, dropout=0.15, average=0.998, temper=0.9)),
    "shakespeare-small": (
        ModelConfig(d=96, m=192, layers=3),
        TrainConfig(steps=3600, batch=12, dropout=0.0, lr=5e-3),
    ),
    # For 50 MB of novels, in the 256 tokens of a BPE; the validation part is what chooses no weights.
    "prose": (
        ModelConfig(),
        TrainConfig(
            steps=16000,
            dropout=0.0,
            average=0.999,
            checkpoint_every=500,
            eval_every=1000,
            eval_tokens=100_000,
            val_fraction=0.003,
        ),
    ),
    # The shakespeare recipe with a memory; half of the streams read passages again. The width of the GLU is
    # what fills the 512 weight words a column of ulx3s-85f-rows: fewer trits than shakespeare has.
    "hybrid": (
        ModelConfig(m=300, memory=MemoryConfig(after=2)),
        TrainConfig(steps=4000, dropout=0.15, average=0.998, temper=0.9, repeats=0.5, mask_steps=16),
    ),
    # Lines of `ternac task make`, in the 256 tokens of a BPE.
    "commands": (
        ModelConfig(
            d=96, m=192, layers=3, forget_bias=3.0
        ),  # without it the room, said long before, is a guess
        TrainConfig(
            steps=6000,
            batch=32,
            window=128,
            lr=5e-3,
            dropout=0.0,
            average=0.998,
            question_weight=0.01,
            hold_exponents=False,  # gates must get out of the middle of their table
            weight_limit=0.0,
            val_fraction=0.01,
            eval_tokens=30000,
            eval_every=1000,
            checkpoint_every=500,
        ),
    ),
    "smoke": (
        ModelConfig(d=32, m=48, layers=2),
        TrainConfig(steps=40, batch=8, window=64, eval_every=20, checkpoint_every=20, warmup=5),
    ),
}


def to_dict(model: ModelConfig, train: TrainConfig) -> dict[str, Any]:
    """Return both configurations as plain JSON values."""
    return {"model": asdict(model), "train": asdict(train)}


_NUMBERS: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,)}
"""Types of JSON values by the annotation of a field."""


def _pick(cls: type, values: Any, where: str) -> dict[str, Any]:
    """Return the settings of a class. Raises UsageError if a name is unknown, or a value of another type."""
    if not isinstance(values, dict):
        raise UsageError(f"setting {where} is {str(values)[:40]!r}, needs an object")
    for one in fields(cls):
        kinds = _NUMBERS.get(str(one.type))
        if kinds and one.name in values and type(values[one.name]) not in kinds:
            found = str(values[one.name])[:40]
            raise UsageError(f"setting {where}.{one.name} is {found!r}, needs {one.type}")
    known = {f.name for f in fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UsageError(f"unknown setting {where}.{unknown[0]}", hint=f"known: {', '.join(sorted(known))}")
    return values


def from_dict(values: dict[str, Any]) -> tuple[ModelConfig, TrainConfig]:
    """Invert :func:`to_dict`. Raises UsageError if a name is unknown, or a value of another type."""
    if not isinstance(values, dict):
        raise UsageError(f"the configuration is {str(values)[:40]!r}, needs an object")
    model = dict(_pick(ModelConfig, values.get("model", {}), "model"))
    if "scales" in model:
        model["scales"] = Scales(**_pick(Scales, model["scales"], "model.scales"))
    if model.get("memory"):
        model["memory"] = MemoryConfig(**_pick(MemoryConfig, model["memory"], "model.memory"))
    train = _pick(TrainConfig, values.get("train", {}), "train")
    return ModelConfig(**model), TrainConfig(**train)
