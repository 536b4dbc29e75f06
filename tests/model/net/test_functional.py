"""Integer ops of training: forward against the numerics page, backward against the float derivative."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ternac.model.net import functional as fn
from ternac.model.net import tables
from ternac.program import numerics as nu


@pytest.mark.parametrize("n", [1, 7, 96, 192, 1024])
@pytest.mark.parametrize("spread", [1, 40, 700, 30000])
def test_norm_is_the_integer_rule(n: int, spread: int) -> None:
    rng = np.random.default_rng(n * spread)
    x = np.clip(np.rint(rng.standard_normal((50, n)) * spread), -32768, 32767).astype(np.int64)
    x[0] = 0
    x[1] = -32768
    table, post = tables.norm_table(n, 5, 4)
    ours = fn.Norm.apply(torch.from_numpy(x).float(), torch.from_numpy(table).float(), 4, post).numpy()
    assert np.array_equal(ours, nu.norm(x, 4, post, table))


def test_norm_output_has_the_asked_gain() -> None:
    torch.manual_seed(0)
    table, post = tables.norm_table(192, 5, 4)
    y = fn.Norm.apply(torch.round(torch.randn(100, 192) * 250), torch.from_numpy(table).float(), 4, post)
    rms = y.square().mean(-1).sqrt()
    assert ((rms > 31) & (rms < 33)).all()


def test_norm_gradient_is_that_of_rms_norm() -> None:
    torch.manual_seed(0)
    table, post = tables.norm_table(64, 5, 4)
    x = torch.round(torch.randn(20, 64) * 300).requires_grad_()
    up = torch.randn(20, 64)
    (ours,) = torch.autograd.grad((fn.Norm.apply(x, torch.from_numpy(table).float(), 4, post) * up).sum(), x)
    reference = 32 * x / x.square().mean(-1, keepdim=True).sqrt()
    (theirs,) = torch.autograd.grad((reference * up).sum(), x)
    assert float((ours - theirs).norm() / theirs.norm()) < 0.02  # the mantissa has 8 bits


def test_table_gradient_is_the_slope_and_zero_where_it_saturates() -> None:
    table = torch.from_numpy(tables.silu_table(4, 12)).float()
    slope = torch.from_numpy(tables.silu_slope(4, 12)).float()
    slope[0] = slope[-1] = 0
    acc = torch.tensor([-5000.0, -64.0, 0.0, 3.0, 64.0, 5000.0], requires_grad=True)
    y = fn.RequantTable.apply(acc, 0.25, table, slope)
    codes = np.clip(np.floor(acc.detach().numpy() / 4 + 0.5), -128, 127).astype(int)
    assert y.tolist() == [float(table[c + 128]) for c in codes]
    y.sum().backward()
    assert acc.grad is not None
    assert acc.grad.tolist() == [float(slope[c + 128]) / 4 for c in codes]
    assert acc.grad[0] == acc.grad[-1] == 0
    x = torch.tensor(codes[1:-1] / 16.0, requires_grad=True)
    (real,) = torch.autograd.grad((torch.nn.functional.silu(x) * 4096).sum(), x)
    assert np.allclose(slope[codes[1:-1] + 128].numpy(), real.numpy() / 16, rtol=1e-4)


def test_tables_hold_their_ranges() -> None:
    sigmoid, silu = tables.sigmoid_table(4), tables.silu_table(4, 12)
    assert (sigmoid.min(), sigmoid.max()) == (0, 255)
    assert (np.diff(sigmoid) >= 0).all() and sigmoid[128] == 128
    assert tables.sigmoid_table(4, 2.0)[128] == 225 == tables.sigmoid_table(4)[128 + 2 * 16]
    assert (tables.sigmoid_slope(4, 2.0)[100] == tables.sigmoid_slope(4)[100 + 2 * 16]).all()
    assert silu[128] == 0 and silu[255] == round(127 / 16 * 4096 / (1 + np.exp(-127 / 16)))


def test_mul_and_add_are_the_integer_rules() -> None:
    rng = np.random.default_rng(0)
    h, g = rng.integers(-32768, 32768, 5000), rng.integers(-128, 128, 5000)
    a, b = (torch.from_numpy(v).float() for v in (h, g))
    assert np.array_equal(fn.Mul.apply(a, b, 2.0**-11).numpy(), nu.sat8(nu.rshift_round(h * g, 11)))
    r, acc = h, rng.integers(-49000, 49000, 5000)
    ours = fn.AddRequant.apply(a, torch.from_numpy(acc).float(), 0.25, None).numpy()
    assert np.array_equal(ours, nu.sat16(r + nu.sat16(nu.rshift_round(acc, 2))))


def test_bf16_backward_is_close_and_its_forward_exact() -> None:
    torch.manual_seed(0)
    x = torch.randint(-128, 128, (64, 96)).float().requires_grad_()
    t = torch.randint(-1, 2, (48, 96)).float().requires_grad_()
    up = torch.randn(64, 48)
    plain, fast = fn.TernaryLinear.apply(x, t, False), fn.TernaryLinear.apply(x, t, True)
    assert torch.equal(plain, fast)
    for one, two in zip(
        torch.autograd.grad((plain * up).sum(), (x, t)),
        torch.autograd.grad((fast * up).sum(), (x, t)),
        strict=True,
    ):
        assert float((one - two).norm() / one.norm()) < 0.01
