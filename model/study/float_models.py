"""Float models to compare the integer one with: twins of its shape, and a transformer of its parameter count.

A twin has float or ternary weights and float activations: what it loses less than the integer model is the
price of integers and of trits. The transformer is pre-norm with rotary positions, causal attention in one
window, SwiGLU; no biases, no gains. When it reads a text window by window, each window first sees the tokens
before it again, up to ``context`` in all. All take the place of
:class:`~ternac.model.net.network.TernaryLM` in a :class:`~ternac.model.training.train.Trainer`: same calls,
logits in the same unit of 2**-scales.logits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, embedding, linear, scaled_dot_product_attention, silu

from ternac.errors import UsageError
from ternac.model.net.config import ModelConfig
from ternac.model.net.layers import BitLinear, dropout_mask
from ternac.model.net.scan import FloatScan

HEAD = 32
"""Width of an attention head."""


class FloatLinear(nn.Module):
    """Float matrix [out, in] that is initialised as :class:`~ternac.model.net.layers.BitLinear` is."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        exponent = round(math.log2(0.8 / math.sqrt(n_in)))
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (2.0**exponent * math.sqrt(math.pi / 2)))

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)


class TritLinear(BitLinear):
    """Ternary matrix [out, in] with a power-of-two scale between float activations."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out, 0, 0)

    def forward(self, x: Tensor) -> Tensor:
        value, _, _, _ = self.quant(self.weight)
        return linear(x, value)


def rms_norm(x: Tensor) -> Tensor:
    """x / RMS(x) over the last axis, without a gain."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6)


class FloatBlock(nn.Module):
    """One layer: r += MLGRU(norm(r)); r += GLU(norm(r))."""

    def __init__(self, config: ModelConfig, kind: type[FloatLinear] | type[TritLinear]) -> None:
        super().__init__()
        d, m = config.d, config.m
        self.forget_bias = config.forget_bias
        self.wf, self.wg, self.wc, self.wo = (kind(d, d) for _ in range(4))
        self.wgate, self.wup, self.wdown = kind(d, m), kind(d, m), kind(m, d)

    def forward(self, r: Tensor, h0: Tensor, keep: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """r [T, B, d], h0 [B, d] -> (r, h [B, d] after the last step)."""
        n = rms_norm(r)
        h = FloatScan.apply(torch.sigmoid(self.wf(n) + self.forget_bias), silu(self.wc(n)), h0)
        o = self.wo(h * silu(self.wg(n)))
        r = r + (o if keep is None else o * keep[0])
        n = rms_norm(r)
        down = self.wdown(silu(self.wgate(n)) * self.wup(n))
        return r + (down if keep is None else down * keep[1]), h[-1]


class FloatTwin(nn.Module):
    """MLGRU and GLU in floating point; with ``ternary`` all matrices but the embedding are trits.

    forward(tokens i64 [T, B], state) -> (logits [T, B, V] in units of 2**-scales.logits, new state), as
    :class:`~ternac.model.net.network.TernaryLM`, dropout included.
    """

    def __init__(self, config: ModelConfig, dropout: float = 0.0, ternary: bool = False) -> None:
        super().__init__()
        kind = TritLinear if ternary else FloatLinear
        self.config, self.dropout = config, dropout
        self.embed = nn.Parameter(torch.randn(config.vocab, config.d) * 0.5)
        self.blocks = nn.ModuleList(FloatBlock(config, kind) for _ in range(config.layers))
        self.head = kind(config.d, config.vocab)

    def initial_state(self, batch: int) -> list[Tensor]:
        """Return the zero state of ``batch`` streams."""
        return [torch.zeros(batch, self.config.d) for _ in range(self.config.layers)]

    def begin_again(self, state: list[Tensor], fresh: Tensor) -> None:
        """Give the streams ``fresh``, bool [B], the state of a beginning, in place."""
        for part in state:
            part[fresh] = 0

    def forward(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        r = embedding(tokens, self.embed)
        drop = self.training and self.dropout > 0.0

        def keep() -> Tensor:
            return dropout_mask(tokens.shape[1], self.config.d, self.dropout)

        if drop:
            r = r * keep()
        new_state = []
        for block, h0 in zip(self.blocks, state, strict=True):
            r, h = block(r, h0, (keep(), keep()) if drop else None)
            new_state.append(h.detach())
        return self.head(rms_norm(r)) * one_nat(self.config), new_state

    def set_temper(self, gain: float) -> None:
        """Make all logits ``gain`` times as large (see ModelConfig.temper)."""
        self.config = replace(self.config, temper=gain)

    def loss(self, tokens: Tensor, targets: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the mean cross entropy in nats of targets [T, B], and the new state."""
        return mean_nats(self, tokens, targets, state)


class Attention(nn.Module):
    """Causal attention over x [B, T, d] with rotary positions."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.heads = d // HEAD
        self.qkv, self.out = FloatLinear(d, 3 * d), FloatLinear(d, d)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
        batch, time, d = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, HEAD).permute(2, 0, 3, 1, 4)
        y = scaled_dot_product_attention(_rotate(q, turn), _rotate(k, turn), v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(batch, time, d))


def _rotate(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    a, b = x.chunk(2, -1)
    cos, sin = turn
    return torch.cat((a * cos - b * sin, a * sin + b * cos), -1)


class Layer(nn.Module):
    """One layer: x += Attention(norm(x)); x += SwiGLU(norm(x))."""

    def __init__(self, d: int, m: int) -> None:
        super().__init__()
        self.attention = Attention(d)
        self.wgate, self.wup, self.wdown = FloatLinear(d, m), FloatLinear(d, m), FloatLinear(m, d)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], drop: float) -> Tensor:
        x = x + dropout(self.attention(rms_norm(x), turn), drop)
        n = rms_norm(x)
        return x + dropout(self.wdown(silu(self.wgate(n)) * self.wup(n)), drop)


def shape_of(config: ModelConfig) -> tuple[int, int, int]:
    """Return (width, inner width, layers) of a transformer with the parameters of ``config``'s model.

    Twice the layers of the recurrent model, two thirds of its width in whole heads, at least one; the inner
    width takes what is left.
    """
    layers = 2 * config.layers
    d = max(1, round(config.d * 2 / 3 / HEAD)) * HEAD
    total = config.ternary_weights + config.vocab * config.d
    rest = total - 2 * config.vocab * d - layers * 4 * d * d
    return d, max(1, round(rest / (layers * 3 * d))), layers


class Transformer(nn.Module):
    """The float transformer; calls as those of :class:`~ternac.model.net.network.TernaryLM`.

    The state is the last ``context`` tokens, [context, B] with -1 where there are none yet; in training,
    where a window is as long as the context, none of them is seen again.
    """

    def __init__(self, config: ModelConfig, drop: float = 0.0, context: int = 256) -> None:
        super().__init__()
        self.config, self.drop, self.context = config, drop, context
        d, m, layers = shape_of(config)
        self.embed = nn.Parameter(torch.randn(config.vocab, d) * 0.5)
        self.layers = nn.ModuleList(Layer(d, m) for _ in range(layers))
        self.head = FloatLinear(d, config.vocab)

    def initial_state(self, batch: int) -> list[Tensor]:
        """Return the state of streams that have seen no token."""
        return [torch.full((self.context, batch), -1.0)]

    def begin_again(self, state: list[Tensor], fresh: Tensor) -> None:
        """Give the streams ``fresh``, bool [B], the state of a beginning, in place.

        Raises UsageError unless it is all of them.
        """
        if not bool(fresh.all()):
            raise UsageError("the transformer's streams begin together", "compare without --repeats")
        state[0].fill_(-1.0)

    def forward(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """tokens i64 [T, B] -> (logits [T, B, V] in units of 2**-scales.logits, new state)."""
        seen = torch.cat((state[0].long(), tokens))[-self.context :]
        again = min(self.context, max(0, self.context - len(tokens)))
        window = torch.cat((state[0].long()[len(state[0]) - again :], tokens))
        known = int((window[:, 0] >= 0).sum())  # the streams of a text begin together
        window = window[len(window) - known :]
        angle = torch.outer(torch.arange(len(window)), 10000.0 ** (-torch.arange(HEAD // 2) / (HEAD // 2)))
        turn = (angle.cos(), angle.sin())
        x = embedding(window.t(), self.embed)
        for layer in self.layers:
            x = layer(x, turn, self.drop if self.training else 0.0)
        logits = self.head(rms_norm(x[:, known - len(tokens) :])).transpose(0, 1).contiguous()
        return logits * one_nat(self.config), [seen.float()]

    def set_temper(self, gain: float) -> None:
        """Make all logits ``gain`` times as large (see ModelConfig.temper)."""
        self.config = replace(self.config, temper=gain)

    def loss(self, tokens: Tensor, targets: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the mean cross entropy in nats of targets [T, B], and the new state."""
        return mean_nats(self, tokens, targets, state)


def one_nat(config: ModelConfig) -> float:
    """Return the codes per nat of a float model's logits, temper included."""
    return 2.0**config.scales.logits * config.temper


def mean_nats(
    model: Any, tokens: Tensor, targets: Tensor, state: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Return the mean cross entropy in nats of a model's logits, and its new state."""
    logits, state = model(tokens, state)
    scaled = logits.view(-1, logits.shape[-1]) * 2.0**-model.config.scales.logits
    return cross_entropy(scaled, targets.reshape(-1)), state
