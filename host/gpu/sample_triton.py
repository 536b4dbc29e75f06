"""From logits to a token on the device, the bits of ternac/run/sampling.py: one block a session."""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as T

from ternac.host.gpu.ops_triton import HIGHEST, SUM


@triton.jit
def kept_mask(z: T, live: T, top_k: T) -> T:
    """The ``top_k`` largest of ``z``; among equals at the threshold, the lowest places.

    The threshold is found bit by bit: the largest value that at least ``top_k`` elements reach.
    """
    level = tl.full((), -32768, tl.int32)
    for back in range(16):
        higher = level + (tl.full((), 1, tl.int32) << (15 - back))
        reached = tl.reduce((live & (z >= higher)).to(tl.int32), 0, SUM)
        level = tl.where(reached >= top_k, higher, level)
    above = live & (z > level)
    equal = (live & (z == level)).to(tl.int32)
    room = top_k - tl.reduce(above.to(tl.int32), 0, SUM)
    return above | ((equal > 0) & (tl.associative_scan(equal, 0, SUM) <= room))


@triton.jit
def choose(
    middle: T, place: T, exponentials: T, settings: T, tokens: T, rngs: T, at: T, chosen: T,
    stride: tl.constexpr, room: tl.constexpr, vocab: tl.constexpr, block: tl.constexpr, greedy: tl.constexpr,
    some: tl.constexpr, overlap: tl.constexpr,
) -> None:  # fmt: skip
    """Choose for row program_id(0) and make it the row's next token. ``some``: top_k keeps fewer than all.

    ``settings``: m, s, top_k. ``chosen`` [rows, room] gets the token at ``at[row]``, which goes on by one.
    """
    if overlap:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    row = tl.program_id(0)
    number = tl.arange(0, block)
    live = number < vocab
    z = tl.load(middle + row.to(tl.int64) * stride + place + number, mask=live, other=-32768).to(tl.int32)
    highest = tl.reduce(tl.where(live, z, -32768), 0, HIGHEST)
    if greedy:
        token = -tl.reduce(tl.where(live & (z == highest), -number, -block), 0, HIGHEST)
    else:
        m, s = tl.load(settings), tl.load(settings + 1)
        code = tl.minimum(((highest - z).to(tl.int64) * m) >> s, 255)
        keep = live
        if some:
            keep = kept_mask(z, live, tl.load(settings + 2).to(tl.int32))
        w = tl.load(exponentials + code, mask=keep, other=0).to(tl.int64)
        x = tl.load(rngs + row)
        x ^= (x << 13) & 0xFFFFFFFF
        x ^= x >> 17
        x ^= (x << 5) & 0xFFFFFFFF
        tl.store(rngs + row, x)
        total = tl.reduce(w, 0, SUM)
        r = (x.to(tl.uint64) * total.to(tl.uint64) >> 32).to(tl.int64)
        before = live & (tl.associative_scan(w, 0, SUM) <= r)
        token = tl.reduce(before.to(tl.int32), 0, SUM)
    tl.store(tokens + row, token)
    done = tl.load(at + row)
    tl.store(chosen + row.to(tl.int64) * room + done, token)
    tl.store(at + row, done + 1)
