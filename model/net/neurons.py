"""Neurons in groups of which one is active, in training: what the winners compute, with gradients of maps.

A token has two vectors, h and u, both i8. Scores Dx h choose the winner of each group of neurons; an active
neuron carries x * y, where x is its score and y = Dy u, both as codes, nothing below zero. What they say
together is the accumulator E (x * y). Of a neuron that is not active nothing is computed but its score, and
none of its weights gets a gradient. The compiled way keeps lists of winners (CPU only), the other whole
vectors; the integers are the same, gradients but for the order of sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ternac.model.net import functional as fn
from ternac.model.net.kernels import kernels
from ternac.model.net.layers import BitLinear
from ternac.model.net.memory import Mask, winners


class ActiveNeurons(torch.autograd.Function):
    """``apply(h, u, w, x, dx, dy, e, scales)`` -> (accumulators float32 [rows, n], z i8 [rows, groups]).

    h and u float32 [rows, n] of i8 codes; w i32 and x i8 [rows, groups]: winners and their codes, of scores
    dx h; trits dx and dy [N, n], e [n, N]; scales: factors of x, of y and of z = x * y.
    """

    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        u: Tensor,
        w: Tensor,
        x: Tensor,
        dx: Tensor,
        dy: Tensor,
        e: Tensor,
        scales: tuple[float, float, float],
    ) -> tuple[Tensor, Tensor]:
        rows, n = h.shape
        groups = w.shape[1]
        codes_h, codes_u = h.to(torch.int8), u.to(torch.int8)
        maps = [each.to(torch.int8).contiguous() for each in (dx, dy, e.t())]
        y, z, acc = torch.empty_like(x), torch.empty_like(x), torch.empty(rows, n)
        kernels().call(
            "neurons_forward", w, x, codes_u, *maps[1:], *scales[1:], groups, len(dx) // groups, n, y, z, acc,
            rows=rows,
        )  # fmt: skip
        ctx.save_for_backward(codes_h, codes_u, *maps, w, x, y, z)
        ctx.scales = scales
        ctx.mark_non_differentiable(z)
        return acc, z

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        h, u, dx, dy, e, w, x, y, z = ctx.saved_tensors
        (rows, n), groups, count = h.shape, w.shape[1], len(dx)
        size = count // groups
        grad = grad.contiguous()
        to_x, to_y = torch.empty(rows, groups), torch.empty(rows, groups)
        d_h, d_u = torch.empty(rows, n), torch.empty(rows, n)
        first = torch.empty(count + 1, dtype=torch.int32)
        items = torch.empty(rows * groups, dtype=torch.int32)
        d_dx, d_dy, d_e = (torch.empty(count, n) for _ in range(3))
        call = kernels().call
        call(
            "neurons_backward", grad, w, x, y, z, dx, dy, e, *ctx.scales, groups, size, n, to_x, to_y, d_h,
            d_u, rows=rows,
        )  # fmt: skip
        call("neurons_order", w, rows, groups, size, first, items, rows=1)
        call(
            "neurons_weights", first, items, to_x, to_y, z, h, u, grad, groups, n, d_dx, d_dy, d_e, rows=count
        )
        return d_h, d_u, None, None, d_dx, d_dy, d_e.t(), None


class Neurons(nn.Module):
    """``groups`` of ``size`` neurons over vectors of width ``d``: the maps Dx, Dy and E.

    ``fracs``: fraction bits of the input codes, of x and y, of z, and of the result.
    """

    def __init__(self, d: int, groups: int, size: int, fracs: tuple[int, int, int, int]) -> None:
        super().__init__()
        frac_in, frac_score, frac_z, frac_out = fracs
        self.groups, self.size = groups, size
        self.dx = BitLinear(d, groups * size, frac_in, frac_score)
        self.dy = BitLinear(d, groups * size, frac_in, frac_score)
        self.e = BitLinear(groups * size, d, frac_z, frac_out)
        # Only one neuron of each group says something: weights as for so many inputs.
        few = BitLinear(groups, d, frac_z, frac_out)
        self.e.weight.data *= few.weight.std() / self.e.weight.std()
        self.mul_shift = 2 * frac_score - frac_z

    @torch.no_grad()
    def winners(self, h: Tensor, compiled: bool) -> tuple[Tensor, Tensor]:
        """h i8 [T, B, d] -> winners of the scores and their codes, each [T, B, groups]."""
        trits, scale = self.dx.trits(), 2.0**-self.dx.shift
        shape = (*h.shape[:-1], self.groups)
        if compiled:
            scores = torch._int_mm(h.flatten(0, -2).to(torch.int8), trits.to(torch.int8).t())
            w, x = torch.empty(shape, dtype=torch.int32), torch.empty(shape, dtype=torch.int8)
            rows = len(scores)
            kernels().call("neurons_winners", scores, self.groups, self.size, scale, w, x, rows=rows)
            return w, x
        scores = fn.TernaryLinear.apply(h, trits, False)
        w = winners(scores, self.groups)
        best = scores.unflatten(-1, (self.groups, -1)).gather(-1, w.unsqueeze(-1)).squeeze(-1)
        return w, fn.round_shift_(best, scale).clamp_(*fn.I8)

    def forward(self, h: Tensor, u: Tensor, w: Tensor, x: Tensor, compiled: bool) -> tuple[Tensor, Tensor]:
        """Return (accumulators of E [T, B, d], z i8 [T, B, groups]) of h and u i8 [T, B, d].

        w, x: what `winners` returned for h.
        """
        trits = [each.trits() for each in (self.dx, self.dy, self.e)]
        scales = (2.0**-self.dx.shift, 2.0**-self.dy.shift, 2.0**-self.mul_shift)
        if compiled:
            flat = [each.flatten(0, -2) for each in (h, u, w, x)]
            acc, z = ActiveNeurons.apply(*flat, *trits, scales)
            return acc.view(h.shape), z.view(w.shape)
        scores = fn.TernaryLinear.apply(h, trits[0], False)
        x = fn.Requant.apply(scores, scales[0], *fn.I8).clamp(min=0)
        y = fn.Requant.apply(fn.TernaryLinear.apply(u, trits[1], False), scales[1], *fn.I8).clamp(min=0)
        z = Mask.apply(fn.Mul.apply(y, x, scales[2]), w.long())
        acc = fn.TernaryLinear.apply(z, trits[2], False)
        return acc, z.detach().unflatten(-1, (self.groups, -1)).sum(-1).to(torch.int8)
