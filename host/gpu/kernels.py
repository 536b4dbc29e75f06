"""The Triton kernels: a phase for one row, a product on tensor cores for many, a scan over tokens, a choice.

All sums are integers and each is taken by one block, so results do not depend on the order of blocks. ``asm``
says whether PTX may be used (``dp4a``, bytes masked four at a time); without it, as in the interpreter, plain
operations do the same. Layout of weights: ``host/gpu/weights.py``; of ``numbers``: ``host/gpu/lower.py``.
"""

# mypy: disable-error-code="assignment, no-redef"
# Tuples that grow and branches that a constant decides are Triton's, not Python's.

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as T

from ternac.host.gpu import lower
from ternac.host.gpu.ops_triton import FETCH1, HIGHEST, STATE, SUM, fetch, micro
from ternac.host.gpu.ops_triton import KINDS as KINDS

PARAMS, STATE_AREA = tl.constexpr(lower.PARAMS), tl.constexpr(lower.STATE_AREA)


@triton.jit
def dp4a(codes: T, x: T, asm: tl.constexpr) -> T:
    """Sum of four unsigned bytes of ``codes`` times four signed bytes of ``x``, per word of a 2D tile."""
    if asm:
        return tl.inline_asm_elementwise(
            "dp4a.u32.s32 $0, $1, $2, 0;", "=r,r,r", [codes, x], dtype=tl.int32, is_pure=True, pack=1
        )
    else:
        shift = (8 * tl.arange(0, 4))[None, None, :]
        bytes_of_x = (x[:, :, None] << (24 - shift)) >> 24
        return tl.reduce(((codes[:, :, None] >> shift) & 255) * bytes_of_x, 2, SUM)


@triton.jit
def pair(codes: T, number: tl.constexpr, asm: tl.constexpr) -> T:
    """One bit pair of each byte, int8 0..3."""
    if asm:
        if number == 0:
            text: tl.constexpr = "and.b32 $0, $1, 0x03030303;"
        elif number == 1:
            text: tl.constexpr = "{ .reg .b32 t; shr.u32 t, $1, 2; and.b32 $0, t, 0x03030303; }"
        elif number == 2:
            text: tl.constexpr = "{ .reg .b32 t; shr.u32 t, $1, 4; and.b32 $0, t, 0x03030303; }"
        else:
            text: tl.constexpr = "{ .reg .b32 t; shr.u32 t, $1, 6; and.b32 $0, t, 0x03030303; }"
        return tl.inline_asm_elementwise(text, "=r,r", [codes], dtype=tl.int8, is_pure=True, pack=4)
    else:
        return ((codes >> (2 * number)) & 3).to(tl.int8)


@triton.jit
def words_of(x: T, block: tl.constexpr) -> T:
    """A tile of bytes (int32 [4 * block]) as 32-bit words [block], the first byte lowest."""
    quads = tl.reshape(x, (block, 4)) & 255
    return tl.reduce(quads << (8 * tl.arange(0, 4))[None, :], 1, SUM)


@triton.jit
def five_sums(a: T, b: T, c: T, d: T, e: T, p: T, q: T, r: T, s: T, t: T) -> T:
    """The step of a reduction of five tiles at once."""
    return a + p, b + q, c + r, d + s, e + t


@triton.jit
def row_sums(w: T, x: T, groups: tl.constexpr, asm: tl.constexpr, joint: tl.constexpr) -> T:
    """w [groups, words], x [1, words] packed: sums [4 * groups], element 4 g + j of row j of group g.

    ``joint``: one reduction for all sums, which threads wait for once; slow in the interpreter.
    """
    whole = dp4a(w, x, asm)
    first, second = dp4a(w & 0x0C0C0C0C, x, asm), dp4a(w & 0x30303030, x, asm)
    third = dp4a(w & -1061109568, x, asm)  # 0xC0C0C0C0
    offset = dp4a(tl.full(x.shape, 0x01010101, tl.int32), x, asm)
    if joint:
        ones = tl.broadcast_to(offset, w.shape)
        whole, first, second, third, offset = tl.reduce((whole, first, second, third, ones), 1, five_sums)
    else:
        whole, first = tl.reduce(whole, 1, SUM), tl.reduce(first, 1, SUM)
        second, third = tl.reduce(second, 1, SUM), tl.reduce(third, 1, SUM)
        offset = tl.reduce(offset, 1, SUM)
    zeroth = whole - first - second - third - offset
    even = tl.join(zeroth, (second >> 4) - offset)
    odd = tl.join((first >> 2) - offset, (third >> 6) - offset)
    return tl.reshape(tl.join(even, odd), (4 * groups,))


@triton.jit
def put(
    value: T,
    area: tl.constexpr,
    place: T,
    memory: T,
    row: T,
    cols: T,
    live: T,
) -> T:
    """Write a tile to a state (STATE_AREA) or to one of the areas of values."""
    small, middle, large, sizes, states, slots, tokens, embed, words = memory
    value = value + cols * 0
    if area != STATE_AREA:
        place = tl.multiple_of(place, 16)
    if area == STATE_AREA:
        slot = tl.load(slots + row).to(tl.int64)
        tl.store(states + slot * sizes[3] + place + cols, value.to(tl.int16), mask=live)
    elif area == 8:
        tl.store(small + row.to(tl.int64) * sizes[0] + place + cols, value.to(tl.int8), mask=live)
    elif area == 16:
        tl.store(middle + row.to(tl.int64) * sizes[1] + place + cols, value.to(tl.int16), mask=live)
    else:
        tl.store(large + row.to(tl.int64) * sizes[2] + place + cols, value, mask=live)


@triton.jit(do_not_specialize=["first_row"])
def phase(
    small: T, small_words: T, middle: T, large: T, states: T, slots: T, tokens: T,
    embed: T, words: T, weights: T, numbers: T, first_row: T,
    whole: tl.constexpr, products: tl.constexpr, own: tl.constexpr, whole_stores: tl.constexpr,
    own_stores: tl.constexpr, counts: tl.constexpr, at: tl.constexpr, rows: tl.constexpr,
    groups: tl.constexpr, asm: tl.constexpr, overlap: tl.constexpr, sizes: tl.constexpr,
) -> None:  # fmt: skip
    """A phase for one row a program; program_id(1) takes ``groups`` groups of its matrices' rows.

    Weights are asked for before anything else. With ``overlap`` that happens while the kernel before this one
    still runs (programmatic dependent launch); everything that others write is read after waiting for it.
    """
    memory = (small, middle, large, sizes, states, slots, tokens, embed, words)
    row = first_row + tl.program_id(0)
    height: tl.constexpr = (rows + 3) // 4
    group = tl.program_id(1) * groups + tl.arange(0, groups)
    fetched = ()
    for i in tl.static_range(counts[1]):
        lane = tl.arange(0, products[i].block)
        start = tl.multiple_of(tl.load(numbers + at.products + 2 * i), 4)
        from_group = weights + start + group.to(tl.int64)[:, None] * products[i].words + lane[None, :]
        there = (group < height)[:, None] & (lane < products[i].words)[None, :]
        fetched = fetched + (tl.load(from_group, mask=there, other=0),)  # noqa: RUF005 - Triton has no unpacking
    if overlap:
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()

    values = ()
    for i in tl.static_range(counts[0]):
        cols, p = tl.arange(0, whole[i].block), numbers + at.whole + PARAMS * i
        result = micro(whole[i], values, p, memory, row, cols, cols < whole[i].length, True)
        values = values + (result,)  # noqa: RUF005
    for i in tl.static_range(counts[1]):
        lane = tl.arange(0, products[i].block)
        if products[i].x >= 0:
            packed = words_of(values[products[i].x], products[i].block)
            x = tl.where(lane < products[i].words, packed, 0)
        else:
            place = tl.load(numbers + at.products + 2 * i + 1)
            quads = tl.multiple_of(place // 4, 16)
            x = fetch(small_words, row, sizes[0] // 4, quads, lane, lane < products[i].words)
        values = values + (row_sums(fetched[i], x[None, :], groups, asm, asm),)  # noqa: RUF005
    number = tl.arange(0, 4 * groups)
    mine = (number % 4) * height + tl.program_id(1) * groups + number // 4
    live = (tl.program_id(1) * groups + number // 4 < height) & (mine < rows)
    for i in tl.static_range(counts[2]):
        result = micro(own[i], values, numbers + at.own + PARAMS * i, memory, row, mine, live, True)
        values = values + (result,)  # noqa: RUF005

    tl.debug_barrier()  # what a block reads of a state, it has read before it writes
    for i in tl.static_range(counts[3]):
        cols, place = tl.arange(0, whole_stores[i].block), tl.load(numbers + at.whole_stores + i)
        alone = cols < tl.where(tl.program_id(1) == 0, whole_stores[i].length, 0)
        put(values[whole_stores[i].value], whole_stores[i].area, place, memory, row, cols, alone)
    for i in tl.static_range(counts[4]):
        place = tl.load(numbers + at.own_stores + i)
        put(values[own_stores[i].value], own_stores[i].area, place, memory, row, mine, live)


@triton.jit(do_not_specialize=["first_row", "row_count"])
def product(
    small: T, middle: T, large: T, states: T, slots: T, tokens: T, embed: T,
    words: T, weights: T, numbers: T, first_row: T, row_count: T,
    group_words: tl.constexpr, own: tl.constexpr, stores: tl.constexpr,
    counts: tl.constexpr, at: tl.constexpr, rows: tl.constexpr, groups: tl.constexpr, batch: tl.constexpr,
    depth: tl.constexpr, asm: tl.constexpr, sizes: tl.constexpr,
) -> None:  # fmt: skip
    """One matrix times ``row_count`` rows of activations on int8 tensor cores, and the ops on the result.

    A block makes [4 * groups, batch] results: four products of [groups, depth] codes, one for each bit pair,
    with [depth, batch] activations. ``weights`` are bytes here.
    """
    memory = (small, middle, large, sizes, states, slots, tokens, embed, words)
    height: tl.constexpr = (rows + 3) // 4
    group = tl.program_id(1) * groups + tl.arange(0, groups)
    local = tl.program_id(0) * batch + tl.arange(0, batch)
    row = (first_row + tl.minimum(local, row_count - 1))[None, :]
    start = tl.multiple_of(tl.load(numbers + at.products) * 4, 16)
    place = tl.multiple_of(tl.load(numbers + at.products + 1), 16)
    inner = tl.arange(0, depth)
    w_at = weights + start + group.to(tl.int64)[:, None] * (4 * group_words) + inner[None, :]
    x_at = small + row.to(tl.int64) * sizes[0] + place + inner[:, None]
    inside = (group < height)[:, None]
    first = tl.full((groups, batch), 0, tl.int32)
    second, third, fourth = first, first, first
    total = tl.full((batch,), 0, tl.int32)
    for k in range(0, 4 * group_words, depth):  # beyond the last column trits are 0, whatever stands in x
        there = inner < 4 * group_words - k
        codes = tl.load(w_at + k, mask=inside & there[None, :], other=0)
        x = tl.load(x_at + k, mask=there[:, None], other=0)
        first = tl.dot(pair(codes, 0, asm), x, first, out_dtype=tl.int32)
        second = tl.dot(pair(codes, 1, asm), x, second, out_dtype=tl.int32)
        third = tl.dot(pair(codes, 2, asm), x, third, out_dtype=tl.int32)
        fourth = tl.dot(pair(codes, 3, asm), x, fourth, out_dtype=tl.int32)
        total += tl.reduce(x.to(tl.int32), 0, SUM)
    sums = (first - total[None, :], second - total[None, :], third - total[None, :], fourth - total[None, :])
    for j in tl.static_range(4):
        mine = (j * height + group)[:, None]
        live = inside & (mine < rows) & (local < row_count)[None, :]
        values = (sums[j],)
        for i in tl.static_range(counts[0]):
            p = numbers + at.own + PARAMS * i
            values = values + (micro(own[i], values, p, memory, row, mine, live, False),)  # noqa: RUF005
        for i in tl.static_range(counts[1]):
            place_of = tl.load(numbers + at.own_stores + i)
            put(values[stores[i].value], stores[i].area, place_of, memory, row, mine, live)


@triton.jit(do_not_specialize=["first_row", "steps", "batch"])
def scan(
    small: T, middle: T, large: T, states: T, slots: T, tokens: T, embed: T,
    words: T, numbers: T, first_row: T, steps: T, batch: T,
    own: tl.constexpr, stores: tl.constexpr, state_of: tl.constexpr, counts: tl.constexpr, at: tl.constexpr,
    rows: tl.constexpr, block: tl.constexpr, ahead: tl.constexpr, sizes: tl.constexpr,
) -> None:  # fmt: skip
    """Ops around one state for ``steps`` tokens of ``batch`` sessions; row t * batch + b is token t of b.

    The state stays in registers; what ``ahead`` tokens read from memory is asked for at once, so that no step
    waits for it alone. ``state_of``: (whether it is written, where numbers holds its first word).
    """
    memory = (small, middle, large, sizes, states, slots, tokens, embed, words)
    mine = tl.program_id(1) * block + tl.arange(0, block)
    live = mine < rows
    begin = first_row + tl.program_id(0)
    slot = tl.load(slots + begin).to(tl.int64)
    home = states + slot * sizes[3] + tl.load(numbers + state_of[1]) + mine
    carry = tl.load(home, mask=live, other=0).to(tl.int32)
    for first in range(0, steps, ahead):
        fetched = ()
        for u in tl.static_range(ahead):
            row = begin + tl.minimum(first + u, steps - 1) * batch
            for i in tl.static_range(counts[0]):
                if own[i].code <= FETCH1:  # FETCH, FETCH1
                    result = micro(own[i], (), numbers + at.own + PARAMS * i, memory, row, mine, live, True)
                    fetched = fetched + (result,)  # noqa: RUF005
                else:
                    fetched = fetched + (carry,)  # noqa: RUF005
        for u in tl.static_range(ahead):
            row = begin + tl.minimum(first + u, steps - 1) * batch
            values = ()
            for i in tl.static_range(counts[0]):
                if own[i].code <= FETCH1:
                    values = values + (fetched[u * counts[0] + i],)  # noqa: RUF005
                elif own[i].code == STATE:
                    values = values + (carry,)  # noqa: RUF005
                else:
                    p = numbers + at.own + PARAMS * i
                    result = micro(own[i], values, p, memory, row, mine, live, True)
                    values = values + (result,)  # noqa: RUF005
            for i in tl.static_range(counts[1]):
                if stores[i].area == STATE_AREA:
                    carry = tl.where(first + u < steps, values[stores[i].value] + carry * 0, carry)
                else:
                    there = mine < tl.where(first + u < steps, rows, 0)
                    place = tl.load(numbers + at.own_stores + i)
                    put(values[stores[i].value], stores[i].area, place, memory, row, mine, there)
    if state_of[0]:
        tl.store(home, carry.to(tl.int16), mask=live)


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

    ``settings``: m, s, top_k. ``chosen`` [rows, room] gets the token at ``at[row]``, which is then increased.
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
