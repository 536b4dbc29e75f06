"""Integer ops of the program on float32 tensors that hold integers, with straight-through gradients.

Every forward here is the integer rule of docs/numerics.md, exact because all magnitudes stay below 2**24;
every backward is the derivative of the real function behind it, zero where an output saturates.
Gradients are with respect to integer codes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ternac.model.net import gpu

I8 = (-128.0, 127.0)
I16 = (-32768.0, 32767.0)


def round_shift_(x: Tensor, scale: float) -> Tensor:
    """In place: floor(x * scale + 1/2), which is rshift_round for scale = 2**-s."""
    return x.mul_(scale).add_(0.5).floor_()


class Ternary(torch.autograd.Function):
    """``apply(w, scale)``: clamp(floor(w / scale + 1/2), -1, 1), as ``quantizers.TernaryWeightQuant`` rounds.

    Backward: straight through rounding and clamping. scale: a power of two, float32 scalar.
    """

    @staticmethod
    def forward(ctx: Any, w: Tensor, scale: Tensor) -> Tensor:
        ctx.scale = scale
        return torch.div(w, scale).add_(0.5).floor_().clamp_(-1.0, 1.0)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad / ctx.scale, None


class TernaryLinear(torch.autograd.Function):
    """``apply(x, trits, bf16)``: x [..., K] @ trits [m, K].T, exact for K * 128 < 2**24.

    The backward products run in bfloat16 where ``bf16`` is set; the forward never does.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, trits: Tensor, bf16: bool) -> Tensor:
        if bf16:  # i8 codes and trits are exact in bfloat16
            ctx.save_for_backward(x.bfloat16(), trits.bfloat16())
        else:
            ctx.save_for_backward(x, trits)
        flat = x.reshape(-1, x.shape[-1])
        out = gpu.product(flat, trits) if x.is_cuda else torch.mm(flat, trits.t())
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, trits = ctx.saved_tensors
        flat = grad.reshape(-1, grad.shape[-1]).to(x.dtype)
        d_x = torch.mm(flat, trits).float().view(x.shape)
        d_t = torch.mm(flat.t(), x.reshape(-1, x.shape[-1])).float()
        return d_x, d_t, None


class Requant(torch.autograd.Function):
    """``apply(x, scale, low, high)``: clamp(floor(x * scale + 1/2))."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: float, low: float, high: float) -> Tensor:
        y = torch.mul(x, scale).add_(0.5).floor_().clamp_(low, high)
        ctx.save_for_backward(y)
        ctx.rule = scale, low, high
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        (y,) = ctx.saved_tensors
        scale, low, high = ctx.rule
        inside = (y > low) & (y < high)
        return grad.mul(scale).mul_(inside), None, None, None


class RequantTable(torch.autograd.Function):
    """``apply(acc, scale, table, slope)``: table[sat8(floor(acc * scale + 1/2)) + 128].

    table and slope are float32[256]; slope is the derivative by the code, zero at both ends (saturation).
    """

    @staticmethod
    def forward(ctx: Any, acc: Tensor, scale: float, table: Tensor, slope: Tensor) -> Tensor:
        code = torch.mul(acc, scale).add_(128.5).floor_().clamp_(0.0, 255.0).long()
        ctx.save_for_backward(code, slope)
        ctx.scale = scale
        return torch.take(table, code)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        code, slope = ctx.saved_tensors
        return torch.take(slope * ctx.scale, code).mul_(grad), None, None, None


class Mul(torch.autograd.Function):
    """``apply(a, b, scale)``: sat8(floor(a * b * scale + 1/2))."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, scale: float) -> Tensor:
        y = torch.mul(a, b).mul_(scale).add_(0.5).floor_().clamp_(*I8)
        ctx.save_for_backward(a, b, y)
        ctx.scale = scale
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        a, b, y = ctx.saved_tensors
        g = grad.mul(ctx.scale).mul_(y.abs() < 127.0)
        return g * b, g * a, None


class AddRequant(torch.autograd.Function):
    """``apply(r, acc, scale, keep)``: sat16(r + sat16(floor(acc * scale * keep + 1/2))).

    keep is None or a dropout mask that broadcasts over acc (its kept entries 1 / (1 - p)).
    """

    @staticmethod
    def forward(ctx: Any, r: Tensor, acc: Tensor, scale: float, keep: Tensor | None) -> Tensor:
        y = torch.mul(acc, scale)
        if keep is not None:
            y.mul_(keep)
        ctx.scale = scale
        ctx.save_for_backward(*(() if keep is None else (keep,)))
        return y.add_(0.5).floor_().clamp_(*I16).add_(r).clamp_(*I16)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        d_acc = grad.mul(ctx.scale)
        if ctx.saved_tensors:
            d_acc.mul_(ctx.saved_tensors[0])
        return grad, d_acc, None, None


class Norm(torch.autograd.Function):
    """``apply(x, table, pre, post)``: the NORM of docs/numerics.md over the last axis (at most 1024).

    Backward: derivative of s * x with s proportional to 1 / |x|.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, table: Tensor, pre: int, post: int) -> Tensor:
        q = torch.mul(x, 2.0**-pre).add_(0.5).floor_().clamp_(*I8)
        ss = torch.linalg.vecdot(q, q).unsqueeze(-1)
        _, exponent = torch.frexp(ss)  # ss = mantissa * 2**exponent, mantissa in [1/2, 1)
        e = torch.div(exponent - 1, 2, rounding_mode="floor").clamp_(min=0)
        index = torch.ldexp(ss, 6 - 2 * e).long()  # truncates, as >> does; 0 where ss is 0
        scale = torch.ldexp(torch.take(table, index), -(e + post))
        y = torch.mul(x, scale).add_(0.5).floor_().clamp_(*I8)
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        x, y, scale = ctx.saved_tensors
        g = grad * (y.abs() < 127.0)
        along = torch.linalg.vecdot(g, x) / torch.linalg.vecdot(x, x).clamp_(min=1.0)
        return g.addcmul_(x, along.unsqueeze(-1), value=-1.0).mul_(scale), None, None, None
