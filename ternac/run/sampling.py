"""Choose a token from logits: argmax, or seeded sampling with integers only, the same on every executor.

The engine's sampler does exactly this; docs/numerics.md is the page.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ternac.errors import UsageError

U32 = 0xFFFFFFFF
MAX_S = 31
ONE = 1 << 16
"""Probabilities of `Reshape` are multiples of 1 / ONE."""
MAX_SHIFT = 1 << 31
"""What `Reshape` adds to a logit is smaller than this."""

# EXP[c] = round(65535 * exp(-c / 16)); frozen, because no two exp() need agree in the last digit.
EXP = np.array(
    [
        65535, 61564, 57834, 54330, 51039, 47946, 45042, 42313, 39749, 37341, 35078, 32953,
        30957, 29081, 27319, 25664, 24109, 22648, 21276, 19987, 18776, 17639, 16570, 15566,
        14623, 13737, 12905, 12123, 11388, 10698, 10050, 9441, 8869, 8332, 7827, 7353,
        6907, 6489, 6096, 5726, 5379, 5054, 4747, 4460, 4190, 3936, 3697, 3473,
        3263, 3065, 2879, 2705, 2541, 2387, 2242, 2107, 1979, 1859, 1746, 1641,
        1541, 1448, 1360, 1278, 1200, 1128, 1059, 995, 935, 878, 825, 775,
        728, 684, 642, 604, 567, 533, 500, 470, 442, 415, 390, 366,
        344, 323, 303, 285, 268, 252, 236, 222, 209, 196, 184, 173,
        162, 153, 143, 135, 127, 119, 112, 105, 99, 93, 87, 82,
        77, 72, 68, 64, 60, 56, 53, 50, 47, 44, 41, 39,
        36, 34, 32, 30, 28, 27, 25, 23, 22, 21, 19, 18,
        17, 16, 15, 14, 13, 13, 12, 11, 10, 10, 9, 9,
        8, 8, 7, 7, 6, 6, 6, 5, 5, 5, 4, 4,
        4, 4, 3, 3, 3, 3, 3, 2, 2, 2, 2, 2,
        2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0,
    ],
    np.uint16,
)  # fmt: skip
EXP.setflags(write=False)


@dataclass(frozen=True)
class Sampling:
    """Rule that chooses the next token: argmax (``greedy``), or a draw by ``EXP[((M - logit) * m) >> s]``.

    ``m`` 1..255 and ``s`` 0..31 set the temperature (see :meth:`from_temperature`); ``top_k`` keeps the k
    largest logits, 0 keeps all.  A ``top_k`` above the vocabulary keeps all.
    """

    greedy: bool = True
    m: int = 128
    s: int = 0
    top_k: int = 0

    def __post_init__(self) -> None:
        for what, value, low, high in (
            ("m", self.m, 1, 255),
            ("s", self.s, 0, MAX_S),
            ("top_k", self.top_k, 0, 65535),
        ):
            if not low <= value <= high:
                raise UsageError(f"sampling parameter {what} is {value}, outside {low}..{high}")

    @classmethod
    def from_temperature(cls, temperature: float, logit_scale_bits: int, top_k: int = 0) -> Sampling:
        """Return the closest ``m / 2**s`` to ``16 * 2**-logit_scale_bits / temperature``; 0 is argmax.

        ``m`` uses its full 8 bits (128..255) where ``s`` stays within 0..31.
        """
        if not (math.isfinite(temperature) and temperature >= 0):
            raise UsageError(f"temperature is {temperature}, needs a number of at least 0")
        if temperature == 0:
            return cls(top_k=top_k)
        ratio = 16 * 2.0**-logit_scale_bits / temperature
        s = min(max(8 - math.frexp(ratio)[1], 0), MAX_S)
        m = math.floor(min(ratio * 2.0**s, 256.0) + 0.5)
        if m == 256 and s > 0:
            m, s = 128, s - 1
        return cls(False, min(max(m, 1), 255), s, top_k)


GREEDY = Sampling()


def xorshift32(x: int) -> int:
    """Return the next generator state: ``x ^= x << 13; x ^= x >> 17; x ^= x << 5`` in 32 bits, never 0."""
    x ^= (x << 13) & U32
    x ^= x >> 17
    return x ^ (x << 5) & U32


def seed_state(seed: int) -> int:
    """Return a generator state (1..2**32-1) for any integer seed; nearby seeds give unrelated states."""
    x = (seed * 0x9E3779B1 + 0x7F4A7C15) & U32
    x ^= x >> 16
    x = (x * 0x85EBCA6B) & U32
    x ^= x >> 13
    return x or 1


def argmax(logits: Any) -> int:
    """Return the index of the largest logit, the lowest among equals."""
    return int(np.argmax(logits))


def weights(logits: Any, sampling: Sampling) -> np.ndarray:
    """Return the integer weight (0..65535) of each token, int64 [V]; at least one is 65535."""
    z = np.asarray(logits, np.int64)
    codes = np.minimum(((z.max() - z) * sampling.m) >> sampling.s, 255)
    w = EXP[codes].astype(np.int64)
    if 0 < sampling.top_k < len(z):
        w[np.argsort(-z, kind="stable")[sampling.top_k :]] = 0
    return w


def choose(logits: Any, sampling: Sampling, rng: int) -> tuple[int, int]:
    """Return the next token and the next generator state from logits int [V].

    Greedy leaves ``rng`` as it is; a draw advances it once: ``rng = xorshift32(rng)``,
    ``r = (rng * sum(w)) >> 32``, and the token is the first whose cumulated weight exceeds ``r``.
    """
    if sampling.greedy:
        return argmax(logits), rng
    return draw(weights(logits, sampling), rng)


def draw(w: np.ndarray, rng: int) -> tuple[int, int]:
    """Return a token drawn by the weights ``w``, and the next generator state."""
    if not 1 <= rng <= U32:
        raise UsageError(f"generator state is {rng}, outside 1..{U32}")
    cumulated = np.cumsum(w)
    rng = xorshift32(rng)
    r = (rng * int(cumulated[-1])) >> 32
    return int(np.searchsorted(cumulated, r, side="right")), rng


@dataclass(frozen=True)
class Reshape:
    """What is done to logits and weights before the host chooses. All values 0, or ``ONE`` for ``top_p``,
    change nothing.

    ``bias`` is added to the logits of tokens, ``presence`` subtracted where a token was chosen before and
    ``frequency`` as often as it was, all three in units of the logits' code. ``top_p`` keeps the likeliest
    tokens whose weights make ``top_p / ONE`` of all; ``min_p`` those of at least ``min_p / ONE`` of the
    greatest weight.
    """

    bias: Mapping[int, int] = field(default_factory=dict)
    presence: int = 0
    frequency: int = 0
    top_p: int = ONE
    min_p: int = 0

    @classmethod
    def from_real(
        cls,
        logit_scale_bits: int,
        *,
        bias: Mapping[int, float] | None = None,
        presence: float = 0.0,
        frequency: float = 0.0,
        top_p: float = 1.0,
        min_p: float = 0.0,
    ) -> Reshape:
        """Return the nearest integers of values in nats and probabilities, halves to even.

        Raises UsageError if a probability is outside 0..1, or a value is too large for a logit.
        """
        for name, value in (("top_p", top_p), ("min_p", min_p)):
            if not 0 <= value <= 1:
                raise UsageError(f"{name} is {value}, needs a number of 0 to 1")

        def code(name: str, value: float) -> int:
            scaled = value * 2.0**logit_scale_bits
            if not abs(scaled) < MAX_SHIFT:
                raise UsageError(f"{name} is {value}, too large for a logit")
            return round(scaled)

        biases = {token: code("logit_bias", value) for token, value in (bias or {}).items()}
        return cls(
            {token: value for token, value in biases.items() if value},
            code("presence_penalty", presence),
            code("frequency_penalty", frequency),
            round(top_p * ONE),
            round(min_p * ONE),
        )

    @property
    def neutral(self) -> bool:
        """True if nothing is changed."""
        return self == Reshape()

    def logits(self, logits: Any, before: Mapping[int, int]) -> np.ndarray:
        """Return the logits, int64 [V], with bias and penalties; ``before``: how often a token was chosen."""
        z = np.array(logits, np.int64)
        for token, value in self.bias.items():
            z[token] += value
        for token, times in before.items():
            z[token] -= self.presence + times * self.frequency
        return z

    def weights(self, logits: Any, sampling: Sampling) -> np.ndarray:
        """Return the weights of `weights`, 0 for tokens that top-p or min-p drops."""
        w = weights(logits, sampling)
        if self.top_p < ONE:
            order = np.argsort(-np.asarray(logits, np.int64), kind="stable")
            sums = np.cumsum(w[order])
            last = int(np.searchsorted(sums * ONE, self.top_p * int(sums[-1]), side="left"))
            w[order[last + 1 :]] = 0
        w[w * ONE < self.min_p * int(w.max())] = 0
        return w


@dataclass
class Chooser:
    """Chooses the tokens of one text by ``sampling`` and ``reshape``; remembers what was chosen."""

    sampling: Sampling
    reshape: Reshape
    before: Counter[int] = field(default_factory=Counter)

    def choose(self, logits: Any, rng: int) -> tuple[int, int]:
        """Return the next token and generator state, as `choose` does."""
        z = self.reshape.logits(logits, self.before)
        if self.sampling.greedy:
            token = argmax(z)
        else:
            token, rng = draw(self.reshape.weights(z, self.sampling), rng)
        self.before[token] += 1
        return token, rng
