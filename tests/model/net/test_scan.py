"""The recurrence as one autograd node: exact forward, and the gradient of a plain autograd loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from ternac.model.net.scan import lerp_scan
from ternac.program import numerics as nu


class _FloorStraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: object, grad: Tensor) -> Tensor:
        return grad


def _loop(f: Tensor, c: Tensor, h: Tensor) -> Tensor:
    out = []
    for f_t, c_t in zip(f, c, strict=True):
        h = c_t + _FloorStraightThrough.apply(f_t * (h - c_t) / 256 + 0.5)
        out.append(h)
    return torch.stack(out)


def _inputs(t: int, b: int, n: int) -> tuple[Tensor, Tensor, Tensor]:
    f = torch.randint(0, 256, (t, b, n)).float()
    c = torch.randint(-32768, 32768, (t, b, n)).float()
    h = torch.randint(-32768, 32768, (b, n)).float()
    return f.requires_grad_(), c.requires_grad_(), h.requires_grad_()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 5), (50, 4, 7)])
def test_gradient_equals_an_autograd_loop(shape: tuple[int, int, int]) -> None:
    torch.manual_seed(sum(shape))
    inputs = _inputs(*shape)
    up = torch.randn(shape)
    ours, theirs = lerp_scan(*inputs), _loop(*inputs)
    assert torch.equal(ours, theirs)
    for got, want in zip(
        torch.autograd.grad((ours * up).sum(), inputs),
        torch.autograd.grad((theirs * up).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(got, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))


def test_forward_is_the_integer_lerp_at_the_extremes() -> None:
    f, c, h = _inputs(200, 2, 64)
    with torch.no_grad():
        f[::3] = 255.0
        c[::2] = -32768.0
        c[1::4] = 32767.0
        h.fill_(32767.0)
        ours = lerp_scan(f, c, h).numpy()
    want = h.detach().numpy().astype(np.int64)
    for t in range(len(ours)):
        c_t, f_t = c[t].detach().numpy().astype(np.int64), f[t].detach().numpy().astype(np.int64)
        want = c_t + nu.rshift_round(f_t * (want - c_t), 8)
        assert np.array_equal(ours[t], want), f"step {t}"


def test_window_in_two_parts_is_the_whole() -> None:
    f, c, h = _inputs(20, 2, 8)
    with torch.no_grad():
        whole = lerp_scan(f, c, h)
        first = lerp_scan(f[:9], c[:9], h)
        second = lerp_scan(f[9:], c[9:], first[-1])
    assert torch.equal(whole, torch.cat((first, second)))


def test_the_graph_holds_one_node_per_scan() -> None:
    h = lerp_scan(*_inputs(64, 1, 4))
    node = h.grad_fn
    assert node is not None and node.name() == "LerpScanBackward"
    assert all(edge is None or edge.name().endswith("AccumulateGrad") for edge, _ in node.next_functions)
