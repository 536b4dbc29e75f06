"""A float transformer of the same parameter count as a model, trained by the same script.

Pre-norm, rotary positions, causal attention within one window, SwiGLU; no biases, no gains. When a text is
read window by window, each window first sees the tokens before it again, up to ``context`` in all.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, embedding, scaled_dot_product_attention, silu

from ternac.model.net.config import ModelConfig
from ternac.model.net.twins import FloatLinear, mean_nats, one_nat, rms_norm

HEAD = 32
"""Width of an attention head."""


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
    """(width, inner width, layers) with the parameter count of the model of ``config``, embedding included.

    Twice the layers of the recurrent model, two thirds of its width in whole heads, at least one; the inner
    width takes what is left.
    """
    layers = 2 * config.layers
    d = max(1, round(config.d * 2 / 3 / HEAD)) * HEAD
    total = config.ternary_weights + config.vocab * config.d
    rest = total - 2 * config.vocab * d - layers * 4 * d * d
    return d, max(1, round(rest / (layers * 3 * d))), layers


class Transformer(nn.Module):
    """See the module text; calls like those of :class:`~ternac.model.net.network.TernaryLM`.

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
        """No tokens yet."""
        return [torch.full((self.context, batch), -1.0)]

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
        """Mean cross entropy in nats of targets [T, B], and the new state."""
        return mean_nats(self, tokens, targets, state)
