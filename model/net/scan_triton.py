"""The recurrence of :mod:`ternac.model.net.scan` as Triton kernels: one program per block of channels.

A parallel scan would be wrong: h_t = c_t + rshift_round(f_t * (h_(t-1) - c_t), 8) rounds at every step, so it
is not associative, and the published HGRN kernels (a float recurrence) give other bits. But channels are
independent, and a batch has thousands: only time is sequential.

Forward computes in int32 (|f * (h - c)| + 128 < 2**24), backward in float32, both as ``scan.py`` does.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as T  # annotations are looked up when a kernel is compiled

BLOCK = 64
"""Channels per program: small, so that a batch of a few thousand channels fills every multiprocessor."""


@triton.jit
def _forward(f_ptr: T, c_ptr: T, h_ptr: T, steps: T, channels: T, block: tl.constexpr) -> None:
    """h_ptr: [steps + 1, channels]; row 0 holds the state before the window."""
    lane = tl.program_id(0) * block + tl.arange(0, block)
    live = lane < channels
    h = tl.load(h_ptr + lane, mask=live, other=0.0).to(tl.int32)
    for t in range(steps):
        at = t * channels + lane
        f = tl.load(f_ptr + at, mask=live, other=0.0).to(tl.int32)
        c = tl.load(c_ptr + at, mask=live, other=0.0).to(tl.int32)
        h = c + ((f * (h - c) + 128) >> 8)
        tl.store(h_ptr + at + channels, h.to(tl.float32), mask=live)


@triton.jit
def _backward(
    f_ptr: T,
    c_ptr: T,
    h_ptr: T,
    grad_ptr: T,
    d_f_ptr: T,
    d_c_ptr: T,
    d_h0_ptr: T,
    steps: T,
    channels: T,
    block: tl.constexpr,
) -> None:
    lane = tl.program_id(0) * block + tl.arange(0, block)
    live = lane < channels
    carry = (lane * 0).to(tl.float32)
    for back in range(steps):
        at = (steps - 1 - back) * channels + lane
        gate = tl.load(f_ptr + at, mask=live, other=0.0) * (1.0 / 256.0)
        c = tl.load(c_ptr + at, mask=live, other=0.0)
        previous = tl.load(h_ptr + at, mask=live, other=0.0)
        total = tl.load(grad_ptr + at, mask=live, other=0.0) + carry
        tl.store(d_f_ptr + at, (previous - c) * total * (1.0 / 256.0), mask=live)
        tl.store(d_c_ptr + at, total - total * gate, mask=live)
        carry = total * gate
    tl.store(d_h0_ptr + lane, carry, mask=live)


class TritonLerpScan(torch.autograd.Function):
    """``apply(f, c, h0)``: as :class:`ternac.model.net.scan.LerpScan`, on the tensors' GPU."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
        f, c = f.contiguous(), c.contiguous()
        channels = h0.numel()
        states = torch.empty(len(c) + 1, *h0.shape, dtype=c.dtype, device=c.device)
        states[0] = h0
        _forward[(triton.cdiv(channels, BLOCK),)](f, c, states, len(c), channels, block=BLOCK)
        ctx.save_for_backward(f, c, states)
        return states[1:]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, c, states = ctx.saved_tensors
        d_f, d_c, d_h0 = torch.empty_like(f), torch.empty_like(c), torch.empty_like(states[0])
        channels = d_h0.numel()
        _backward[(triton.cdiv(channels, BLOCK),)](
            f, c, states, grad.contiguous(), d_f, d_c, d_h0, len(c), channels, block=BLOCK
        )
        return d_f, d_c, d_h0
