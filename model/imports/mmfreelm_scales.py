"""From real scales to the integers of the import ops.

A value of the program is a code; its *unit* is how many codes stand for 1.0.  Units are powers of two, except
behind an RMSNORM, where a unit is ``2**k / sqrt(n)`` (docs/numerics.md), and behind a SCALE: any number.  The
highest magnitude of a value in calibration times ``headroom`` still fits; what exceeds it later saturates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ternac.errors import CheckpointError
from ternac.model.imports.source import Floats
from ternac.program.import_ops import (
    INVERSE_BITS,
    MAX_EPS,
    MAX_RESCALE,
    MAX_RESCALE_SHIFT,
    MAX_RMS_SHIFT,
    ROOT_BITS,
)
from ternac.program.mmfree import Factor, Gain, Rms

TOP = 32767
MAX_BITS = 24
_RMS_BITS = INVERSE_BITS - ROOT_BITS  # 39


@dataclass
class Peaks:
    """Highest magnitude of every value that was seen."""

    highest: dict[str, float] = field(default_factory=dict)

    def see(self, name: str, values: Floats) -> None:
        """Take note of ``values``; CheckpointError if one is not finite: the model itself overflows."""
        top = float(np.abs(values).max())
        if not math.isfinite(top):
            raise CheckpointError(f"the float model gives {top} for {name}", "the checkpoint is unusable")
        self.highest[name] = max(self.highest.get(name, 0.0), top)


@dataclass(frozen=True)
class Scales:
    """Choices of units from peaks."""

    peaks: Mapping[str, float]
    headroom: float

    def bits(self, name: str, low: int = -8, high: int = MAX_BITS) -> int:
        """The finest unit, as a power of two in ``low..high``, in which value ``name`` fits."""
        peak = self.peaks[name] * self.headroom
        return max(low, min(high, math.floor(math.log2(TOP / peak)))) if peak > 0 else high

    def fit(self, name: str) -> float:
        """The finest unit, any number, in which value ``name`` fits."""
        peak = self.peaks[name] * self.headroom
        return TOP / peak if peak > 0 else 1.0

    def rms(self, name: str, n: int, eps: float, unit: float) -> tuple[Rms, float]:
        """An RMSNORM over ``n`` values of ``unit``, with the unit of its result, which is called ``name``."""
        peak = self.peaks[name] * self.headroom / math.sqrt(n)  # of x / sqrt(sum of squares): at most 1
        k = max(14, math.floor(math.log2(TOP / peak))) if peak > 0 else 14
        k = min(k, _RMS_BITS)
        code = min(round(eps * n * unit * unit), MAX_EPS)
        return Rms(code, min(_RMS_BITS - k, MAX_RMS_SHIFT)), 2.0**k / math.sqrt(n)

    def gain(self, name: str, weights: Floats, unit: float) -> tuple[Gain, float]:
        """A SCALE by ``weights`` of values of ``unit``; its result gets the finest unit that fits."""
        top = float(np.abs(weights.astype(np.float64)).max())
        fine = min(self.fit(name), TOP * unit / top if top > 0 else 1.0)  # the second: a constant is an i16
        return gain(weights.astype(np.float64) * fine / unit), fine


def gain(factors: np.ndarray) -> Gain:
    """Constant and shift of a SCALE that multiplies by ``factors``, each at most 32767."""
    top = float(np.abs(factors).max())
    shift = min(31, math.floor(math.log2(TOP / top))) if top > 0 else 0
    return Gain(np.clip(np.rint(factors * 2.0**shift), -TOP, TOP).astype(np.int16), shift)


def factor(value: float, limit: int = MAX_RESCALE, most: int = MAX_RESCALE_SHIFT) -> Factor:
    """``multiplier / 2**shift`` nearest to ``value`` > 0 with as many bits as ``limit`` allows."""
    shift = min(most, math.floor(math.log2(limit / value)))
    if shift < 0:
        raise CheckpointError(f"a scale of {value:g} is too large for a 16-bit result")
    return Factor(max(1, min(limit, round(value * 2.0**shift))), shift)
