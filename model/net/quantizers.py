"""The quantizers of a model, defined with Brevitas.

Weights: signed, 2 bits, narrow range {-1, 0, 1}, scale a power of two near mean |W|.
Activations: signed, 8 bits, static power-of-two scale, rounding half up (the rule of docs/numerics.md).

They are the definition. Training goes through the functions of ``functional.py`` and ``fused.py``, which
call the implementation of the scale below and nothing else of Brevitas; tests prove both equal to the
quantizers of this file, gradients included.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from brevitas.core.bit_width import BitWidthConst
from brevitas.core.function_wrapper import Identity, TensorClamp, TensorClampSte
from brevitas.core.quant import IntQuant, RescalingIntQuant
from brevitas.core.scaling import ConstScaling
from brevitas.core.zero_point import ZeroZeroPoint
from brevitas.inject import ExtendedInjector, value
from brevitas.proxy import ActQuantProxyFromInjector, WeightQuantProxyFromInjector
from torch import Tensor, nn


class _RoundHalfUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.floor(x + 0.5)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class RoundHalfUpSte(nn.Module):
    """Brevitas float_to_int_impl: floor(x + 1/2), straight-through gradient."""

    def __init__(self) -> None:  # Brevitas's injector wants an explicit signature
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return _RoundHalfUp.apply(x)


class UnitIntScaling(nn.Module):
    """Brevitas int_scaling_impl: the scale is given per integer step, not per range."""

    def __init__(self) -> None:
        super().__init__()

    def forward(self, bit_width: Tensor) -> Tensor:
        return torch.ones((), device=bit_width.device)


class PowerOfTwoAbsMean(nn.Module):
    """Brevitas scaling_impl: 2**exponent, where the exponent follows round(log2(mean |W|)).

    A change of exponent doubles or halves what a matrix puts out, so it must be rare: the exponent moves only
    in training mode, and only when log2(mean |W|) is more than ``slack`` away from it; with ``hold`` it stays
    where the first call put it. It never exceeds
    ``max_exponent``, the largest that leaves the requantization a right shift. No gradient.
    """

    exponent: Tensor

    def __init__(self, max_exponent: int, slack: float = 0.75) -> None:
        super().__init__()
        self.max_exponent = max_exponent
        self.slack = slack
        self.hold = False
        self.register_buffer("exponent", torch.tensor(0, dtype=torch.int32))
        self.fresh = True

    def follow(self, w: Tensor) -> None:
        """Move the exponent if the mean of ``w`` is far from it."""
        mean = float(w.detach().abs().mean())
        target = math.log2(max(mean, 2.0**-24))
        if self.fresh or (not self.hold and abs(target - int(self.exponent)) > self.slack):
            self.exponent.fill_(min(self.max_exponent, math.floor(target + 0.5)))
            self.fresh = False

    def forward(self, x: Tensor, threshold: Tensor | None = None) -> Tensor:
        if self.fresh or (self.training and not self.hold):
            self.follow(x)
        return torch.ldexp(torch.ones(()), self.exponent)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: Any) -> None:
        if prefix + "exponent" in state_dict:
            self.fresh = False
        super()._load_from_state_dict(state_dict, prefix, *args)


class TernaryWeightQuant(ExtendedInjector):
    """Brevitas weight quantizer: ternary with the scale of :class:`PowerOfTwoAbsMean`.

    Use as ``QuantLinear(..., weight_quant=TernaryWeightQuant)``; ``max_exponent`` may be set with ``let``.
    """

    proxy_class = WeightQuantProxyFromInjector
    tensor_quant = RescalingIntQuant
    int_quant = IntQuant
    bit_width_impl = BitWidthConst
    bit_width = 2
    signed = True
    narrow_range = True
    float_to_int_impl = RoundHalfUpSte
    tensor_clamp_impl = TensorClampSte
    input_view_impl = Identity
    zero_point_impl = ZeroZeroPoint
    int_scaling_impl = UnitIntScaling
    scaling_impl = PowerOfTwoAbsMean
    max_exponent = 0


class PowerOfTwoActQuant(ExtendedInjector):
    """Brevitas activation quantizer: int8 with the static scale 2**-frac_bits (set by ``let``)."""

    proxy_class = ActQuantProxyFromInjector
    tensor_quant = RescalingIntQuant
    int_quant = IntQuant
    bit_width_impl = BitWidthConst
    bit_width = 8
    signed = True
    narrow_range = False
    float_to_int_impl = RoundHalfUpSte
    tensor_clamp_impl = TensorClamp
    input_view_impl = Identity
    zero_point_impl = ZeroZeroPoint
    int_scaling_impl = UnitIntScaling
    scaling_impl = ConstScaling
    frac_bits = 0

    @value
    def scaling_init(frac_bits: int) -> float:
        return 2.0**-frac_bits


def weight_quantizer(max_exponent: int) -> RescalingIntQuant:
    """Return the quantizer of one ternary matrix: called with W it gives (trits * scale, scale, 0, bits)."""
    return TernaryWeightQuant.let(max_exponent=max_exponent).tensor_quant


def activation_quantizer(frac_bits: int) -> RescalingIntQuant:
    """Return the quantizer of int8 activations with ``frac_bits`` fraction bits."""
    return PowerOfTwoActQuant.let(frac_bits=frac_bits).tensor_quant
