"""Twins of a model in floating point: the same shape, with float or with ternary weights.

What they lose less than the integer model is the price of integers and of trits. They take the place of
:class:`~ternac.model.net.network.TernaryLM` in a :class:`~ternac.model.training.train.Trainer`: same calls,
logits in the
same unit of 2**-scales.logits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, linear, silu

from ternac.model.net.config import ModelConfig
from ternac.model.net.layers import BitLinear


class FloatScan(torch.autograd.Function):
    """``apply(f, c, h0)``: h_t = f_t h_(t-1) + (1 - f_t) c_t for f, c [T, B, n], h0 [B, n] -> h [T, B, n]."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
        out = torch.empty_like(c)
        h = h0
        for f_t, c_t, out_t in zip(f.unbind(0), c.unbind(0), out.unbind(0), strict=True):
            torch.lerp(c_t, h, f_t, out=out_t)
            h = out_t
        ctx.save_for_backward(f, c, h0, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, c, h0, out = ctx.saved_tensors
        total = grad.contiguous().clone()  # dL/dh_t, later steps included
        rows, gates = total.unbind(0), f.unbind(0)
        for t in range(len(rows) - 1, 0, -1):
            rows[t - 1].addcmul_(rows[t], gates[t])
        previous = torch.cat((h0.unsqueeze(0), out[:-1]))
        return previous.sub_(c).mul_(total), total - total * f, rows[0] * gates[0]


class FloatLinear(nn.Module):
    """Float matrix [out, in] that begins like that of :class:`~ternac.model.net.layers.BitLinear`."""

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
        self.wf, self.wg, self.wc, self.wo = (kind(d, d) for _ in range(4))
        self.wgate, self.wup, self.wdown = kind(d, m), kind(d, m), kind(m, d)

    def forward(self, r: Tensor, h0: Tensor, keep: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
        """r [T, B, d], h0 [B, d] -> (r, h [B, d] after the last step)."""
        n = rms_norm(r)
        h = FloatScan.apply(torch.sigmoid(self.wf(n)), silu(self.wc(n)), h0)
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
        """All-zero state."""
        return [torch.zeros(batch, self.config.d) for _ in range(self.config.layers)]

    def _keep(self, batch: int) -> Tensor:
        kept = 1.0 - self.dropout
        return torch.empty(batch, self.config.d).bernoulli_(kept).div_(kept)

    def forward(self, tokens: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        r = embedding(tokens, self.embed)
        batch, drop = tokens.shape[1], self.training and self.dropout > 0.0
        if drop:
            r = r * self._keep(batch)
        new_state = []
        for block, h0 in zip(self.blocks, state, strict=True):
            r, h = block(r, h0, (self._keep(batch), self._keep(batch)) if drop else None)
            new_state.append(h.detach())
        return self.head(rms_norm(r)) * one_nat(self.config), new_state

    def set_temper(self, gain: float) -> None:
        """Make all logits ``gain`` times as large (see ModelConfig.temper)."""
        self.config = replace(self.config, temper=gain)

    def loss(self, tokens: Tensor, targets: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Mean cross entropy in nats of targets [T, B], and the new state."""
        return mean_nats(self, tokens, targets, state)


def one_nat(config: ModelConfig) -> float:
    """What a logit of 1.0 is in a float model's output: codes of the scale of logits, tempered."""
    return 2.0**config.scales.logits * config.temper


def mean_nats(
    model: Any, tokens: Tensor, targets: Tensor, state: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Mean cross entropy in nats of a model's logits, and its new state."""
    logits, state = model(tokens, state)
    scaled = logits.view(-1, logits.shape[-1]) * 2.0**-model.config.scales.logits
    return cross_entropy(scaled, targets.reshape(-1)), state
