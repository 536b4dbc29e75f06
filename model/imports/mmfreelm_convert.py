"""An MMfreeLM checkpoint as an integer program: scales from a calibration text, trits unchanged.

Layer by layer: read it, run the float model on the calibration tokens, choose units, emit the layer's ops.
So one layer's floats and the program's trits are all that is in memory.

A value of the program is a code; its *unit* is how many codes stand for 1.0. Units are powers of two, except
behind an RMSNORM, where a unit is ``2**k / sqrt(n)`` (docs/numerics.md), and behind a SCALE: any number. The
highest magnitude of a value in calibration times ``headroom`` still fits; what exceeds it later saturates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import CheckpointError
from ternac.model.imports.mmfreelm_config import NORM_EPS
from ternac.model.imports.mmfreelm_reference import FloatLayer, FloatModel, Projection, block_norm
from ternac.model.imports.source import Floats
from ternac.program.import_ops import (
    INVERSE_BITS,
    MAX_EPS,
    MAX_RESCALE,
    MAX_RESCALE_SHIFT,
    MAX_RMS_SHIFT,
    ROOT_BITS,
)
from ternac.program.mmfree import I16, Factor, Gain, Layer, Linear, Norms, Rms, build_mmfree
from ternac.program.program import Program
from ternac.program.random import curve

PER_TOKEN, FIXED = "token", "fixed"
TOP = 32767
MAX_BITS = 24
_RMS_BITS = INVERSE_BITS - ROOT_BITS  # 39
GATE_BITS = (11, 13)  # sigmoid is 0 or 1 beyond +-16


@dataclass
class Peaks:
    """Highest magnitude of every value in calibration."""

    highest: dict[str, float] = field(default_factory=dict)

    def see(self, name: str, values: Floats) -> None:
        """Note the peak of ``values``. Raises CheckpointError if the model itself overflows."""
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
        """Return the exponent in ``low..high`` of the finest power-of-two unit in which ``name`` fits."""
        peak = self.peaks[name] * self.headroom
        return max(low, min(high, math.floor(math.log2(TOP / peak)))) if peak > 0 else high

    def fit(self, name: str) -> float:
        """Return the finest unit, any number, in which value ``name`` fits."""
        peak = self.peaks[name] * self.headroom
        return TOP / peak if peak > 0 else 1.0

    def rms(self, name: str, n: int, eps: float, unit: float) -> tuple[Rms, float]:
        """Return an RMSNORM over ``n`` values of ``unit`` whose result is ``name``, and the result's unit."""
        peak = self.peaks[name] * self.headroom / math.sqrt(n)  # of x / sqrt(sum of squares): at most 1
        k = max(14, math.floor(math.log2(TOP / peak))) if peak > 0 else 14
        k = min(k, _RMS_BITS)
        code = min(round(eps * n * unit * unit), MAX_EPS)
        return Rms(code, min(_RMS_BITS - k, MAX_RMS_SHIFT)), 2.0**k / math.sqrt(n)

    def gain(self, name: str, weights: Floats, unit: float) -> tuple[Gain, float]:
        """Return a SCALE by ``weights`` of values of ``unit``, and the finest unit that fits its result."""
        top = float(np.abs(weights.astype(np.float64)).max())
        fine = min(self.fit(name), TOP * unit / top if top > 0 else 1.0)  # the second: a constant is an i16
        return gain(weights.astype(np.float64) * fine / unit), fine


@dataclass(frozen=True)
class Settings:
    """``activations``: one scale per token, as the model was trained, or fixed ones; room above peaks."""

    activations: str = PER_TOKEN
    headroom: float = 2.0


@dataclass
class Converter:
    """Makes the program of ``model``; ``units`` collects codes per 1.0, ``worths`` what a trit is worth."""

    model: FloatModel
    settings: Settings = field(default_factory=Settings)
    units: dict[str, float] = field(default_factory=dict)
    worths: dict[str, float] = field(default_factory=dict)

    def run(
        self,
        name: str,
        tokens: npt.NDArray[Any],
        meta: dict[str, Any],
        progress: Callable[[int], None] = lambda layers: None,
        tokenizer: bytes = b"",
    ) -> Program:
        """Return the program, calibrated on ``tokens`` [B, T]; ``progress`` gets the number of layers done.

        ``tokenizer`` is a ``tokenizer.json`` to go into the program, with ``meta["tokenizer"]`` saying so.
        """
        embed = self.model.embed()
        peaks = Peaks()
        peaks.see("r.e", embed)
        bits = Scales(peaks.highest, 1.0).bits("r.e")
        codes: I16 = np.clip(np.rint(embed * np.float32(2.0**bits)), -TOP, TOP).astype(np.int16)
        self._residual, self._bits = embed[tokens], bits
        self.units["r.e"] = 2.0**bits
        del embed
        layers = list(self._layers(progress))
        norm, head, logit_bits = self._head()
        about = {"worth": self.worths, "units": self.units, "activations": self.settings.activations}
        return build_mmfree(name, codes, layers, norm, head, logit_bits, meta | about, tokenizer)

    def _layers(self, progress: Callable[[int], None]) -> Iterator[Layer]:
        for index in range(self.model.config.layers):
            layer = self.model.layer(index)
            peaks = Peaks()
            self._residual = layer.forward(self._residual, peaks.see)
            yield self._layer(layer, Scales(peaks.highest, self.settings.headroom))
            progress(index + 1)

    def _layer(self, layer: FloatLayer, s: Scales) -> Layer:
        """Return the integers of one layer; ``unit`` grows value by value, in the order of its ops."""
        at, d, m = f"{layer.index}.", self.model.config.d, self.model.config.m
        bits = {name: s.bits(at + name) for name in ("i", "g", "c", "s", "gate", "up", "a")}
        bits["f"] = s.bits(f"{at}f", *GATE_BITS)
        unit = {name: 2.0**count for name, count in bits.items()}
        unit["h"] = unit["c"]
        norm1, unit["n1"] = self._norms(s, f"{at}n1", f"{at}i.n", layer.attn_norm, self._bits)
        gate_norm, unit["gn.r"] = s.rms(f"{at}gn.r", d, NORM_EPS, unit["g"])
        gate_gain, unit["gn"] = s.gain(f"{at}gn", layer.g_norm, unit["gn.r"])
        mix_shift, unit["oz"] = _product(unit["gn"], unit["s"], s.fit(f"{at}oz"))
        o_norm, unit["o.n"] = s.rms(f"{at}o.n", d, NORM_EPS, unit["oz"])
        shift1, unit["r1"] = self._step(s, f"{at}r1")
        norm2, unit["n2"] = self._norms(s, f"{at}n2", f"{at}gate.n", layer.mlp_norm, self._bits)
        z_shift, unit["z"] = _product(unit["up"], unit["a"], s.fit(f"{at}z"))
        down_norm, unit["down.n"] = s.rms(f"{at}down.n", m, NORM_EPS, unit["z"])
        shift2, unit["r2"] = self._step(s, f"{at}r2")
        self.units |= {at + name: unit[name] for name in ("i", "f", "g", "h", "r1", "gate", "up", "z", "r2")}

        def linear(name: str, projection: Projection, source: str, *outs: str) -> Linear:
            return self._linear(s, at + name, projection, unit[source], tuple(unit[out] for out in outs))

        closed = 1.0 - layer.lb.astype(np.float64)
        return Layer(
            norm1=norm1,
            o=linear("o", layer.o, "o.n", "r1"),
            i=linear("i", layer.i, "n1", "i"),
            f=linear("f", layer.f, "n1", "f"),
            g=linear("g", layer.g, "n1", "g"),
            candidate=curve("silu", bits["i"], bits["c"]),
            forget=curve("closed", bits["f"], 15),
            open=gain(closed) if layer.lb.any() else None,
            gate_norm=gate_norm,
            gate_gain=gate_gain,
            swish=curve("silu", bits["c"], bits["s"]),
            mix_shift=mix_shift,
            o_norm=o_norm,
            shift1=shift1,
            norm2=norm2,
            gate=linear("gate", layer.gate, "n2", "gate", "up"),
            act=curve("silu", bits["gate"], bits["a"]),
            z_shift=z_shift,
            down_norm=down_norm,
            down=linear("down", layer.down, "down.n", "r2"),
            shift2=shift2,
        )

    def _step(self, s: Scales, name: str) -> tuple[int, float]:
        """Return the shift of the residual before the ADD that makes ``name``, and its unit from there on."""
        bits = min(self._bits, s.bits(name))
        shift, self._bits = self._bits - bits, bits
        return shift, 2.0**bits

    def _norms(self, s: Scales, block: str, inner: str, weights: Floats, bits: int) -> tuple[Norms, float]:
        n = self.model.config.d
        first, unit = s.rms(f"{block}.r", n, self.model.config.eps, 2.0**bits)
        by, unit = s.gain(f"{block}.g", weights, unit)
        second, unit = s.rms(inner, n, NORM_EPS, unit)
        return Norms(first, by, second), unit

    def _linear(self, s: Scales, name: str, p: Projection, unit: float, outs: tuple[float, ...]) -> Linear:
        """Return a projection of values of ``unit``, its rows split evenly among the outputs."""
        by, u_y = s.gain(f"{name}.y", p.gamma, unit)
        self.worths[name] = p.worth
        fixed: Factor | None = None
        if self.settings.activations == FIXED:
            top = max(s.peaks[f"{name}.y"], 1e-5)
            fixed = factor(127 / (top * u_y), (1 << 31) - 1, 31)
            factors = [factor(top / 127 * p.worth * u, (1 << 31) - 1, 31) for u in outs]
        else:
            factors = [factor(p.worth / (127 * u_y) * u) for u in outs]
        parts = np.split(p.trits, len(outs))
        return Linear(by, fixed, tuple(zip(parts, factors, strict=True)))

    def _head(self) -> tuple[Norms, Linear, int]:
        """Return final norm, head and the fraction bits of the logits."""
        weights, head = self.model.head()
        peaks = Peaks()
        normed = block_norm(self._residual, weights, self.model.config.eps, "n", peaks.see)
        flat = normed.reshape(-1, normed.shape[-1])
        for start in range(0, len(flat), 256):  # logits of all tokens at a time would be the largest array
            peaks.see("logits", head(flat[start : start + 256], "logits", peaks.see))
        s = Scales(peaks.highest, self.settings.headroom)
        norm, unit = self._norms(s, "n", "logits.n", weights, self._bits)
        bits = s.bits("logits", 0)
        self.units["logits"] = 2.0**bits
        return norm, self._linear(s, "logits", head, unit, (2.0**bits,)), bits


def _product(a: float, b: float, most: float) -> tuple[int, float]:
    """Return the shift of a MUL16 of units ``a`` and ``b`` to a unit of at most ``most``, and that unit."""
    shift = max(0, min(31, math.ceil(math.log2(a * b / most))))
    return shift, a * b / 2.0**shift


def gain(factors: np.ndarray) -> Gain:
    """Return constant and shift of a SCALE by ``factors``, each at most 32767."""
    top = float(np.abs(factors).max())
    shift = min(31, math.floor(math.log2(TOP / top))) if top > 0 else 0
    return Gain(np.clip(np.rint(factors * 2.0**shift), -TOP, TOP).astype(np.int16), shift)


def factor(value: float, limit: int = MAX_RESCALE, most: int = MAX_RESCALE_SHIFT) -> Factor:
    """Return ``multiplier / 2**shift`` nearest to ``value`` > 0 with as many bits as ``limit`` allows."""
    shift = min(most, math.floor(math.log2(limit / value)))
    if shift < 0:
        raise CheckpointError(f"a scale of {value:g} is too large for a 16-bit result")
    return Factor(max(1, min(limit, round(value * 2.0**shift))), shift)


__all__ = ["FIXED", "PER_TOKEN", "Converter", "Gain", "Rms", "Settings"]
