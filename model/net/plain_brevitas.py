"""The model in plain Brevitas: a quantizing layer at every place, the recurrence in Python.

It is what one would write first, and what ``ternac bench train`` measures against. Values are real numbers
here (a code times its scale), so no code of :mod:`ternac.model.net.layers` is shared but the norm, which
Brevitas has no layer for; logits are exactly those of :class:`~ternac.model.net.network.TernaryLM` with the
same weights.
"""

from __future__ import annotations

import brevitas.nn as qnn
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, embedding, silu

from ternac.model.net.config import ModelConfig, Scales
from ternac.model.net.layers import Norm
from ternac.model.net.network import TernaryLM
from ternac.model.net.quantizers import PowerOfTwoActQuant, TernaryWeightQuant


def _quant(frac_bits: int, bits: int = 8, signed: bool = True) -> qnn.QuantIdentity:
    return qnn.QuantIdentity(
        act_quant=PowerOfTwoActQuant.let(frac_bits=frac_bits, bit_width=bits, signed=signed)
    )


def _linear(n_in: int, n_out: int, max_exponent: int) -> qnn.QuantLinear:
    quant = TernaryWeightQuant.let(max_exponent=max_exponent)
    return qnn.QuantLinear(n_in, n_out, bias=False, weight_quant=quant)


class _Silu(nn.Module):
    """SiLU, rounded to the state's scale and then to i8 where ``frac_out`` is given."""

    def __init__(self, s: Scales, frac_out: int | None) -> None:
        super().__init__()
        self.pre, self.fine = _quant(s.pre), _quant(s.state, 16)
        self.coarse = nn.Identity() if frac_out is None else _quant(frac_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.coarse(self.fine(silu(self.pre(x))))
        return out


class PlainMLGRU(nn.Module):
    """h = f h' + (1 - f) SiLU(W_c n), one step at a time; gives (W_o(h SiLU(W_g n)), last h)."""

    def __init__(self, d: int, s: Scales, forget_bias: float) -> None:
        super().__init__()
        self.forget_bias = forget_bias
        self.wf, self.wg, self.wc = (_linear(d, d, s.norm - s.pre) for _ in range(3))
        self.wo = _linear(d, d, s.mixed - s.residual)
        self.pre_f, self.forget = _quant(s.pre), _quant(8, 8, signed=False)
        self.gate, self.candidate = _Silu(s, s.gate), _Silu(s, None)
        self.state, self.mixed = _quant(s.state, 16), _quant(s.mixed)

    def forward(self, n: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        f = self.forget(torch.sigmoid(self.pre_f(self.wf(n)) + self.forget_bias))
        g, c = self.gate(self.wg(n)), self.candidate(self.wc(n))
        states = []
        for f_t, c_t in zip(f, c, strict=True):
            h = self.state(c_t + f_t * (h - c_t))
            states.append(h)
        out: Tensor = self.wo(self.mixed(torch.stack(states) * g))
        return out, h


class PlainGLU(nn.Module):
    """W_down(SiLU(W_gate n) * W_up n)."""

    def __init__(self, d: int, m: int, s: Scales) -> None:
        super().__init__()
        self.wgate, self.wup = _linear(d, m, s.norm - s.pre), _linear(d, m, s.norm - s.up)
        self.wdown = _linear(m, d, s.hidden - s.residual)
        self.act, self.up, self.hidden = _Silu(s, s.act), _quant(s.up), _quant(s.hidden)

    def forward(self, n: Tensor) -> Tensor:
        out: Tensor = self.wdown(self.hidden(self.up(self.wup(n)) * self.act(self.wgate(n))))
        return out


class PlainBlock(nn.Module):
    """r += MLGRU(NORM(r)); r += GLU(NORM(r))."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        s = config.scales
        self.mlgru, self.glu = PlainMLGRU(config.d, s, config.forget_bias), PlainGLU(config.d, config.m, s)
        self.part, self.sum = (nn.ModuleList(_quant(s.residual, 16) for _ in range(2)) for _ in range(2))


class PlainLM(nn.Module):
    """The whole model; ``loss`` as that of TernaryLM, without dropout. States are real numbers too."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        s = config.scales
        self.config = config
        self.embed = nn.Parameter(torch.randn(config.vocab, config.d) * 0.5)
        self.embed_quant, self.logits = _quant(s.embed), _quant(s.logits, 16)
        self.norm = Norm(config.d, s)
        self.last_norm = Norm(config.d, s, config.temper)
        self.blocks = nn.ModuleList(PlainBlock(config) for _ in range(config.layers))
        self.head = _linear(config.d, config.vocab, s.norm - s.logits)

    def take(self, model: TernaryLM) -> None:
        """Copy weights and weight scales of a TernaryLM, whose parameters have the same names."""
        ours = dict(self.named_modules())
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                self.get_parameter(name).copy_(parameter)
            for name, module in model.named_modules():
                if name.endswith(".quant"):
                    quant = ours[name.removesuffix(".quant")].weight_quant.tensor_quant
                    quant.scaling_impl.load_state_dict(module.scaling_impl.state_dict())
                    quant.scaling_impl.hold = module.scaling_impl.hold

    def _norm(self, r: Tensor, norm: Norm) -> Tensor:
        s = self.config.scales
        out: Tensor = norm(r * 2.0**s.residual) * 2.0**-s.norm
        return out

    def loss(self, tokens: Tensor, targets: Tensor, state: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Mean cross entropy in nats of targets [T, B], and the new state (one [B, d] per layer)."""
        r = embedding(tokens, self.embed_quant(self.embed))
        after = []
        for block, h0 in zip(self.blocks, state, strict=True):
            assert isinstance(block, PlainBlock)
            out, h = block.mlgru(self._norm(r, self.norm), h0)
            r = block.sum[0](r + block.part[0](out))
            r = block.sum[1](r + block.part[1](block.glu(self._norm(r, self.norm))))
            after.append(h.detach())
        logits = self.logits(self.head(self._norm(r, self.last_norm)))
        return cross_entropy(logits.view(-1, logits.shape[-1]), targets.reshape(-1)), after
