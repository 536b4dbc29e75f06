"""MMfreeLM in float32, as the published code executes it, one layer in memory at a time.

A projection (BitLinear) with trits T, weight scale 1/s_w and its own norm weights gamma:

    y = x * rsqrt(mean(x^2) + 1e-6) * gamma;  s_x = 127 / max(max|y|, 1e-5) per token
    q = clamp(round(y s_x), -128, 127);       out = (T q) / (s_x s_w)

Recurrent half: f = sigmoid(W_f h), from layer 1 on f = lb + (1 - lb) f;
s_t = f s_(t-1) + SiLU(W_i h)(1 - f);  o = W_o(RMSNorm(W_g h; gamma_g) * SiLU(s_t)).
Gated half: W_down(SiLU(g) * u) with [g, u] = W_gate h.  Pre-norm blocks; final norm; the head is a projection
like the others.

Every function takes ``see(name, values)``, called with the quantities that the integer program has under the
same names (`ternac.program.mmfree`), in real units: calibration and the report listen there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ternac.model.imports.mmfreelm_config import NORM_EPS, Config
from ternac.model.imports.source import Floats, Source

See = Callable[[str, Floats], None]
Cast = Callable[[Floats], Floats]


def exact(x: Floats) -> Floats:
    """Leave float32 unchanged."""
    return x


def bfloat16(x: Floats) -> Floats:
    """Round to bfloat16 (half to even), kept as float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def rms_norm(x: Floats, eps: float) -> Floats:
    """``x * rsqrt(mean(x^2) + eps)`` over the last axis."""
    mean = np.mean(np.square(x), axis=-1, keepdims=True)
    out: Floats = x * (np.float32(1) / np.sqrt(mean + np.float32(eps)))
    return out


def sigmoid(x: Floats) -> Floats:
    """Logistic function without overflow."""
    out: Floats = (0.5 * (1 + np.tanh(0.5 * x))).astype(np.float32)
    return out


def silu(x: Floats) -> Floats:
    """``x * sigmoid(x)``."""
    return x * sigmoid(x)


@dataclass(frozen=True)
class Projection:
    """Trits int8[m, K], what one is worth (1 / s_w), and the norm weights gamma[K]."""

    trits: npt.NDArray[np.int8]
    worth: float
    gamma: Floats

    def __call__(self, x: Floats, name: str, see: See) -> Floats:
        """Return the projection of x [..., K]; ``see`` gets ``{name}.n`` (before gamma) and ``{name}.y``."""
        normed = rms_norm(x, NORM_EPS)
        y = normed * self.gamma
        see(f"{name}.n", normed)
        see(f"{name}.y", y)
        s_x = np.float32(127) / np.maximum(np.abs(y).max(axis=-1, keepdims=True), np.float32(1e-5))
        q = np.clip(np.rint(y * s_x), -128, 127)
        flat = q.reshape(-1, q.shape[-1]) @ self.trits.T.astype(np.float32)  # integers below 2**24: exact
        out: Floats = flat.reshape(*q.shape[:-1], -1) * (np.float32(self.worth) / s_x)
        return out


@dataclass(frozen=True)
class FloatLayer:
    """Weights of one layer; ``lb`` is its lower bound per channel (zeros in layer 0).

    ``cast`` is applied to every vector that one step hands to the next.
    """

    index: int
    eps: float
    attn_norm: Floats
    mlp_norm: Floats
    g_norm: Floats
    lb: Floats
    i: Projection
    f: Projection
    g: Projection
    o: Projection
    gate: Projection
    down: Projection
    cast: Cast = exact

    def forward(self, r: Floats, see: See) -> Floats:
        """Return the residual r [B, T, d] after this layer; every stream starts from a zero state."""
        at, cast = f"{self.index}", self.cast
        h = self._block_norm(r, self.attn_norm, f"{at}.n1", see)
        i, f, g = (
            cast(p(h, f"{at}.{name}", see)) for name, p in (("i", self.i), ("f", self.f), ("g", self.g))
        )
        for name, values in (("i", i), ("f", f), ("g", g)):
            see(f"{at}.{name}", values)
        forget = cast(self.lb + (1 - self.lb) * sigmoid(f))
        c = silu(i)
        see(f"{at}.c", c)
        state = cast(recur(cast(c * (1 - forget)), forget))
        see(f"{at}.h", state)
        normed, swish = rms_norm(g, NORM_EPS), silu(state)
        gn = normed * self.g_norm
        for name, values in (("gn.r", normed), ("gn", gn), ("s", swish)):
            see(f"{at}.{name}", values)
        mixed = cast(gn * swish)
        see(f"{at}.oz", mixed)
        o = self.o(mixed, f"{at}.o", see)
        r = cast(r + cast(o))
        see(f"{at}.r1", r)
        both = cast(self.gate(self._block_norm(r, self.mlp_norm, f"{at}.n2", see), f"{at}.gate", see))
        gate, up = np.split(both, 2, axis=-1)
        act = silu(gate)
        z = cast(act * up)
        for name, values in (("gate", gate), ("up", up), ("a", act), ("z", z)):
            see(f"{at}.{name}", values)
        r = cast(r + cast(self.down(z, f"{at}.down", see)))
        see(f"{at}.r2", r)
        return r

    def _block_norm(self, r: Floats, weights: Floats, name: str, see: See) -> Floats:
        return self.cast(block_norm(r, weights, self.eps, name, see))


def block_norm(r: Floats, weights: Floats, eps: float, name: str, see: See) -> Floats:
    """RMSNorm with weights; ``see`` gets ``{name}.r`` (before the weights) and ``{name}.g``."""
    normed = rms_norm(r, eps)
    out = normed * weights
    see(f"{name}.r", normed)
    see(f"{name}.g", out)
    return out


def recur(i: Floats, f: Floats) -> Floats:
    """``s_t = f_t s_(t-1) + i_t`` along axis 1 of [B, T, d], from zero."""
    out = np.empty_like(i)
    state = np.zeros_like(i[:, 0])
    for t in range(i.shape[1]):
        state = f[:, t] * state + i[:, t]
        out[:, t] = state
    return out


class FloatModel:
    """Model of a checkpoint; weights are read from ``source`` when they are needed.

    Float32 throughout, or with ``cast`` rounded wherever a vector is handed on.
    """

    def __init__(self, config: Config, source: Source, cast: Cast = exact) -> None:
        self.config, self.source, self.cast = config, source, cast
        self.bounds = self._lower_bounds()

    def _lower_bounds(self) -> Floats:
        """Return lb [layers, d]: cumsum(softmax(lower_bounds)) - softmax[0], over the layers."""
        shape = (self.config.layers, self.config.d)
        if not self.config.lower_bound:
            return np.zeros(shape, np.float32)
        raw = self.source.floats("model.lower_bounds").astype(np.float64)
        part = np.exp(raw - raw.max(axis=0))
        part /= part.sum(axis=0)
        return np.clip(np.cumsum(part, axis=0) - part[0], 0, 1).astype(np.float32)

    def projection(self, name: str) -> Projection:
        """Read a projection by the name of its tensors."""
        trits, worth = self.source.trits(f"{name}.weight")
        return Projection(trits, worth, self.source.floats(f"{name}.norm.weight"))

    def layer(self, index: int) -> FloatLayer:
        """Read one layer."""
        at, floats = f"model.layers.{index}.", self.source.floats
        attn = {name: self.projection(f"{at}attn.{name}_proj") for name in ("i", "f", "g", "o")}
        mlp = {name: self.projection(f"{at}mlp.{name}_proj") for name in ("gate", "down")}
        return FloatLayer(
            index,
            self.config.eps,
            floats(f"{at}attn_norm.weight"),
            floats(f"{at}mlp_norm.weight"),
            floats(f"{at}attn.g_norm.weight"),
            self.bounds[index],
            **attn,
            **mlp,
            cast=self.cast,
        )

    def embed(self) -> Floats:
        """Read the embedding [V, d]."""
        return self.source.floats("model.embeddings.weight")

    def head(self) -> tuple[Floats, Projection]:
        """Read the weights of the final norm, and the head."""
        return self.source.floats("model.norm.weight"), self.projection("lm_head")
