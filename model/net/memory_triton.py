"""The delta scan of :mod:`ternac.model.net.memory` in Triton: one program per stream and block of columns.

Time is sequential, because a read may find what the token before wrote; elements of a row and streams are
independent. A column of all rows is touched by one lane alone, so a lane sees its own writes.

Forward computes in int32, backward in float32, both in the order of ``memory.py``.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language import tensor as T  # annotations are looked up when a kernel is compiled

BLOCK = 32
"""Columns per program: a warp."""


@triton.jit
def _forward(
    v_ptr: T,
    rows_ptr: T,
    before_ptr: T,
    memory_ptr: T,
    o_ptr: T,
    steps: T,
    streams: T,
    count: T,
    width: T,
    rate: T,
    mean: T,
    low: T,
    high: T,
    heads: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """rows_ptr: [steps + 1, streams, heads]; its first are those of the token before the window."""
    stream = tl.program_id(0)
    column = tl.program_id(1) * block + tl.arange(0, block)
    live = column < width
    memory = memory_ptr + stream * count * width + column
    o = tl.load(before_ptr + stream * width + column, mask=live, other=0.0).to(tl.int32)
    for t in range(steps):
        at = (t * streams + stream) * width + column
        v = tl.load(v_ptr + at, mask=live, other=0.0).to(tl.int32)
        e = tl.minimum(tl.maximum(o - v, -32768), 32767)
        e = (e + ((1 << rate) >> 1)) >> rate
        to = rows_ptr + (t * streams + stream) * heads
        for k in tl.static_range(heads):
            cell = memory + tl.load(to + k) * width
            row = tl.load(cell, mask=live, other=0).to(tl.int32) - e
            row = tl.minimum(tl.maximum(row, low), high)
            tl.store(cell, row.to(memory_ptr.dtype.element_ty), mask=live)
        total = e * 0 + ((1 << mean) >> 1)
        for k in tl.static_range(heads):
            cell = memory + tl.load(to + streams * heads + k) * width
            total += tl.load(cell, mask=live, other=0).to(tl.int32)
        o = total >> mean
        tl.store(o_ptr + at, o.to(tl.float32), mask=live)


@triton.jit
def _backward(
    grad_ptr: T,
    rows_ptr: T,
    d_rows_ptr: T,
    d_v_ptr: T,
    steps: T,
    streams: T,
    count: T,
    width: T,
    share: T,
    step_size: T,
    heads: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """share: 1 / heads; step_size: 2**-rate; d_rows_ptr: zeros [streams, count, width]."""
    stream = tl.program_id(0)
    column = tl.program_id(1) * block + tl.arange(0, block)
    live = column < width
    d_rows = d_rows_ptr + stream * count * width + column
    later = (column * 0).to(tl.float32)
    for back in range(steps):
        t = steps - 1 - back
        at = (t * streams + stream) * width + column
        part = (tl.load(grad_ptr + at, mask=live, other=0.0) + later) * share
        to = rows_ptr + (t * streams + stream) * heads
        for k in tl.static_range(heads):
            cell = d_rows + tl.load(to + streams * heads + k) * width
            tl.store(cell, tl.load(cell, mask=live, other=0.0) + part, mask=live)
        total = later * 0.0
        for k in tl.static_range(heads):
            total += tl.load(d_rows + tl.load(to + k) * width, mask=live, other=0.0)
        tl.store(d_v_ptr + at, total * step_size, mask=live)
        later = -(total * step_size)


class TritonDeltaScan(torch.autograd.Function):
    """``apply(v, rows, last, before, memory, rate)``: as `memory.DeltaScan`, on the tensors' GPU."""

    @staticmethod
    def forward(
        ctx: Any, v: Tensor, rows: Tensor, last: Tensor, before: Tensor, memory: Tensor, rate: int
    ) -> tuple[Tensor, Tensor]:
        steps, streams, heads = rows.shape
        _, count, width = memory.shape
        every = torch.cat((last.unsqueeze(0), rows)).to(torch.int32)
        after, out = memory.clone(), torch.empty_like(v)
        limits = torch.iinfo(memory.dtype)
        _forward[(streams, triton.cdiv(width, BLOCK))](
            v.contiguous(), every, before.contiguous(), after, out, steps, streams, count, width, rate,
            heads.bit_length() - 1, limits.min, limits.max, heads=heads, block=BLOCK, num_warps=1,
        )  # fmt: skip
        ctx.save_for_backward(every)
        ctx.count, ctx.rate = count, rate
        ctx.mark_non_differentiable(after)
        return out, after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (every,) = ctx.saved_tensors
        steps, streams, width = grad.shape
        d_rows = grad.new_zeros(streams, ctx.count, width)
        d_v = torch.empty_like(grad)
        _backward[(streams, triton.cdiv(width, BLOCK))](
            grad.contiguous(), every, d_rows, d_v, steps, streams, ctx.count, width, 1.0 / every.shape[-1],
            2.0**-ctx.rate, heads=every.shape[-1], block=BLOCK, num_warps=1,
        )  # fmt: skip
        return d_v, None, None, None, None, None
