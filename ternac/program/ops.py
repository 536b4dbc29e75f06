"""Op kinds: each is declared once, here or in one of the modules named below, and found in ``KINDS``.

:mod:`ternac.program.import_ops` declares those of imported models, :mod:`ternac.program.memory_ops` those of
memories and of loops.

From a declaration follow what a program may contain (:mod:`ternac.program.legality`), what the NumPy
executors compute, what `ternac profile` counts as saturated, the numbers of kinds and attributes on the C
side and on the GPU, and the table of ``docs/program.md``.  Every other executor adds one kernel; the page
says where.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UnsupportedOp
from ternac.program import numerics as nu
from ternac.program.import_ops import IMPORT_OPS, NARROW
from ternac.program.memory_ops import MEMORY_OPS
from ternac.program.numerics import MAX_SHIFT, max_norm_exponent
from ternac.program.op_kind import (
    BYTES,
    MAX_NAME,
    RANGES,
    Attribute,
    Constant,
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
    State,
    Value,
    between_two,
    check_name,
    embedding_row,
    entry_of,
)

__all__ = [
    "BYTES", "IMPORT_KINDS", "KINDS", "MAX_NAME", "MEMORY_KINDS", "RANGES",
    "Constant", "Dtype", "Input", "Integer", "Memory", "Op", "OpKind", "Refused", "Role", "Rows", "Scope",
    "State", "Value", "check_name", "memory_of", "memory_written", "op_function", "op_table",
    "refuse_unknown", "roles_of", "state_read", "state_written",
]  # fmt: skip

MAX_MULTIPLIER = (1 << 31) - 1

# ---- declarations -------------------------------------------------------------------------------------

EMBED = Role("embed", np.int8, (None, None))
NORM_TABLE = Role("norm", np.uint8, (256,), "a table has 256 entries", widened=np.int32)
TRITS = Role("trits", np.int8, (None, None), "a weight is not in -1, 0, 1", low=-1, high=1)
TABLE = Role("table", np.int16, (256,), "a table has 256 entries", widened=np.int32)


def _norm(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    if op.integer("post") + max_norm_exponent(ins[0].length) > MAX_SHIFT:
        raise Refused(f"post + E can exceed {MAX_SHIFT} with {ins[0].length} elements")
    return Value.full("i8", ins[0].length)


def _tmatvec(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    weights, (x,) = scope.consts[op.text("weights")], ins
    if weights.shape[1] != x.length:
        raise Refused(f"matrix {op.text('weights')} has {weights.shape[1]} columns, input has {x.length}")
    return Value("acc", weights.shape[0], -128 * x.length, 128 * x.length)


def _store(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    if op.out not in scope.states:
        raise Refused("there is no such state")
    if scope.states[op.out] != ins[0].length:
        words = f"{scope.states[op.out]} words, value {op.ins[0]} has {ins[0].length}"
        raise Refused(f"state has {words}")
    return ins[0]


TRAINED_OPS = (
    OpKind(
        "GATHER",
        "The token's row of the embedding, times 2^(8 - `shift`).",
        attrs={"embed": Constant(EMBED), "shift": Integer(0, 8)},
        result="i16[d]",
        numpy=lambda tokens, embed, shift: nu.gather(embed[tokens], shift),
        rule=embedding_row,
        reads_token=True,
    ),
    OpKind(
        "NORM",
        "Root-mean-square normalization with one mantissa and one exponent a vector.",
        inputs=(Input("x", ("i16",), whole=True),),
        attrs={"pre": Integer(0, 15), "post": Integer(0, MAX_SHIFT), "table": Constant(NORM_TABLE)},
        result="i8[n]",
        numpy=nu.norm,
        rule=_norm,
        saturates=True,
    ),
    OpKind(
        "TMATVEC",
        "Product of a ternary matrix and a vector.",
        inputs=(Input("x", ("i8",), whole=True),),
        attrs={"weights": Constant(TRITS)},
        result="acc[m]",
        numpy=lambda x, weights: nu.tmatvec(weights, x),
        rule=_tmatvec,
    ),
    OpKind(
        "REQUANT",
        "To fewer bits: times `multiplier`, shifted right by `shift` with rounding.",
        inputs=(Input("x", ("acc", "i16")),),
        attrs={
            "shift": Integer(0, MAX_SHIFT),
            "dtype": Dtype(),
            "multiplier": Integer(1, MAX_MULTIPLIER, default=1),
        },
        result="dtype[n]",
        numpy=nu.requant,
        saturates=True,
    ),
    OpKind(
        "TABLE",
        "Any function of an 8-bit code.",
        inputs=(Input("x", ("i8",)),),
        attrs={"table": Constant(TABLE)},
        numpy=nu.table,
        rule=entry_of("table"),
    ),
    OpKind(
        "MUL",
        "Product of two vectors, the second factor provably within -256..255.",
        inputs=(Input("a", NARROW), Input("b", NARROW, within=(-256, 255), what="second factor")),
        attrs={"shift": Integer(0, MAX_SHIFT), "dtype": Dtype()},
        result="dtype[n]",
        numpy=nu.mul,
        saturates=True,
    ),
    OpKind(
        "ADD",
        "Sum of two vectors.",
        inputs=(Input("a", NARROW), Input("b", NARROW)),
        attrs={"dtype": Dtype()},
        result="dtype[n]",
        numpy=nu.add,
        saturates=True,
    ),
    OpKind(
        "LERP",
        "The recurrence: from `c` towards `h` by `f` / 256.",
        inputs=(
            Input("h", ("i16",)),
            Input("c", ("i16",)),
            Input("f", ("i16",), within=(0, 255), what="weight"),
        ),
        numpy=nu.lerp,
        rule=between_two,
    ),
    OpKind("LOAD", "The session's state as it is at this point of the token.", state="in"),
    OpKind(
        "STORE",
        "Replaces the session's state at this point of the token.",
        inputs=(Input("x", ("i16",)),),
        result="",
        rule=_store,
        state="out",
    ),
)

KINDS: dict[str, OpKind] = {kind.name: kind for kind in (*TRAINED_OPS, *IMPORT_OPS, *MEMORY_OPS)}
"""Every op kind by its name."""
IMPORT_KINDS = tuple(kind.name for kind in IMPORT_OPS)
"""Kinds of models trained elsewhere; no engine has them."""
MEMORY_KINDS = tuple(kind.name for kind in MEMORY_OPS)
"""Kinds of memories and loops; a program that uses one has version 2 of the file."""

# ---- what follows from them ---------------------------------------------------------------------------


def state_read(op: Op) -> str | None:
    """Name of the state that ``op`` reads, or None."""
    kind = KINDS[op.kind]
    return op.ins[0] if kind.state == "in" else next((op.text(name) for name in kind.states), None)


def state_written(op: Op) -> str | None:
    """Name of the state that ``op`` replaces or changes, or None."""
    kind = KINDS[op.kind]
    if kind.state == "out":
        return op.out
    return next((op.text(name) for name, attr in kind.states.items() if attr.writes), None)


def memory_of(op: Op) -> str | None:
    """Name of the rows that ``op`` reads or changes, a memory or a constant; None for an op without."""
    return next((op.text(name) for name in KINDS[op.kind].memories), None)


def memory_written(op: Op) -> str | None:
    """Name of the memory that ``op`` changes, or None."""
    return next((op.text(name) for name, attr in KINDS[op.kind].memories.items() if attr.writes), None)


def roles_of(ops: Iterable[Op], consts: Collection[str]) -> dict[str, Role]:
    """Name of each of ``consts`` that an op uses to its role, from the first such op."""
    found: dict[str, Role] = {}
    for op in ops:
        kind = KINDS.get(op.kind)
        for attr, role in kind.constants.items() if kind else ():
            name = op.attrs.get(attr)
            if isinstance(name, str) and name in consts:
                found.setdefault(name, role)
    return found


def op_function(op: Op, consts: Mapping[str, npt.NDArray[Any]], saturated: bool = True) -> Callable[..., Any]:
    """The NumPy meaning of ``op`` as a function of its input vectors (or of the token ids that it reads).

    States and memories that attributes name are left to the caller, by the names of the attributes.
    ``saturated`` False: of a kind that saturates, the result before that.
    """
    kind = KINDS[op.kind]
    assert kind.numpy is not None, f"{op.kind} moves a state or runs others: the executor does it"
    attrs: dict[str, Any] = {name: attr.default for name, attr in kind.integers.items()} | dict(op.attrs)
    for name in (*kind.states, *kind.memories):
        del attrs[name]
    for name, role in kind.constants.items():
        if op.text(name) in consts:
            array = consts[op.text(name)]
            attrs[name] = array if role.widened is None else array.astype(role.widened)
    if kind.saturates:
        attrs["dtype"] = kind.dtype_of(op) if saturated else None
    function, given = partial(kind.numpy, **attrs), kind.inputs_of(op)
    if len(given) == len(kind.inputs):
        return function
    places = [given.index(one) if one in given else None for one in kind.inputs]
    return lambda *ins, **views: function(*(None if at is None else ins[at] for at in places), **views)


def refuse_unknown(ops: Iterable[Op], known: Iterable[str], executor: str) -> None:
    """Raise UnsupportedOp, naming op and kernel, if an op is of a kind that is not in ``known``."""
    have = set(known)
    for index, op in enumerate(ops):
        if op.kind not in have:
            raise UnsupportedOp(
                f"op {index} ({op.kind} {op.out}): {executor} has no kernel for {op.kind}",
                "run this program on the NumPy executor",
            )


def op_table() -> str:
    """The table of kinds in ``docs/program.md``."""
    lines = ["| kind | ins | attributes | result | what it does |", "|---|---|---|---|---|"]
    for kind in KINDS.values():
        ins = ", ".join(map(_described_input, kind.inputs))
        attrs = ", ".join(_described(name, attr) for name, attr in kind.attrs.items())
        ins = ins or ("state" if kind.state == "in" else "old, new, .." if kind.structure else "-")
        cells = (kind.name, ins, attrs or "-", kind.result or "-", kind.prose)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _described_input(one: Input) -> str:
    """An input as the page shows it."""
    shown = f"{one.name} {' or '.join(one.dtypes)}{'[1]' if one.scalar else ''}"
    return f"({shown})" if one.optional else shown


def _described(name: str, attr: Attribute) -> str:
    """An attribute as the page shows it."""
    if isinstance(attr, Constant | State | Rows):
        return f"`{name}`"
    if isinstance(attr, Dtype):
        return f"`{name}` i8 or i16"
    power = attr.high.bit_length()
    high = f"2^{power}-1" if attr.high == (1 << power) - 1 and power > 16 else str(attr.high)
    return f"`{name}` {attr.low}..{high}" + ("" if attr.default is None else f" (default {attr.default})")
