"""The kernel of each op kind in Triton, chosen when a kernel of phases is compiled.

Written from docs/numerics.md. A value is an int32 tile. ``flat``: tiles are [elements] of one row, and a
value of one element is a tile that repeats it or begins with it; otherwise tiles are [elements, rows], and it
repeats along elements. ``cols`` are element numbers, ``row`` row numbers, both of a shape that broadcasts to
the tile.
"""

from __future__ import annotations

import triton
import triton.language as tl
from triton.language import tensor as T

from ternac.host.gpu.lower import CODE
from ternac.program.ops import KINDS as DECLARED

SUM, HIGHEST = tl.standard._sum_combine, tl.standard._elementwise_max
"""Named, so that a reduction is a primitive: Triton's own `sum` is a kernel, which the interpreter cannot
call once Triton was imported for a GPU."""

FETCH, FETCH1, STATE = (tl.constexpr(CODE[name]) for name in ("FETCH", "FETCH1", "STATE"))
GATHER, GATHER16 = tl.constexpr(CODE["GATHER"]), tl.constexpr(CODE["GATHER16"])
MOVE, NORM, RMSNORM, PEAK = (tl.constexpr(CODE[name]) for name in ("MOVE", "NORM", "RMSNORM", "PEAK"))
REQUANT, REQUANTM, TABLE = (tl.constexpr(CODE[name]) for name in ("REQUANT", "REQUANTM", "TABLE"))
MUL, MUL16, ADD, SCALE = (tl.constexpr(CODE[name]) for name in ("MUL", "MUL16", "ADD", "SCALE"))
LERP, BLEND, INTERP = (tl.constexpr(CODE[name]) for name in ("LERP", "BLEND", "INTERP"))
QUANT, RESCALE = tl.constexpr(CODE["QUANT"]), tl.constexpr(CODE["RESCALE"])
SUB, TOKEN, WINNERS, MASK = (tl.constexpr(CODE[name]) for name in ("SUB", "TOKEN", "WINNERS", "MASK"))
MEM_READ, MEM_UPDATE = tl.constexpr(CODE["MEM_READ"]), tl.constexpr(CODE["MEM_UPDATE"])
KINDS = (*(kind for kind in DECLARED if kind in globals()), "TMATVEC", "LOAD", "STORE")
"""Op kinds with a kernel: those that have a code here, and those that a kernel of phases runs itself."""


@triton.jit
def half_of(shift: T) -> T:
    """The half that rshift_round adds, int64; ``shift`` int64."""
    return (tl.full((), 1, tl.int64) << shift) >> 1


@triton.jit
def narrow_round(x: T, shift: T) -> T:
    """rshift_round of int32 below 2**30."""
    return (x + half_of(shift).to(tl.int32)) >> shift.to(tl.int32)


@triton.jit
def wide_round(x: T, shift: T) -> T:
    """rshift_round of int64."""
    return (x + half_of(shift)) >> shift


@triton.jit
def saturated(x: T, sat: tl.constexpr) -> T:
    """Clamp to 8 or 16 bits, as int32."""
    if sat == 8:
        return tl.minimum(tl.maximum(x, -128), 127).to(tl.int32)
    else:
        return tl.minimum(tl.maximum(x, -32768), 32767).to(tl.int32)


@triton.jit
def one_of(x: T, flat: tl.constexpr) -> T:
    """A value of one element as int64, of a shape that broadcasts."""
    if flat:
        return tl.reduce(tl.where(tl.arange(0, 16) == 0, x, 0), 0, SUM).to(tl.int64)
    else:
        return x.to(tl.int64)


@triton.jit
def norm_apply(x: T, live: T, pre: T, post: T, table: T) -> T:
    """NORM of a flat tile."""
    q = tl.where(live, saturated(narrow_round(x, pre), 8), 0)
    ss = tl.reduce(q * q, 0, SUM)
    exponent = ss * 0
    for e in tl.static_range(1, 16):
        exponent += (ss >= (1 << (2 * e))).to(tl.int32)
    index = (ss.to(tl.int64) << 6) >> (2 * exponent)
    mantissa = tl.load(table + tl.where(ss > 0, index, 0)).to(tl.int32)
    return saturated(narrow_round(x * mantissa, post + exponent), 8)


@triton.jit
def rms_apply(x: T, live: T, eps: T, shift: T) -> T:
    """RMSNORM of a flat tile: the root is taken in float64 and corrected in integers."""
    wide = tl.where(live, x, 0).to(tl.int64)
    ss = tl.reduce(wide * wide, 0, SUM) + eps
    square = ss << 16
    root = tl.sqrt(square.to(tl.float64)).to(tl.int64)
    rest = square - root * root
    root -= (rest < 0).to(tl.int64)
    rest = square - root * root
    root += (rest > 2 * root).to(tl.int64)
    inverse = tl.where(root > 0, (tl.full((), 1, tl.int64) << 47) // tl.maximum(root, 1), 0)
    return saturated(wide_round(wide * inverse, shift), 16)


@triton.jit
def fetch(memory: T, row: T, stride: T, place: T, cols: T, live: T) -> T:
    """Elements of a value in memory."""
    at = memory + row.to(tl.int64) * stride + tl.multiple_of(place, 16) + cols
    return tl.load(at, mask=live, other=0).to(tl.int32)


@triton.jit
def source(
    op: tl.constexpr,
    p: T,
    memory: T,
    row: T,
    cols: T,
    live: T,
) -> T:
    """FETCH, FETCH1, STATE, GATHER, GATHER16, TOKEN. ``memory``: as `put` in kernels."""
    code: tl.constexpr = op.code
    bits: tl.constexpr = op.bits
    small, middle, large, sizes, states, slots, tokens, embed, words = memory
    if code == FETCH1:
        at, there = cols * 0, live | (cols >= 0)
    else:
        at, there = cols, live
    if code == STATE:
        slot = tl.load(slots + row).to(tl.int64)
        return tl.load(states + slot * sizes[3] + tl.load(p) + at, mask=there, other=0).to(tl.int32)
    elif code == GATHER:
        token = tl.load(tokens + row).to(tl.int64)
        from_row = embed + tl.load(p) + token * op.length
        return tl.load(from_row + at, mask=there, other=0).to(tl.int32) << (8 - tl.load(p + 1)).to(tl.int32)
    elif code == GATHER16:
        token = tl.load(tokens + row).to(tl.int64)
        from_row = words + tl.load(p) + token * op.length
        return tl.load(from_row + at, mask=there, other=0).to(tl.int32)
    elif code == TOKEN:
        token = tl.load(tokens + row).to(tl.int32)
        return tl.where(at == 0, token >> 8, token & 255)
    elif bits == 8:
        return fetch(small, row, sizes[0], tl.load(p), at, there)
    elif bits == 16:
        return fetch(middle, row, sizes[1], tl.load(p), at, there)
    else:
        return fetch(large, row, sizes[2], tl.load(p), at, there)


@triton.jit
def element(bits: tl.constexpr, memory: T, row: T, place: T, at: T, live: T) -> T:
    """Elements ``at`` of an i8 or i16 vector that lies in memory, as int32."""
    if bits == 8:
        return tl.load(memory[0] + row.to(tl.int64) * memory[3][0] + place + at, mask=live, other=0).to(
            tl.int32
        )
    else:
        return tl.load(memory[1] + row.to(tl.int64) * memory[3][1] + place + at, mask=live, other=0).to(
            tl.int32
        )


@triton.jit
def row_of(op: tl.constexpr, p: T, memory: T, row: T, head: T, shared: T) -> T:
    """The row, int64, that the digits of ``head`` stand for."""
    bits = tl.load(p + 3)
    low = (tl.full((), 1, tl.int64) << bits) - 1
    at = element(op.bits, memory, row, tl.load(p), head, head >= 0).to(tl.int64) & low
    region = bits
    if op.second != 0:
        second = element(op.second, memory, row, tl.load(p + 1), head, head >= 0).to(tl.int64) & low
        at = (at << bits) | second
        region = 2 * bits
    return at + tl.where(shared != 0, 0, head.to(tl.int64) << region)


@triton.jit
def home_of(op: tl.constexpr, p: T, memory: T, row: T) -> T:
    """Pointer to the first element of the rows."""
    start = tl.load(p + 2)
    if op.rows == 0:
        return memory[7] + start
    else:
        words = memory[4] + tl.load(memory[5] + row).to(tl.int64) * memory[3][3] + start
        if op.rows == 8:
            return words.to(tl.pointer_type(tl.int8), bitcast=True)
        else:
            return words


@triton.jit
def gather(op: tl.constexpr, values: T, p: T, memory: T, row: T, cols: T, live: T) -> T:
    """WINNERS, MASK, MEM_READ, MEM_UPDATE on flat tiles."""
    found = cols * 0
    if op.code == WINNERS:
        best = found - 32769
        for at in range(op.span):
            x = element(op.bits, memory, row, tl.load(p), cols * op.span + at, live)
            found = tl.where(x > best, at, found)
            best = tl.maximum(best, x)
        return found
    elif op.code == MASK:
        x = element(8, memory, row, tl.load(p), cols, live)
        w = element(16, memory, row, tl.load(p + 1), cols // op.span, live)
        return tl.where(cols % op.span == (w % op.span + op.span) % op.span, x, 0)
    elif op.code == MEM_READ:
        home, shared = home_of(op, p, memory, row), tl.load(p + 4)
        for head in range(op.span):
            at = row_of(op, p, memory, row, head + tl.load(p) * 0, shared)
            found += tl.load(home + at * op.length + cols, mask=live, other=0).to(tl.int32)
        return found
    else:
        tl.static_assert(op.code == MEM_UPDATE)
        home, keep = home_of(op, p, memory, row), tl.load(p + 4)
        e = values[op.a]
        for head in range(op.span):
            at = row_of(op, p, memory, row, head + tl.load(p) * 0, keep * 0)
            here = home + at * op.length + cols
            old = tl.load(here, mask=live, other=0).to(tl.int32)
            new = saturated(old - tl.where(keep > 0, narrow_round(old, keep), 0) - e, op.rows)
            tl.store(here, new.to(here.dtype.element_ty), mask=live)
        return e


@triton.jit
def micro(
    op: tl.constexpr,
    values: T,
    p: T,
    memory: T,
    row: T,
    cols: T,
    live: T,
    flat: tl.constexpr,
) -> T:
    """The result of a micro-op; ``p`` points to its numbers."""
    code: tl.constexpr = op.code
    sat: tl.constexpr = op.bits
    words = memory[8]
    if code <= STATE or code == GATHER or code == GATHER16 or code == TOKEN:  # noqa: SIM109
        return source(op, p, memory, row, cols, live)
    elif code == WINNERS or code == MASK or code == MEM_READ or code == MEM_UPDATE:  # noqa: SIM109
        return gather(op, values, p, memory, row, cols, live)
    elif code == MOVE:
        return values[op.a]
    elif code == NORM:
        return norm_apply(values[op.a], live, tl.load(p), tl.load(p + 1), words + tl.load(p + 2))
    elif code == RMSNORM:
        return rms_apply(values[op.a], live, tl.load(p), tl.load(p + 1))
    elif code == PEAK:
        highest = tl.reduce(tl.where(live, tl.abs(values[op.a]), 0), 0, HIGHEST)
        return tl.minimum(highest, 32767) + tl.arange(0, 16) * 0
    elif code == REQUANT:
        return saturated(narrow_round(values[op.a], tl.load(p)), sat)
    elif code == REQUANTM:
        return saturated(wide_round(values[op.a].to(tl.int64) * tl.load(p + 1), tl.load(p)), sat)
    elif code == TABLE:
        return tl.load(words + tl.load(p) + values[op.a] + 128, mask=live, other=0).to(tl.int32)
    elif code == INTERP:
        place = values[op.a] + 32768
        low = tl.load(words + tl.load(p) + (place >> 6), mask=live, other=0).to(tl.int32)
        high = tl.load(words + tl.load(p) + (place >> 6) + 1, mask=live, other=0).to(tl.int32)
        return low + (((high - low) * (place & 63) + 32) >> 6)
    elif code == MUL:
        return saturated(narrow_round(values[op.a] * values[op.b], tl.load(p)), sat)
    elif code == MUL16:
        return saturated(wide_round(values[op.a].to(tl.int64) * values[op.b], tl.load(p)), sat)
    elif code == ADD:
        return saturated(values[op.a] + values[op.b], sat)
    elif code == SUB:
        return saturated(values[op.a] - values[op.b], sat)
    elif code == SCALE:
        gain = tl.load(words + tl.load(p) + cols, mask=live, other=0).to(tl.int64)
        return saturated(wide_round(values[op.a] * gain, tl.load(p + 1)), 16)
    elif code == LERP:
        h, c, f = values[op.a], values[op.b], values[op.c]
        return c + ((f * (h - c) + 128) >> 8)
    elif code == BLEND:
        h, c, e = values[op.a], values[op.b], values[op.c]
        return h + ((e.to(tl.int64) * (c - h) + (1 << 14)) >> 15).to(tl.int32)
    elif code == QUANT:
        m = one_of(values[op.b], flat)
        inverse = tl.where(m > 0, (127 << 24) // tl.maximum(m, 1), 0)
        return saturated((values[op.a] * inverse + (1 << 23)) >> 24, 8)
    else:
        tl.static_assert(code == RESCALE)
        m = one_of(values[op.b], flat) * tl.load(p)
        return saturated(wide_round(values[op.a] * m, tl.load(p + 1)), sat)
