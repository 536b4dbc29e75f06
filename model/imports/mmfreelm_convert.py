"""An MMfreeLM checkpoint as an integer program: scales from a calibration text, trits as they are.

Layer by layer: read it, run the float model on the calibration tokens, choose units, emit the layer's ops.
So one layer's floats and the program's trits are all that is in memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.model.imports.mmfreelm_config import NORM_EPS
from ternac.model.imports.mmfreelm_reference import FloatLayer, FloatModel, Projection, block_norm
from ternac.model.imports.mmfreelm_scales import TOP, Peaks, Scales, factor, gain
from ternac.model.imports.source import Floats
from ternac.program.mmfree import I16, Factor, Gain, Layer, Linear, Norms, Rms, build_mmfree
from ternac.program.program import Program
from ternac.program.random import curve

PER_TOKEN, FIXED = "token", "fixed"
GATE_BITS = (11, 13)  # sigmoid is 0 or 1 beyond +-16


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
        """The program, calibrated on ``tokens`` [B, T]; ``progress`` gets the layers that are done.

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

    def _unit(self, name: str, bits: int) -> float:
        self.units[name] = 2.0**bits
        return 2.0**bits

    def _layer(self, layer: FloatLayer, s: Scales) -> Layer:
        """The integers of one layer."""
        l, d, m = f"{layer.index}", self.model.config.d, self.model.config.m  # noqa: E741
        norm1, u = self._norms(s, f"{l}.n1", f"{l}.i.n", layer.attn_norm, self._bits)
        u_i = self._unit(f"{l}.i", bits_i := s.bits(f"{l}.i"))
        u_f = self._unit(f"{l}.f", bits_f := s.bits(f"{l}.f", *GATE_BITS))
        u_g = self._unit(f"{l}.g", s.bits(f"{l}.g"))
        state = s.bits(f"{l}.c")
        self._unit(f"{l}.h", state)
        gate_norm, u_n = s.rms(f"{l}.gn.r", d, NORM_EPS, u_g)
        gate_gain, u_gn = s.gain(f"{l}.gn", layer.g_norm, u_n)
        bits_s = s.bits(f"{l}.s")
        mix, u_oz = _product(u_gn, 2.0**bits_s, s.fit(f"{l}.oz"))
        o_norm, u_on = s.rms(f"{l}.o.n", d, NORM_EPS, u_oz)
        shift1, u_r1 = self._step(s, f"{l}.r1")
        o = self._linear(s, f"{l}.o", layer.o, u_on, (u_r1,))
        norm2, u2 = self._norms(s, f"{l}.n2", f"{l}.gate.n", layer.mlp_norm, self._bits)
        u_gate = self._unit(f"{l}.gate", bits_gate := s.bits(f"{l}.gate"))
        u_up = self._unit(f"{l}.up", s.bits(f"{l}.up"))
        bits_a = s.bits(f"{l}.a")
        z_shift, u_z = _product(u_up, 2.0**bits_a, s.fit(f"{l}.z"))
        self.units[f"{l}.z"] = u_z
        down_norm, u_zn = s.rms(f"{l}.down.n", m, NORM_EPS, u_z)
        shift2, u_r2 = self._step(s, f"{l}.r2")
        closed = 1.0 - layer.lb.astype(np.float64)
        return Layer(
            norm1=norm1, i=self._linear(s, f"{l}.i", layer.i, u, (u_i,)),
            f=self._linear(s, f"{l}.f", layer.f, u, (u_f,)), g=self._linear(s, f"{l}.g", layer.g, u, (u_g,)),
            candidate=curve("silu", bits_i, state), forget=curve("closed", bits_f, 15),
            open=gain(closed) if layer.lb.any() else None,
            gate_norm=gate_norm, gate_gain=gate_gain, swish=curve("silu", state, bits_s), mix_shift=mix,
            o_norm=o_norm, o=o, shift1=shift1, norm2=norm2,
            gate=self._linear(s, f"{l}.gate", layer.gate, u2, (u_gate, u_up)),
            act=curve("silu", bits_gate, bits_a), z_shift=z_shift, down_norm=down_norm,
            down=self._linear(s, f"{l}.down", layer.down, u_zn, (u_r2,)), shift2=shift2,
        )  # fmt: skip

    def _step(self, s: Scales, name: str) -> tuple[int, float]:
        """Right shift of the residual before the ADD that makes ``name``, and its unit from there on."""
        bits = min(self._bits, s.bits(name))
        shift, self._bits = self._bits - bits, bits
        return shift, self._unit(name, bits)

    def _norms(self, s: Scales, block: str, inner: str, weights: Floats, bits: int) -> tuple[Norms, float]:
        n = self.model.config.d
        first, unit = s.rms(f"{block}.r", n, self.model.config.eps, 2.0**bits)
        by, unit = s.gain(f"{block}.g", weights, unit)
        second, unit = s.rms(inner, n, NORM_EPS, unit)
        return Norms(first, by, second), unit

    def _linear(self, s: Scales, name: str, p: Projection, unit: float, outs: tuple[float, ...]) -> Linear:
        """A projection of values of ``unit``, its rows dealt to as many outputs as there are units."""
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
        """Final norm, head and the scale of the logits."""
        weights, head = self.model.head()
        peaks = Peaks()
        normed = block_norm(self._residual, weights, self.model.config.eps, "n", peaks.see)
        flat = normed.reshape(-1, normed.shape[-1])
        for start in range(0, len(flat), 256):  # logits of all tokens at a time would be the largest array
            peaks.see("logits", head(flat[start : start + 256], "logits", peaks.see))
        s = Scales(peaks.highest, self.settings.headroom)
        norm, unit = self._norms(s, "n", "logits.n", weights, self._bits)
        bits = s.bits("logits", 0)
        return norm, self._linear(s, "logits", head, unit, (self._unit("logits", bits),)), bits


def _product(a: float, b: float, most: float) -> tuple[int, float]:
    """Shift of a MUL16 of values of units ``a`` and ``b`` for a result of unit ``most`` or less; its unit."""
    shift = max(0, min(31, math.ceil(math.log2(a * b / most))))
    return shift, a * b / 2.0**shift


__all__ = ["FIXED", "PER_TOKEN", "Converter", "Gain", "Rms", "Settings"]
