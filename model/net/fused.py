"""The training step in few calls: one autograd node per branch, compiled kernels between the products.

Same values as the modules of ``layers.py`` (a test holds every logit and state word equal) and the same
gradients but for the order of sums. Forward products run on int8 codes and trits with int32 accumulators,
backward products in bfloat16. Activations are kept as integers of their own width. CPU only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ternac.model.net.kernels import Kernels, kernels
from ternac.model.net.layers import GLU, MLGRU, BitLinear, Norm
from ternac.model.net.memory import Recall, row_numbers


def _accumulate(codes: Tensor, trits: Tensor) -> Tensor:
    """i8 [N, K] x trits [M, K] -> i32 [N, M]."""
    return torch._int_mm(codes, trits.to(torch.int8).t())


def _both_ways(grad: Tensor, codes: Tensor, trits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradients of codes (bf16 [N, K]) and trits (float32 [M, K]) from bf16 grad [N, M]."""
    back = torch.mm(grad, trits.bfloat16())
    return back, torch.mm(codes.bfloat16().t(), grad).t().float()


@dataclass(frozen=True)
class _Normed:
    """Output of a norm: codes i8 [N, n] and scales [N]."""

    kernels: Kernels
    codes: Tensor
    scales: Tensor

    @staticmethod
    def of(norm: Norm, x: Tensor) -> _Normed:
        rows, n = x.numel() // x.shape[-1], x.shape[-1]
        out = _Normed(kernels(), torch.empty(rows, n, dtype=torch.int8), torch.empty(rows))
        out.kernels.call(
            "norm_forward", x, norm.table, 2.0**-norm.pre, norm.post, n, out.codes, out.scales, rows=rows
        )
        return out


def _norm_backward(grad: Tensor, x: Tensor, codes: Tensor, scales: Tensor, past: Tensor) -> Tensor:
    out = torch.empty_like(x)
    kernels().call("norm_backward", grad, x, codes, scales, past, x.shape[-1], out, rows=scales.numel())
    return out


def _add(r: Tensor, acc: Tensor, scale: float, keep: Tensor | None) -> Tensor:
    out = torch.empty_like(r)
    time, streams, n = r.shape
    kernels().call("add_forward", r, acc, scale, keep, streams, n, out, rows=time * streams)
    return out


def _add_backward(grad: Tensor, scale: float, keep: Tensor | None) -> Tensor:
    time, streams, n = grad.shape
    out = torch.empty(time * streams, n, dtype=torch.bfloat16)
    kernels().call("add_backward", grad, scale, keep, streams, n, out, rows=time * streams)
    return out


class Mix(torch.autograd.Function):
    """``apply(r, w, wo, h0, keep, norm, mlgru)`` -> (r + MLGRU(NORM(r)), state); w: Wf, Wg, Wc stacked."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, w: Tensor, wo: Tensor, h0: Tensor, keep: Tensor | None, norm: Norm, cell: MLGRU
    ) -> tuple[Tensor, Tensor]:
        time, streams, n = r.shape
        rows = time * streams
        y = _Normed.of(norm, r)
        acc = _accumulate(y.codes, w)
        parts = ((cell.wf, cell.sigmoid), (cell.wg, cell.silu_gate), (cell.wc, cell.silu_state))
        tables = torch.cat([table.table for _, table in parts])
        shifts = [2.0**-linear.shift for linear, _ in parts]
        codes = torch.empty(rows, 3 * n, dtype=torch.int8)
        values = torch.empty(rows, 3 * n, dtype=torch.int16)
        h, z = torch.empty(rows, n, dtype=torch.int16), torch.empty(rows, n, dtype=torch.int8)
        scales = torch.tensor([*shifts, 2.0**-cell.mul_shift])
        h0 = h0.contiguous()
        kernels().call(
            "mlgru_forward", acc, tables, scales, h0, time, streams, n, codes, values, h, z, rows=streams
        )
        ctx.add_scale, ctx.mul_scale = 2.0**-cell.wo.shift, 2.0**-cell.mul_shift
        ctx.slopes = torch.cat([table.slope * s for (_, table), s in zip(parts, shifts, strict=True)])
        ctx.keep = keep
        ctx.save_for_backward(r, w, wo, h0, y.codes, y.scales, codes, values, h, z)
        out = _add(r, _accumulate(z, wo), ctx.add_scale, keep)
        state = h[rows - streams :].float()
        ctx.mark_non_differentiable(state)
        return out, state

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        r, w, wo, h0, y, y_scales, codes, values, h, z = ctx.saved_tensors
        grad = grad.contiguous()
        time, streams, n = r.shape
        d_z, d_wo = _both_ways(_add_backward(grad, ctx.add_scale, ctx.keep), z, wo)
        d_acc = torch.empty(time * streams, 3 * n, dtype=torch.bfloat16)
        carry = torch.zeros(streams, n)
        kernels().call(
            "mlgru_backward",
            d_z,
            z,
            codes,
            values,
            h,
            h0,
            ctx.slopes,
            ctx.mul_scale,
            time,
            streams,
            n,
            carry,
            d_acc,
            rows=streams,
        )
        d_y, d_w = _both_ways(d_acc, y, w)
        return _norm_backward(d_y, r, y, y_scales, grad), d_w, d_wo, None, None, None, None


class Gate(torch.autograd.Function):
    """``apply(r, w, wdown, keep, norm, glu)`` -> r + GLU(NORM(r)); w: Wgate and Wup stacked."""

    @staticmethod
    def forward(
        ctx: Any, r: Tensor, w: Tensor, wdown: Tensor, keep: Tensor | None, norm: Norm, glu: GLU
    ) -> Tensor:
        m, table = wdown.shape[1], glu.silu_act
        y = _Normed.of(norm, r)
        rows = len(y.codes)
        acc = _accumulate(y.codes, w)
        codes, z = torch.empty(rows, 2 * m, dtype=torch.int8), torch.empty(rows, m, dtype=torch.int8)
        gates = torch.empty(rows, m, dtype=torch.int16)
        scales = [2.0**-shift for shift in (glu.wgate.shift, glu.wup.shift, glu.mul_shift)]
        kernels().call("glu_forward", acc, table.table, torch.tensor(scales), m, codes, gates, z, rows=rows)
        ctx.add_scale, ctx.scales, ctx.keep = 2.0**-glu.wdown.shift, scales, keep
        ctx.slope = table.slope * scales[0]
        ctx.save_for_backward(r, w, wdown, y.codes, y.scales, codes, gates, z)
        return _add(r, _accumulate(z, wdown), ctx.add_scale, keep)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        r, w, wdown, y, y_scales, codes, gates, z = ctx.saved_tensors
        grad = grad.contiguous()
        d_z, d_down = _both_ways(_add_backward(grad, ctx.add_scale, ctx.keep), z, wdown)
        d_acc = torch.empty(codes.shape, dtype=torch.bfloat16)
        _, up, mul = ctx.scales
        kernels().call(
            "glu_backward", d_z, z, codes, gates, ctx.slope, up, mul, z.shape[1], d_acc, rows=len(z)
        )
        d_y, d_w = _both_ways(d_acc, y, w)
        return _norm_backward(d_y, r, y, y_scales, grad), d_w, d_down, None, None, None


class Remember(torch.autograd.Function):
    """``apply(r, w, wo, last, before, memory, keep, norm, cell)`` -> (r + Recall(NORM(r)), rows, o, memory).

    w: Wv and Wg stacked; last i32 [B, H] and before i8 [B, D]: rows and o of the token before the window;
    memory int8 [B, R, D], which is not changed. rows i32 [T, B, H] and o i8 [T, B, D] are those of the
    window.
    """

    @staticmethod
    def forward(
        ctx: Any,
        r: Tensor,
        w: Tensor,
        wo: Tensor,
        last: Tensor,
        before: Tensor,
        memory: Tensor,
        keep: Tensor | None,
        norm: Norm,
        cell: Recall,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        time, streams, _ = r.shape
        tokens, c, table = time * streams, cell.config, cell.silu_gate.table
        y = _Normed.of(norm, r)
        acc = torch._int_mm(y.codes, torch.cat((cell.maps.flatten(0, 1), w.to(torch.int8))).t())
        width = acc.shape[1]
        rows = torch.empty(time, streams, c.heads, dtype=torch.int32)
        kernels().call("memory_rows", acc, width, c.heads, c.bits, rows, rows=tokens)
        v, o, z, codes = (torch.empty(time, streams, c.width, dtype=torch.int8) for _ in range(4))
        kernels().call("memory_values", acc, width, 2.0**-cell.wv.shift, c.width, v, rows=tokens)
        memory = memory.clone()
        delta_forward(v, rows, last, before, memory, c.rate, o)
        ctx.mul = 2.0**-cell.mul_shift
        scale = 2.0**-cell.wg.shift
        kernels().call("memory_gate", acc, width, table, scale, ctx.mul, c.width, o, codes, z, rows=tokens)
        ctx.add_scale, ctx.keep, ctx.config = 2.0**-cell.wo.shift, keep, c
        ctx.value_scale, ctx.table, ctx.slope = 2.0**-cell.wv.shift, table, cell.silu_gate.slope * scale
        ctx.save_for_backward(r, w, wo, last, y.codes, y.scales, rows, v, o, codes, z)
        out = _add(r, _accumulate(z.flatten(0, 1), wo), ctx.add_scale, keep)
        ctx.mark_non_differentiable(rows, o, memory)
        return out, rows, o, memory

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        r, w, wo, last, y, y_scales, rows, v, o, codes, z = ctx.saved_tensors
        grad = grad.contiguous()
        c, tokens = ctx.config, len(y)
        d_z, d_wo = _both_ways(_add_backward(grad, ctx.add_scale, ctx.keep), z.flatten(0, 1), wo)
        d_o = torch.empty(o.shape)
        d_acc = torch.empty(tokens, 2 * c.width, dtype=torch.bfloat16)
        kernels().call(
            "memory_gate_backward", d_z, z, o, codes, ctx.table, ctx.slope, ctx.mul, c.width, d_o, d_acc,
            rows=tokens,
        )  # fmt: skip
        d_v = delta_backward(d_o, rows, last, c.rows, c.rate)
        kernels().call("memory_values_backward", d_v, v, ctx.value_scale, c.width, d_acc, rows=tokens)
        d_y, d_w = _both_ways(d_acc, y, w)
        return _norm_backward(d_y, r, y, y_scales, grad), d_w, d_wo, *(None,) * 6


def delta_forward(
    v: Tensor,
    rows: Tensor,
    last: Tensor,
    before: Tensor,
    memory: Tensor,
    rate: int,
    out: Tensor,
    writes: Tensor | None = None,
) -> None:
    """Compute what `memory.DeltaScan` does, compiled: changes ``memory`` in place and fills ``out``.

    v [T, B, D], before [B, D], memory [B, R, D] and out [T, B, D] are all int8 or all int16; rows [T, B, H]
    and last [B, H] are int32; ``writes`` [T, B] is bool.
    """
    name = {torch.int8: "delta_forward_i8", torch.int16: "delta_forward_i16"}[memory.dtype]
    time, streams, heads = rows.shape
    _, count, width = memory.shape
    kernels().call(
        name,
        v,
        rows,
        last,
        before,
        writes,
        rate,
        time,
        streams,
        heads,
        count,
        width,
        memory,
        out,
        rows=streams,
    )


def delta_backward(
    grad: Tensor, rows: Tensor, last: Tensor, count: int, rate: int, writes: Tensor | None = None
) -> Tensor:
    """Return the gradient of v [T, B, D] from that of o; ``count`` rows a memory, else as `delta_forward`."""
    time, streams, width = grad.shape
    d_v, d_rows = torch.empty_like(grad), torch.zeros(streams, count, width)
    kernels().call(
        "delta_backward", grad, rows, last, writes, rate, time, streams, rows.shape[-1], count, width, d_rows,
        d_v, rows=streams,
    )  # fmt: skip
    return d_v


class DeltaScan(torch.autograd.Function):
    """`memory.DeltaScan`, compiled, of int8 rows alone: the same arguments, results and gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        rows: Tensor,
        last: Tensor,
        before: Tensor,
        memory: Tensor,
        rate: int,
        writes: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        rows, last, after = rows.int().contiguous(), last.int().contiguous(), memory.clone()
        out = torch.empty(v.shape, dtype=torch.int8)
        values = v.to(torch.int8).contiguous()
        delta_forward(values, rows, last, before.to(torch.int8).contiguous(), after, rate, out, writes)
        ctx.save_for_backward(rows, last)
        ctx.size, ctx.writes = (memory.shape[1], rate), writes
        ctx.mark_non_differentiable(after)
        return out.float(), after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        rows, last = ctx.saved_tensors
        count, rate = ctx.size
        d_v = delta_backward(grad.contiguous(), rows, last, count, rate, ctx.writes)
        return d_v, *(None,) * 6


class Normalize(torch.autograd.Function):
    """``apply(x, norm)``: NORM(x) as codes in float32, the gradient by way of bfloat16."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, norm: Norm) -> Tensor:
        x = x.contiguous()
        y = _Normed.of(norm, x)
        ctx.save_for_backward(x, y.codes, y.scales)
        return y.codes.view(x.shape).float()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, codes, scales = ctx.saved_tensors
        return _norm_backward(grad.bfloat16().contiguous(), x, codes, scales, torch.zeros_like(x)), None


class LerpScan(torch.autograd.Function):
    """`scan.LerpScan`, compiled: the same arguments, result and gradients."""

    @staticmethod
    def forward(ctx: Any, f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
        f, c, h0 = f.contiguous(), c.contiguous(), h0.contiguous()
        out = torch.empty_like(c)
        time, streams, n = c.shape
        kernels().call("lerp_forward", f, c, h0, time, streams, n, out, rows=streams)
        ctx.save_for_backward(f, c, h0, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        f, c, h0, out = ctx.saved_tensors
        time, streams, n = c.shape
        carry, d_f, d_c = torch.zeros_like(h0), torch.empty_like(c), torch.empty_like(c)
        kernels().call(
            "lerp_backward", grad.contiguous(), f, c, h0, out, time, streams, n, carry, d_f, d_c, rows=streams
        )
        return d_f, d_c, carry


class Head(torch.autograd.Function):
    """``apply(r, w, norm, head)`` -> logits in codes, float32 [T, B, V]."""

    @staticmethod
    def forward(ctx: Any, r: Tensor, w: Tensor, norm: Norm, head: BitLinear) -> Tensor:
        y = _Normed.of(norm, r)
        out = torch.empty(*r.shape[:-1], len(w))
        ctx.scale = 2.0**-head.shift
        kernels().call("head_forward", _accumulate(y.codes, w), ctx.scale, len(w), out, rows=len(y.codes))
        ctx.save_for_backward(r, w, y.codes, y.scales, out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        r, w, y, y_scales, out = ctx.saved_tensors
        d_acc = torch.empty(len(y), len(w), dtype=torch.bfloat16)
        kernels().call("head_backward", grad.contiguous(), out, ctx.scale, len(w), d_acc, rows=len(y))
        d_y, d_w = _both_ways(d_acc, y, w)
        return _norm_backward(d_y, r, y, y_scales, torch.zeros_like(r)), d_w, None, None


def block(
    norm: Norm, cell: MLGRU, glu: GLU, r: Tensor, h0: Tensor, keep: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """One layer: r float32 [T, B, d], h0 [B, d] -> (r, new state [B, d])."""
    w = torch.cat([linear.trits() for linear in (cell.wf, cell.wg, cell.wc)])
    r, h = Mix.apply(r, w, cell.wo.trits(), h0, keep and keep[0], norm, cell)
    w = torch.cat((glu.wgate.trits(), glu.wup.trits()))
    return Gate.apply(r, w, glu.wdown.trits(), keep and keep[1], norm, glu), h


def recall(
    norm: Norm, cell: Recall, r: Tensor, state: tuple[list[Tensor], Tensor], keep: Tensor | None
) -> tuple[Tensor, tuple[list[Tensor], Tensor]]:
    """One memory layer: r float32 [T, B, d] -> (r, state after the window)."""
    (a, b, before), memory = state
    bits = cell.config.bits
    last = row_numbers((a, b), bits).int()
    w = torch.cat((cell.wv.trits(), cell.wg.trits()))
    r, rows, o, memory = Remember.apply(
        r, w, cell.wo.trits(), last, before.to(torch.int8), memory, keep, norm, cell
    )
    digits = [(rows[-1] >> shift & (1 << bits) - 1).float() for shift in (bits, 0)]
    return r, ([*digits, o[-1].float()], memory)


def head(norm: Norm, linear: BitLinear, r: Tensor) -> Tensor:
    """Logits [T, B, V] in codes, float32."""
    logits: Tensor = Head.apply(r, linear.trits(), norm, linear)
    return logits
