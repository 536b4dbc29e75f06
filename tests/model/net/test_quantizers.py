"""The fused ops of training are the Brevitas quantizers, and both are the rules of the numerics page."""

from __future__ import annotations

import brevitas.nn as qnn
import numpy as np
import pytest
import torch

from ternac.model.net import functional as fn
from ternac.model.net.layers import BitLinear
from ternac.model.net.quantizers import TernaryWeightQuant, activation_quantizer, weight_quantizer
from ternac.program import numerics as nu


@pytest.mark.parametrize("frac", [0, 3, 5, 8])
def test_activation_quantizer_rounds_half_up_and_equals_the_fused_op(frac: int) -> None:
    halves = torch.arange(-300, 300) * 0.5 * 2.0**-frac
    x = torch.cat((halves, torch.randn(2000) * 60 * 2.0**-frac)).requires_grad_()
    value, scale, zero_point, bits = activation_quantizer(frac)(x)
    assert (float(scale), float(zero_point), float(bits)) == (2.0**-frac, 0.0, 8.0)
    codes = fn.Requant.apply(x, 2.0**frac, *fn.I8)
    assert torch.equal(value / scale, codes)
    expected = np.clip(np.floor(x.detach().double().numpy() * 2.0**frac + 0.5), -128, 127)
    assert np.array_equal(codes.detach().numpy(), expected)
    inside = (codes > -128) & (codes < 127)
    (by_brevitas,) = torch.autograd.grad(value.sum(), x)
    (by_fused,) = torch.autograd.grad(codes.sum() * 2.0**-frac, x)
    assert torch.equal(by_brevitas[inside], by_fused[inside])


@pytest.mark.parametrize("shift", [0, 1, 4, 9])
def test_requant_is_the_integer_rule(shift: int) -> None:
    acc = np.random.default_rng(shift).integers(-60000, 60000, 4000)
    ours = fn.Requant.apply(torch.from_numpy(acc).float(), 2.0**-shift, *fn.I8).numpy()
    assert np.array_equal(ours, nu.sat8(nu.rshift_round(acc, shift)))


def test_weight_quantizer_is_ternary_with_a_power_of_two_of_the_mean() -> None:
    torch.manual_seed(0)
    w = torch.randn(64, 48) * 0.07
    value, scale, _, bits = weight_quantizer(max_exponent=0)(w)
    assert float(bits) == 2.0
    assert float(scale) == 2.0 ** round(float(w.abs().mean().log2()))
    trits = value / scale
    assert torch.equal(trits, torch.floor(w / scale + 0.5).clamp(-1, 1))
    assert set(trits.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_weight_quantizer_works_inside_brevitas_layers() -> None:
    torch.manual_seed(0)
    layer = qnn.QuantLinear(48, 32, bias=False, weight_quant=TernaryWeightQuant)
    ours = BitLinear(48, 32, 5, 4)
    ours.weight.data.copy_(layer.weight.data)
    x = torch.randint(-128, 128, (7, 48)).float()
    quantized = layer.quant_weight()
    assert torch.equal(quantized.value / quantized.scale, ours.trits())
    assert torch.equal(layer(x) / quantized.scale, ours.acc(x))


def test_weight_exponent_follows_slowly_and_only_in_training() -> None:
    quant = weight_quantizer(max_exponent=-2)
    w = torch.full((4, 4), 2.0**-4)
    exponents = []
    for factor in (1.0, 1.5, 1.6, 1.75, 1.3, 100.0):
        quant(w * factor)
        exponents.append(int(quant.scaling_impl.exponent))
    assert exponents == [-4, -4, -4, -3, -3, -2]  # moves past 2**0.75, keeps, stops at max_exponent
    quant.eval()
    quant(w * 0.01)
    assert int(quant.scaling_impl.exponent) == -2


def test_weight_gradient_goes_straight_through() -> None:
    linear = BitLinear(8, 4, 5, 4)
    x = torch.randint(-128, 128, (5, 8)).float()
    up = torch.randn(5, 4)
    (linear.acc(x) * up).sum().backward()
    assert linear.weight.grad is not None
    assert torch.allclose(linear.weight.grad, up.t() @ x * 2.0**-linear.exponent, rtol=1e-5)


@pytest.mark.parametrize("gain", [0.1, 1.0, 30.0])
def test_fused_weight_op_is_the_brevitas_quantizer_gradient_included(gain: float) -> None:
    torch.manual_seed(0)
    linear = BitLinear(48, 32, 5, 4)
    with torch.no_grad():
        linear.weight.mul_(gain)
        linear.weight[0] = torch.arange(48) * 0.25 * 2.0**linear.exponent - 2.0  # ties and both ends
    up = torch.randn(32, 48)
    value, scale, _, _ = linear.quant(linear.weight)
    (theirs,) = torch.autograd.grad((value / scale * up).sum(), linear.weight)
    trits = linear.trits()
    (ours,) = torch.autograd.grad((trits * up).sum(), linear.weight)
    assert torch.equal(trits, value / scale)
    assert torch.equal(ours, theirs)
