"""The recurrence h_t = f_t h_(t-1) + (1 - f_t) c_t over a whole window as one autograd node.

In integers (``LerpScan``), forward is the rule LERP of docs/numerics.md in float32, which is exact:
|f * (h - c)| + 128 < 2**24. Backward is the derivative of h = f/256 * h' + (1 - f/256) * c, straight through
the rounding. ``FloatScan`` is the same recurrence of floats, for models that integers are compared with.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ternac.model.net import gpu


class LerpScan(torch.autograd.Function):
    """``apply(f, c, h0)``: f (0..255) and c (i16) of shape [T, B, n], h0 [B, n] -> h [T, B, n], float32."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
        gate = f * (1.0 / 256.0)
        out = torch.empty_like(c)
        h = h0
        for gate_t, c_t, out_t in zip(gate.unbind(0), c.unbind(0), out.unbind(0), strict=True):
            torch.sub(h, c_t, out=out_t)
            out_t.mul_(gate_t).add_(0.5).floor_().add_(c_t)
            h = out_t
        ctx.save_for_backward(gate, c, h0, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gate, c, h0, out = ctx.saved_tensors
        total, d_gate, d_h0 = _reverse(grad, gate, c, h0, out)
        return d_gate.mul_(1.0 / 256.0), torch.addcmul(total, total, gate, value=-1.0), d_h0


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
        total, d_f, d_h0 = _reverse(grad, f, c, h0, out)
        return d_f, total - total * f, d_h0


def _reverse(grad: Tensor, gate: Tensor, c: Tensor, h0: Tensor, out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scan the gradient backwards through time; returns dL/dh_t (later steps included), dL/dgate, dL/dh0."""
    total = grad.contiguous().clone()
    rows, gates = total.unbind(0), gate.unbind(0)
    for t in range(len(rows) - 1, 0, -1):
        rows[t - 1].addcmul_(rows[t], gates[t])
    previous = torch.cat((h0.unsqueeze(0), out[:-1]))
    return total, previous.sub_(c).mul_(total), rows[0] * gates[0]


def lerp_scan(f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
    """See :class:`LerpScan`; on a GPU by the kernels of :mod:`ternac.model.net.gpu`."""
    return gpu.scan(f, c, h0) if f.is_cuda else LerpScan.apply(f, c, h0)
