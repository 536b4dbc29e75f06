"""Op kinds of memories and of loops: rows that a session reads and changes, found by winners, not by search.

An address is one or two vectors of H *digits*, of which only the low ``bits`` bits count, so that every
vector is a legal address: there is nothing to check at run time.  Head k owns the rows ``k * R`` to
``(k + 1) * R - 1``, R = ``2**bits`` (``2**(2 * bits)`` with two digits), so no two addresses of one op are
ever the same row, and neither order nor duplicates can matter; only constant rows may be ``shared`` by all
heads.

The conventions are those of :mod:`ternac.program.numerics`.  Rows are arrays [..., N, D] whose leading axes
are those of the digits, or [N, D] for rows that all have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.program import numerics as nu
from ternac.program.import_ops import NARROW
from ternac.program.numerics import IntArray
from ternac.program.op_kind import (
    RANGES,
    Dtype,
    Input,
    Integer,
    Memory,
    Op,
    OpKind,
    Refused,
    Role,
    Rows,
    Scope,
    Value,
)

MAX_BITS = 10
MAX_KEEP = 15
MAX_RUNS = 255
MAX_GROUPS = 256
GROUP = (2, 1024)
"""Least and largest size of a group."""
MAX_ROWS = 1 << 24
MAX_INDEX = 65534

# ---- the arithmetic -----------------------------------------------------------------------------------


def winners(x: Any, groups: int) -> IntArray:
    """WINNERS: in each of ``groups`` equal parts of x the position of the largest element, lowest on ties."""
    x = np.asarray(x)
    return x.reshape(*x.shape[:-1], groups, -1).argmax(-1).astype(np.int32)  # NumPy takes the first


def mask(x: Any, w: Any) -> IntArray:
    """MASK: x where ``w % G`` is its position within its group of G, 0 elsewhere; a group for each of w."""
    x, w = np.asarray(x, np.int32), np.asarray(w)
    groups = x.reshape(*x.shape[:-1], w.shape[-1], -1)
    size = groups.shape[-1]
    kept = np.where(np.arange(size) == (w % size)[..., None], groups, 0)
    out: IntArray = kept.reshape(x.shape)
    return out


def sub(a: Any, b: Any, dtype: str | None) -> IntArray:
    """SUB: ``sat(a - b)``."""
    out: IntArray = nu.saturate(np.asarray(a, np.int32) - np.asarray(b, np.int32), dtype)
    return out


def token_digits(tokens: Any) -> IntArray:
    """TOKEN: ``[token >> 8, token & 255]``."""
    tokens = np.asarray(tokens)
    return np.stack((tokens >> 8, tokens & 255), -1).astype(np.int32)


def row_numbers(a: Any, b: Any, bits: int, shared: int = 0) -> npt.NDArray[np.intp]:
    """Rows [..., H] that the digits ``a``, with ``b`` behind them if that is not None, stand for."""
    low, size = (1 << bits) - 1, 1 << bits
    rows = np.asarray(a).astype(np.intp) & low
    if b is not None:
        rows = rows << bits | np.asarray(b).astype(np.intp) & low
        size <<= bits
    return rows if shared else rows + np.arange(rows.shape[-1]) * size


def mem_read(a: Any, b: Any, rows: Any, bits: int, shared: int) -> IntArray:
    """MEM_READ: the sum of the addressed rows, [..., D]."""
    at = _places(rows, row_numbers(a, b, bits, shared))
    out: IntArray = rows[at].sum(axis=-2, dtype=np.int32)
    return out


def mem_update(a: Any, b: Any, e: Any, memory: Any, bits: int, keep: int) -> None:
    """MEM_UPDATE: ``row = sat(row - rshift_round(row, keep) - e)`` for every addressed row, in place.

    With ``keep`` 0 nothing but ``e`` is taken away.
    """
    at = _places(memory, row_numbers(a, b, bits))
    memory[at] = nu.saturate(_updated(memory[at], e, keep), "i8" if memory.itemsize == 1 else "i16")


def updated(a: Any, b: Any, e: Any, memory: Any, bits: int, keep: int) -> IntArray:
    """The addressed rows [..., H, D] as MEM_UPDATE makes them, before they saturate."""
    return _updated(memory[_places(memory, row_numbers(a, b, bits))], e, keep)


def _updated(old: Any, e: Any, keep: int) -> IntArray:
    old = old.astype(np.int32)
    out: IntArray = old - (nu.rshift_round(old, keep) if keep else 0) - np.asarray(e, np.int32)[..., None, :]
    return out


def _places(rows: Any, numbers: npt.NDArray[np.intp]) -> tuple[Any, ...]:
    """Index into ``rows`` [..., N, D] for rows ``numbers`` [..., H] of each leading place."""
    return *(axis[..., None] for axis in np.indices(rows.shape[:-2], sparse=True)), numbers


# ---- rules --------------------------------------------------------------------------------------------


def _group_size(length: int, groups: int) -> int:
    """Elements of each of ``groups`` parts of a vector; raises Refused unless that is a legal group."""
    if not 1 <= groups <= MAX_GROUPS:
        raise Refused(f"{groups} groups, needs 1..{MAX_GROUPS}")
    low, high = GROUP
    if length % groups or not low <= length // groups <= high:
        raise Refused(f"{length} elements in {groups} groups, needs groups of {low}..{high} elements each")
    return length // groups


def _winners(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    groups = op.integer("groups")
    return Value("i16", groups, 0, _group_size(ins[0].length, groups) - 1)


def _mask(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    x, w = ins
    _group_size(x.length, w.length)
    return Value("i8", x.length, min(0, x.low), max(0, x.high))


def _token(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    last = scope.vocab - 1
    return Value("i16", 2, 0, max(last >> 8, min(last, 255)))


def _check_rows(op: Op, digits: Sequence[Value], rows: int, name: str, shared: int) -> int:
    """Return the rows of a region; raises Refused unless the regions of all heads are exactly ``rows``."""
    heads = digits[0].length
    if len(digits) == 2 and digits[1].length != heads:
        raise Refused(f"digits of unequal length: {op.ins[0]}[{heads}], {op.ins[1]}[{digits[1].length}]")
    region = 1 << op.integer("bits") * len(digits)
    needed = region if shared else heads * region
    if rows != needed:
        how = f"one region of {region}" if shared else f"{heads} heads of {region}"
        raise Refused(f"{name} has {rows} rows, the address reaches {needed}: {how}")
    return region


def _mem_read(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    name, shared, heads = op.text("rows"), op.integer("shared"), ins[0].length
    memory = scope.memories.get(name)
    if memory is not None:
        if shared:
            raise Refused(f"{name} is a memory: each head has rows of its own, shared must be 0")
        _check_rows(op, ins, memory.rows, name, shared)
        low, high = (heads * end for end in RANGES[memory.dtype])
        width = memory.width
    else:
        array = scope.consts[name]
        region = _check_rows(op, ins, array.shape[0], name, shared)
        regions = array.reshape(-1, region * array.shape[1])
        low, high = int(regions.min(1).astype(np.int64).sum()), int(regions.max(1).astype(np.int64).sum())
        if shared:
            low, high = heads * low, heads * high
        width = array.shape[1]
    least, most = RANGES["acc"]
    if low < least or high > most:
        raise Refused(f"the sum of {heads} rows of {name} can be {low}..{high}, needs {least}..{most}")
    return Value("acc", width, low, high)


def _mem_update(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    name, (*digits, e) = op.text("memory"), ins
    memory: Memory = scope.memories[name]
    _check_rows(op, digits, memory.rows, name, 0)
    if e.length != memory.width:
        raise Refused(f"{name} has rows of {memory.width} elements, {op.ins[-1]} has {e.length}")
    return e


# ---- declarations -------------------------------------------------------------------------------------

ROWS = Role("rows", np.int8, (None, None), most=MAX_ROWS)

_A = Input("a", NARROW, whole=True, own_length=True)
_B = Input("b", NARROW, whole=True, own_length=True, optional=True)

MEMORY_OPS = (
    OpKind(
        "WINNERS",
        "In each of `groups` equal parts of `x` the position of the largest element, the lowest of equals.",
        inputs=(Input("x", NARROW, whole=True),),
        attrs={"groups": Integer(1, MAX_GROUPS)},
        result="i16[g]",
        numpy=winners,
        rule=_winners,
    ),
    OpKind(
        "MASK",
        "`x` at the winners `w` of its groups, 0 elsewhere.",
        inputs=(
            Input("x", ("i8",), whole=True, own_length=True),
            Input("w", ("i16",), whole=True, own_length=True),
        ),
        result="i8[n]",
        numpy=mask,
        rule=_mask,
    ),
    OpKind(
        "SUB",
        "Difference of two vectors.",
        inputs=(Input("a", NARROW), Input("b", NARROW)),
        attrs={"dtype": Dtype()},
        result="dtype[n]",
        numpy=sub,
        saturates=True,
    ),
    OpKind(
        "MEM_READ",
        "Sum of the rows at the address `a` (, `b`): one of each head.",
        inputs=(_A, _B),
        attrs={"rows": Rows(ROWS), "bits": Integer(1, MAX_BITS), "shared": Integer(0, 1)},
        result="acc[D]",
        numpy=mem_read,
        rule=_mem_read,
    ),
    OpKind(
        "MEM_UPDATE",
        "Subtracts `e`, and with `keep` the part 2^-`keep` of the row, from every row at the address.",
        inputs=(_A, _B, Input("e", NARROW, own_length=True)),
        attrs={"memory": Rows(writes=True), "bits": Integer(1, MAX_BITS), "keep": Integer(0, MAX_KEEP)},
        result="",
        numpy=mem_update,
        rule=_mem_update,
    ),
    OpKind(
        "TOKEN",
        "The token's number as two digits, token >> 8 and token & 255.",
        result="i16[2]",
        numpy=token_digits,
        rule=_token,
        reads_token=True,
    ),
    OpKind(
        "LOOP",
        "Runs the `length` ops from op `first` on, which stand right before it, `times` times.",
        attrs={
            "first": Integer(0, MAX_INDEX),
            "length": Integer(1, MAX_INDEX),
            "times": Integer(1, MAX_RUNS),
            "most": Integer(1, MAX_RUNS),
            "levels": Integer(0, 1),
        },
        result="",
        structure=True,
    ),
)
