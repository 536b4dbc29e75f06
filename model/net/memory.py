"""Memories of integer rows in training: winners, delta and Hebbian writes, tables, and the FwPKM layer.

Tensors are float32 [T, B, ..] that hold integer codes, unless a contract says otherwise; every forward value
is the integer of docs/numerics.md. Rows are int8 (or int16) tensors [B, rows, D], one memory a stream.

A row number is built from digits: with ``bits`` bits a digit, head k of H owns rows k * R .. k * R + R - 1,
where R is 2**bits with one digit (a) and 2**(2 * bits) with two (a, b): row = k * R + a * 2**bits + b. So one
op never addresses a row twice, and the order of its heads cannot matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ternac.model.net import functional as fn
from ternac.model.net import gpu
from ternac.model.net.config import MemoryConfig, Scales
from ternac.model.net.layers import BitLinear, silu

RANGES = {torch.int8: fn.I8, torch.int16: fn.I16}
"""What rows of a type can hold."""
SWEEPS = 3
"""Of `even_maps`; one alone has nine tenths of the effect."""
Value = TypeVar("Value")


def winners(x: Tensor, groups: int) -> Tensor:
    """WINNERS: x [.., groups * G] -> int64 [.., groups], the first of the largest elements of each group."""
    return x.unflatten(-1, (groups, -1)).argmax(-1)


def row_numbers(digits: tuple[Tensor, ...], bits: int, shared: bool = False) -> Tensor:
    """Return the rows, int64 [.., H], of one or two digits, each integers [.., H].

    Only the low ``bits`` bits of a digit count (two's complement). ``shared``: all heads address one region.
    """
    local = torch.zeros_like(digits[0], dtype=torch.int64)
    for digit in digits:
        local = (local << bits) | (digit.long() & ((1 << bits) - 1))
    if shared:
        return local
    return local + (torch.arange(local.shape[-1], device=local.device) << (len(digits) * bits))


class Mask(torch.autograd.Function):
    """MASK: ``apply(x, w)``: x [.., g * G] where w (int64 [.., g], digits mod G) points, 0 elsewhere.

    Backward: to the elements that passed.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor) -> Tensor:
        parts = x.unflatten(-1, (w.shape[-1], -1))
        at = (w % parts.shape[-1]).unsqueeze(-1)
        ctx.save_for_backward(at)
        return torch.zeros_like(parts).scatter_(-1, at, parts.gather(-1, at)).flatten(-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (at,) = ctx.saved_tensors
        parts = grad.unflatten(-1, (at.shape[-2], -1))
        return torch.zeros_like(parts).scatter_(-1, at, parts.gather(-1, at)).flatten(-2), None


class Active(torch.autograd.Function):
    """``apply(scores, groups, gain)``: 1 at the winner of each group of scores [.., groups * G], 0 elsewhere.

    Backward: straight through at the winners, ``gain`` times, so that an address map can be learnt.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, groups: int, gain: float) -> Tensor:
        parts = scores.unflatten(-1, (groups, -1))
        result = torch.zeros_like(parts).scatter_(-1, parts.argmax(-1, keepdim=True), 1.0).flatten(-2)
        ctx.gain = gain
        ctx.save_for_backward(result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (active,) = ctx.saved_tensors
        return grad * active * ctx.gain, None, None


class Sub(torch.autograd.Function):
    """SUB: ``apply(a, b, low, high)``: clamp(a - b); no gradient where it saturates."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, low: float, high: float) -> Tensor:
        y = a - b
        ctx.save_for_backward((y >= low) & (y <= high))
        return y.clamp_(low, high)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        (inside,) = ctx.saved_tensors
        grad = grad * inside
        return grad, -grad, None, None


class DeltaScan(torch.autograd.Function):
    """``apply(v, rows, last, before, memory, rate, writes)`` -> (o, memory after the window).

    Every token t, or every one for which ``writes``, bool [T, B], says so, writes v[t] at the rows of token
    t - 1, then reads at its own rows:

        e = rshift_round(sat16(o[t-1] - v[t]), rate);  M[rows[t-1]] = sat(M[rows[t-1]] - e)
        o[t] = rshift_round(sum of M[rows[t]], log2 H)

    v, o [T, B, D]; rows integers [T, B, H], H a power of two; last [B, H] and before [B, D] are rows and o of
    the token before the window (those of the head's row 0 and zeros at the beginning of a session: the first
    token writes, too); memory int8 or int16 [B, R, D], which is not changed.

    Backward: the adjoint of the linear map v -> o; rounding and saturation straight through. Memory and
    ``before`` come from another window and get no gradient.
    """

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
        streams, count, width = memory.shape
        low, high = RANGES[memory.dtype]
        flat = memory.to(v.dtype).view(-1, width)  # a copy: the type differs
        base = (torch.arange(streams, device=v.device) * count).unsqueeze(-1)
        read = rows.long() + base
        write = torch.cat(((last.long() + base).unsqueeze(0), read[:-1]))
        heads = rows.shape[-1]
        out, o = torch.empty_like(v), before
        gates = torch.ones(v.shape[:2], dtype=torch.bool, device=v.device) if writes is None else writes
        for value, gate, to, at, o_t in zip(v, gates.unsqueeze(-1), write, read, out, strict=True):
            e = fn.round_shift_((o - value).clamp_(*fn.I16), 2.0**-rate) * gate
            flat[to] = (flat[to] - e.unsqueeze(1)).clamp_(low, high)
            o_t.copy_(fn.round_shift_(flat[at].sum(1), 1.0 / heads))
            o = o_t
        after = flat.view(memory.shape).to(memory.dtype)
        ctx.save_for_backward(write, read, gates)
        ctx.size = count, rate
        ctx.mark_non_differentiable(after)
        return out, after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        write, read, gates = ctx.saved_tensors
        count, rate = ctx.size
        streams, width = grad.shape[1:]
        heads = read.shape[-1]
        d_rows = grad.new_zeros(streams * count, width)
        d_v, later = torch.empty_like(grad), torch.zeros_like(grad[0])
        for t in range(len(grad) - 1, -1, -1):
            to_each = ((grad[t] + later) * (1.0 / heads)).unsqueeze(1).expand(-1, heads, -1)
            d_rows.index_add_(0, read[t].flatten(), to_each.reshape(-1, width))
            d_v[t] = d_rows[write[t]].sum(1).mul_(2.0**-rate) * gates[t].unsqueeze(-1)
            later = -d_v[t]
        return d_v, *(None,) * 6


def delta_scan(
    v: Tensor, rows: Tensor, last: Tensor, before: Tensor, memory: Tensor, rate: int
) -> tuple[Tensor, Tensor]:
    """See :class:`DeltaScan`; every token writes. On a GPU by :mod:`ternac.model.net.memory_triton`."""
    arguments = (v, rows, last, before, memory, rate)
    return gpu.delta_scan(*arguments) if v.is_cuda else DeltaScan.apply(*arguments)


class HebbianScan(torch.autograd.Function):
    """``apply(e, v, memory, lag)`` -> (o, memory after the window): rows are added, never corrected.

    e [T, B, N] of 0 and 1 (which rows are active), v [T, B, D], memory int8 or int16 [B, N, D]; o [T, B, D]
    are the accumulators, sums of the active rows. With ``lag`` 1 token t first adds v[t] to the rows of token
    t - 1 (none at the first token of a window), then reads; with 0 it reads, then adds v[t] to its own rows.
    Rows saturate.

    Backward: of :func:`hebbian_product`, straight through saturation, and of the read of ``memory`` to e.
    """

    @staticmethod
    def forward(ctx: Any, e: Tensor, v: Tensor, memory: Tensor, lag: int) -> tuple[Tensor, Tensor]:
        low, high = RANGES[memory.dtype]
        held = memory.to(v.dtype)
        out = torch.empty_like(v)
        for t in range(len(e)):
            if lag and t:
                held = (held + e[t - 1].unsqueeze(-1) * v[t].unsqueeze(1)).clamp_(low, high)
            out[t] = torch.bmm(e[t].unsqueeze(1), held).squeeze(1)
            if not lag:
                held = (held + e[t].unsqueeze(-1) * v[t].unsqueeze(1)).clamp_(low, high)
        after = held.to(memory.dtype)
        ctx.save_for_backward(e, v, memory)
        ctx.lag = lag
        ctx.mark_non_differentiable(after)
        return out, after

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None, None]:
        e, v, memory = ctx.saved_tensors
        with torch.enable_grad():
            e, v = e.detach().requires_grad_(), v.detach().requires_grad_()
            o = hebbian_product(e, v, ctx.lag)
            o = o + torch.einsum("tbn,bnd->tbd", e, memory.to(v.dtype))
        d_e, d_v = torch.autograd.grad(o, (e, v), grad)
        return d_e, d_v, None, None


def hebbian_product(e: Tensor, v: Tensor, lag: int) -> Tensor:
    """Return what :class:`HebbianScan` reads from an empty memory, as three matrix products.

    o[t] = sum over writes u before t of <e[t], e[u]> v[u + lag]: equal to the scan while no row saturates.
    """
    active, values = e.transpose(0, 1), v.transpose(0, 1)
    if lag:
        values = torch.cat((values[:, 1:], torch.zeros_like(values[:, :1])), 1)
    return ((active @ active.transpose(1, 2)).tril(-1) @ values).transpose(0, 1)


class TableRows(torch.autograd.Function):
    """MEM_READ of constant rows, as a KAN layer: ``apply(codes, table)`` -> sums [.., D].

    codes integers [.., I], of which the low log2(R) bits count; table [I, R, D], R a power of two: input i
    reads row codes[i] mod R of its own R rows.

    Backward: to the rows, what their readers got; to a code, half the difference of its neighbour rows (of
    its row and the neighbour at the ends of the codes' two's complement range), the slope of the table.
    """

    @staticmethod
    def forward(ctx: Any, codes: Tensor, table: Tensor) -> Tensor:
        inputs, count, _ = table.shape
        first = torch.arange(inputs, device=codes.device) * count
        at = codes.long() & (count - 1)
        ctx.save_for_backward(codes, at + first, table)
        return table.flatten(0, 1)[at + first].sum(-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        codes, rows, table = ctx.saved_tensors
        inputs, count, width = table.shape
        d_table = torch.zeros_like(table).flatten(0, 1)
        spread = grad.unsqueeze(-2).expand(*codes.shape, width)
        d_table.index_add_(0, rows.flatten(), spread.reshape(-1, width))
        first = torch.arange(inputs, device=codes.device) * count
        signed = (codes.long() + count // 2 & (count - 1)) - count // 2
        beside = [(signed + step).clamp(-(count // 2), count // 2 - 1) & (count - 1) for step in (1, -1)]
        up, down = (table.flatten(0, 1)[at + first] for at in beside)
        d_codes = ((up - down) * 0.5 * grad.unsqueeze(-2)).sum(-1)
        return d_codes, d_table.view_as(table)


class PickRows(torch.autograd.Function):
    """WINNERS and MEM_READ of constant rows: ``apply(table, gains, *scores)`` -> sums [.., D].

    scores: one or two [.., H * G]; table [H, G, D] or [H, G, G, D]: head k reads the row of the first largest
    score of its group in each. ``gains``: for each, how much a code of a score counts in the backward.

    Backward: to the rows, what their readers got; to the scores, as if the rows were weighted by a softmax
    of gain * score, with the winners of the other scores. So scores learn of rows that were not read.
    """

    @staticmethod
    def forward(ctx: Any, table: Tensor, gains: tuple[float, ...], *scores: Tensor) -> Tensor:
        heads, slots = table.shape[:2]
        digits = [winners(each, heads) for each in scores]
        at = torch.arange(heads, device=table.device)
        for digit in digits:
            at = at * slots + digit
        ctx.save_for_backward(table, at, *scores, *digits)
        ctx.gains = gains
        return table.reshape(-1, table.shape[-1])[at].sum(-2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        table, at, *saved = ctx.saved_tensors
        scores, digits = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        heads, slots, width = table.shape[0], table.shape[1], table.shape[-1]
        flat = table.reshape(-1, width)
        spread = grad.unsqueeze(-2).expand(*at.shape, width).reshape(-1, width)
        d_table = torch.zeros_like(flat).index_add_(0, at.flatten(), spread)
        every = (grad @ flat.t()).unflatten(-1, (heads, -1))  # of each row, had it been read
        d_scores = []
        for number, score in enumerate(scores):
            mine = every
            if len(scores) == 2:
                mine = every.unflatten(-1, (slots, slots)).movedim(number - 2, -1)
                other = digits[1 - number][..., None, None].expand(*mine.shape[:-2], 1, slots)
                mine = mine.gather(-2, other).squeeze(-2)
            weight = torch.softmax(score.unflatten(-1, (heads, -1)) * ctx.gains[number], -1)
            slope = mine - (weight * mine).sum(-1, keepdim=True)
            d_scores.append((weight * slope).mul_(ctx.gains[number]).flatten(-2))
        return d_table.view_as(table), None, *d_scores


def loop(body: Callable[[Value, int], Value], carried: Value, times: int) -> Value:
    """LOOP: run ``body(carried, run)`` ``times`` times, each on what the run before returned."""
    for run in range(times):
        carried = body(carried, run)
    return carried


def address_maps(config: MemoryConfig, d: int) -> Tensor:
    """Return the fixed maps int8 [2, heads * slots, d] of -1, 0 and 1: a function of shape and seed alone."""
    shape = (2, config.heads * config.slots, d)
    return torch.from_numpy(np.random.default_rng(config.seed).integers(-1, 2, shape, dtype=np.int8))


def even_maps(config: MemoryConfig, moment: Tensor) -> Tensor:
    """Return `address_maps` with signs by which a text whose vectors n have ``moment`` uses rows evenly.

    moment float64 [d, d]: the sum of n n' over tokens, integers below 2**53 / d. Vectors of a text share a
    few strong directions, in which random maps score high or low together, so most tokens meet in few rows.
    A sign is flipped where that lowers the sum of the squared scores a' moment a, element by element,
    ``SWEEPS`` times; no zero changes. Every value is exact, so the same moment gives the same maps on any
    machine.
    """
    d = len(moment)
    a = address_maps(config, d).flatten(0, 1).double()
    scored = a @ moment
    for _ in range(SWEEPS):
        for j in range(d):
            gain = a[:, j] * scored[:, j] - moment[j, j] * a[:, j] ** 2
            flip = -2.0 * a[:, j] * (gain > 0)
            a[:, j] += flip
            scored += flip.unsqueeze(-1) * moment[j]
    return a.to(torch.int8).view(2, -1, d)


class Recall(nn.Module):
    """FwPKM with one winner a head: r += Wo(o * SiLU(Wg n)), n = NORM(r), where o is read at an address of n.

    Token t's value Wv n is written at the address of token t - 1, see :class:`DeltaScan`; an address is two
    winners a head, of the fixed ternary maps ``maps`` of n. State: digits a and b [B, H], o [B, D], memory
    int8 [B, rows, D].
    """

    maps: Tensor

    def __init__(self, config: MemoryConfig, d: int, s: Scales) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("maps", address_maps(config, d))
        self.wv = BitLinear(d, config.width, s.norm, s.row)
        self.wg = BitLinear(d, config.width, s.norm, s.pre)
        self.wo = BitLinear(config.width, d, s.mixed, s.residual)
        self.silu_gate = silu(s, s.gate)
        self.mul_shift = s.row + s.gate - s.mixed

    def take(self, config: MemoryConfig, maps: Tensor | None = None) -> None:
        """Use the rows of ``config``, which has this memory's width, and its maps, or ``maps`` instead."""
        self.config = config
        maps = address_maps(config, self.maps.shape[-1]) if maps is None else maps
        self.maps = maps.to(self.maps.device)

    def initial_state(self, batch: int) -> tuple[list[Tensor], Tensor]:
        """Return digits a, b and o, all zero, of ``batch`` streams, and their empty memory."""
        c, device = self.config, self.maps.device
        small = [torch.zeros(batch, n, device=device) for n in (c.heads, c.heads, c.width)]
        return small, torch.zeros(batch, c.rows, c.width, dtype=torch.int8, device=device)

    def digits(self, n: Tensor) -> tuple[Tensor, Tensor]:
        """n i8 [.., d] -> both digits of every head's row, int64 [.., H]."""
        scores = [fn.TernaryLinear.apply(n, each.float(), False).clamp_(*fn.I16) for each in self.maps]
        return winners(scores[0], self.config.heads), winners(scores[1], self.config.heads)

    def forward(
        self, n: Tensor, state: tuple[list[Tensor], Tensor]
    ) -> tuple[Tensor, tuple[list[Tensor], Tensor]]:
        """n i8 [T, B, d] -> (accumulator of Wo [T, B, d], state after the window)."""
        (last_a, last_b, before), memory = state
        bits = self.config.bits
        with torch.no_grad():
            a, b = self.digits(n)
            rows = row_numbers((a, b), bits)
            last = row_numbers((last_a, last_b), bits)
        v = fn.Requant.apply(self.wv.acc(n), 2.0**-self.wv.shift, *fn.I8)
        o, memory = delta_scan(v, rows, last, before, memory, self.config.rate)
        g = self.silu_gate(self.wg.acc(n), self.wg.shift)
        acc = self.wo.acc(fn.Mul.apply(o, g, 2.0**-self.mul_shift))
        return acc, ([a[-1].float(), b[-1].float(), o[-1].detach()], memory)
