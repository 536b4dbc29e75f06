"""BitLinear, MLGRU and GLU: the blocks of a MatMul-free LM, computing in integers.

Tensors are float32 [T, B, width] that hold integer codes; their scales are those of
:class:`~ternac.model.net.config.Scales`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ternac.model.net import functional as fn
from ternac.model.net import tables
from ternac.model.net.config import Scales
from ternac.model.net.quantizers import weight_quantizer
from ternac.model.net.scan import lerp_scan

Tap = Callable[[str, Tensor], Tensor]
"""Called with (value name, tensor) for named intermediates; returns the tensor to continue with."""


def dropout_mask(
    batch: int,
    width: int,
    dropout: float,
    share: tuple[int, int] = (0, 1),
    generators: Sequence[torch.Generator] = (),
) -> Tensor:
    """Draw a mask [batch, width] of 0 and 1 / (1 - dropout): one for all steps of a window, on the CPU.

    ``share``: (number, count) of the part of a batch that this process trains on. The whole batch's mask is
    drawn, so that it does not depend on how many processes share it. ``generators``: one for each stream of
    the whole batch, or none for torch's own.
    """
    number, count = share
    kept = 1.0 - dropout
    if generators:
        mine = generators[number * batch : (number + 1) * batch]
        part = torch.stack([torch.empty(width).bernoulli_(kept, generator=each) for each in mine])
        return part.div_(kept)
    whole = torch.empty(batch * count, width).bernoulli_(kept).div_(kept)
    return whole[number * batch : (number + 1) * batch]


class BitLinear(nn.Module):
    """Ternary matrix [out, in] with a power-of-two scale; input and output codes have static fraction bits.

    ``acc`` gives the integer accumulator; ``shift`` is the right shift from it to the output code.
    """

    bf16_backward = False

    def __init__(self, n_in: int, n_out: int, frac_in: int, frac_out: int) -> None:
        super().__init__()
        self.bits = frac_in - frac_out
        exponent = min(self.bits, round(math.log2(0.8 / math.sqrt(n_in))))
        self.weight = nn.Parameter(torch.randn(n_out, n_in) * (2.0**exponent * math.sqrt(math.pi / 2)))
        self.quant = weight_quantizer(max_exponent=self.bits)
        self.frozen: Tensor | None = None

    @property
    def exponent(self) -> int:
        """log2 of the weight scale."""
        return int(self.quant.scaling_impl.exponent)

    @property
    def shift(self) -> int:
        """code = rshift_round(acc, shift); never negative."""
        return self.bits - self.exponent

    @torch.no_grad()
    def clamp(self, steps: float) -> None:
        """Keep the master weights within ``steps`` of the scale, so that no trit drifts out of reach."""
        limit = steps * 2.0**self.exponent
        self.weight.clamp_(-limit, limit)

    def train(self, mode: bool = True) -> BitLinear:
        """Set the mode, as in torch, and drop what :meth:`freeze` kept."""
        self.frozen = None
        super().train(mode)
        return self

    def freeze(self) -> None:
        """Keep the trits until the next ``train`` or ``eval``: for many small calls with fixed weights."""
        self.frozen = self.trits().detach()

    def trits(self) -> Tensor:
        """float32 [out, in] of -1, 0, 1, with the straight-through gradient to ``weight``."""
        if self.frozen is not None:
            return self.frozen
        return fn.Ternary.apply(self.weight, self.quant.scaling_impl(self.weight))

    def acc(self, x: Tensor) -> Tensor:
        """Accumulators of x [..., in]. Quantizes the weights first, so read ``shift`` afterwards."""
        return fn.TernaryLinear.apply(x, self.trits(), self.bf16_backward and self.training)


class Norm(nn.Module):
    """NORM over ``n`` elements: i16 residual -> i8; ``gain`` times what its scale says."""

    table: Tensor

    def __init__(self, n: int, scales: Scales, gain: float = 1.0) -> None:
        super().__init__()
        self.pre = scales.residual - scales.square
        # RMS 1.0 of the output is gain * 2**norm whatever the input scale; x is seen in residual units.
        table, self.post = tables.norm_table(n, scales.norm, self.pre, gain)
        self.register_buffer("table", torch.from_numpy(table).float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return fn.Norm.apply(x, self.table, self.pre, self.post)


class Table(nn.Module):
    """Table value of an i8 code, requantization of the accumulator included."""

    table: Tensor
    slope: Tensor

    def __init__(self, table: Tensor, slope: Tensor) -> None:
        super().__init__()
        slope = slope.clone()
        slope[0] = slope[-1] = 0.0  # saturated codes pass no gradient
        self.register_buffer("table", table.float(), persistent=False)
        self.register_buffer("slope", slope.float(), persistent=False)

    def forward(self, acc: Tensor, shift: int) -> Tensor:
        return fn.RequantTable.apply(acc, 2.0**-shift, self.table, self.slope)


def sigmoid(scales: Scales, bias: float = 0.0) -> Table:
    """Forget gate 0..255; ``bias`` is added before the sigmoid."""
    table, slope = tables.sigmoid_table(scales.pre, bias), tables.sigmoid_slope(scales.pre, bias)
    return Table(torch.from_numpy(table), torch.from_numpy(slope))


def silu(scales: Scales, frac_out: int) -> Table:
    """SiLU in the state's scale, requantized to i8 of ``frac_out`` bits unless that is the scale."""
    table = torch.from_numpy(tables.silu_table(scales.pre, scales.state)).float()
    slope = torch.from_numpy(tables.silu_slope(scales.pre, frac_out))
    if frac_out != scales.state:
        table = fn.round_shift_(table, 2.0 ** (frac_out - scales.state)).clamp_(*fn.I8)
        slope = slope * (table.abs() < 127.0)
    return Table(table, slope)


class MLGRU(nn.Module):
    """h = f h' + (1 - f) SiLU(W_c n), f = sigmoid(W_f n + forget_bias).

    Returns (accumulator of W_o(h * SiLU(W_g n)), its shift, h).
    """

    def __init__(self, d: int, s: Scales, forget_bias: float = 0.0) -> None:
        super().__init__()
        self.wf = BitLinear(d, d, s.norm, s.pre)
        self.wg = BitLinear(d, d, s.norm, s.pre)
        self.wc = BitLinear(d, d, s.norm, s.pre)
        self.wo = BitLinear(d, d, s.mixed, s.residual)
        self.sigmoid = sigmoid(s, forget_bias)
        self.silu_gate = silu(s, s.gate)
        self.silu_state = silu(s, s.state)
        self.mul_shift = s.state + s.gate - s.mixed

    def forward(self, n: Tensor, h0: Tensor) -> tuple[Tensor, Tensor]:
        """n i8 [T, B, d], h0 i16 [B, d] -> (acc [T, B, d], h [T, B, d])."""
        f = self.sigmoid(self.wf.acc(n), self.wf.shift)
        g = self.silu_gate(self.wg.acc(n), self.wg.shift)
        c = self.silu_state(self.wc.acc(n), self.wc.shift)
        h = lerp_scan(f, c, h0)
        return self.wo.acc(fn.Mul.apply(h, g, 2.0**-self.mul_shift)), h


class GLU(nn.Module):
    """Accumulator of W_down(SiLU(W_gate n) * W_up n)."""

    def __init__(self, d: int, m: int, s: Scales) -> None:
        super().__init__()
        self.wgate = BitLinear(d, m, s.norm, s.pre)
        self.wup = BitLinear(d, m, s.norm, s.up)
        self.wdown = BitLinear(m, d, s.hidden, s.residual)
        self.silu_act = silu(s, s.act)
        self.mul_shift = s.up + s.act - s.hidden

    def forward(self, n: Tensor) -> Tensor:
        """n i8 [T, B, d] -> acc [T, B, d]."""
        a = self.silu_act(self.wgate.acc(n), self.wgate.shift)
        up = fn.Requant.apply(self.wup.acc(n), 2.0**-self.wup.shift, *fn.I8)
        return self.wdown.acc(fn.Mul.apply(up, a, 2.0**-self.mul_shift))
