"""Ops: what an op is, and one rule per kind: its attributes, what it accepts, the type of what it makes.

Used by :mod:`ternac.program.legality`, which adds where in the program a refusal happened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.program import wide
from ternac.program.numerics import (
    I8_MAX,
    I8_MIN,
    I16_MAX,
    I16_MIN,
    MAX_DIM,
    MAX_SHIFT,
    max_norm_exponent,
    rshift_round,
    sat16,
)

NARROW_KINDS = ("GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE")
WIDE_KINDS = ("GATHER16", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND")
"""For models trained elsewhere; no engine has them."""
KINDS = NARROW_KINDS + WIDE_KINDS
RESERVED_KINDS = ("TOPK", "LOOP", "MEM_GATHER", "MEM_READ", "MEM_UPDATE", "SELECT", "REDUCE")

ROLE_OF_ATTR = {  # (op kind, attribute) -> what the named constant is
    ("GATHER", "embed"): "embed",
    ("NORM", "table"): "norm",
    ("TMATVEC", "weights"): "trits",
    ("TABLE", "table"): "table",
    ("GATHER16", "embed"): "embed16",
    ("SCALE", "gain"): "gain",
    ("INTERP", "curve"): "curve",
}
ROLE_DTYPE: dict[str, npt.DTypeLike] = {
    "embed": np.int8, "norm": np.uint8, "trits": np.int8, "table": np.int16,
    "embed16": np.int16, "gain": np.int16, "curve": np.int16,
}  # fmt: skip


@dataclass(frozen=True)
class Op:
    """One operation.

    ``out`` is the value that it defines (for STORE: the state that it replaces), ``ins`` the values that it
    reads (for LOAD: the state), ``attrs`` its integers and the names of its constants.
    """

    kind: str
    out: str
    ins: tuple[str, ...] = ()
    attrs: Mapping[str, int | str] = field(default_factory=dict)

    def integer(self, name: str, default: int | None = None) -> int:
        """Integer attribute ``name``; ``KeyError`` if it is absent without a default, or is text."""
        value = self.attrs[name] if default is None else self.attrs.get(name, default)
        if not isinstance(value, int):
            raise KeyError(name)
        return value

    def text(self, name: str) -> str:
        """String attribute ``name``; ``KeyError`` if it is absent or an integer."""
        value = self.attrs[name]
        if not isinstance(value, str):
            raise KeyError(name)
        return value


MAX_NAME = 96
MAX_MULTIPLIER = (1 << 31) - 1
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", re.ASCII)
RANGES = {"i8": (I8_MIN, I8_MAX), "i16": (I16_MIN, I16_MAX), "acc": (-MAX_DIM * 128, MAX_DIM * 128)}


@dataclass(frozen=True)
class Value:
    """Type of a vector: dtype "i8" | "i16" | "acc", length, and bounds that its elements provably keep."""

    dtype: str
    length: int
    low: int
    high: int


class Scope(Protocol):
    """What a rule looks at besides the op and the values before it: a program."""

    @property
    def vocab(self) -> int:
        """Number of tokens."""

    @property
    def consts(self) -> Mapping[str, npt.NDArray[Any]]:
        """Constants by name."""

    @property
    def states(self) -> Mapping[str, int]:
        """Length of each state by name."""


class Refused(Exception):
    """Reason why the op at hand is illegal; :func:`ternac.program.legality.infer` adds index and name."""


def check_name(name: object) -> None:
    """Refused unless ``name`` is a short text of letters, digits and ``_ . -``."""
    if not isinstance(name, str) or len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise Refused(f"{str(name)[:MAX_NAME]!r} is not a name (letters, digits, _ . -, at most {MAX_NAME})")


# ---- attributes ---------------------------------------------------------------------------------------

_CONST, _OUT8_16 = "constant", "dtype"
_ATTRS: dict[str, dict[str, tuple[int, int] | str]] = {
    "GATHER": {"embed": _CONST, "shift": (0, 8)},
    "NORM": {"pre": (0, 15), "post": (0, MAX_SHIFT), "table": _CONST},
    "TMATVEC": {"weights": _CONST},
    "REQUANT": {"shift": (0, MAX_SHIFT), "dtype": _OUT8_16, "multiplier": (1, MAX_MULTIPLIER)},
    "TABLE": {"table": _CONST},
    "MUL": {"shift": (0, MAX_SHIFT), "dtype": _OUT8_16},
    "ADD": {"dtype": _OUT8_16},
    "LERP": {},
    "LOAD": {},
    "STORE": {},
    "GATHER16": {"embed": _CONST},
    "RMSNORM": {"eps": (0, wide.MAX_EPS), "shift": (0, wide.MAX_RMS_SHIFT)},
    "SCALE": {"gain": _CONST, "shift": (0, MAX_SHIFT)},
    "PEAK": {},
    "QUANT": {},
    "RESCALE": {
        "multiplier": (1, wide.MAX_RESCALE),
        "shift": (0, wide.MAX_WIDE_SHIFT),
        "dtype": _OUT8_16,
    },
    "INTERP": {"curve": _CONST},
    "MUL16": {"shift": (0, MAX_SHIFT), "dtype": _OUT8_16},
    "BLEND": {},
}
_OPTIONAL = {("REQUANT", "multiplier")}


def check_attrs(op: Op) -> None:
    """Exactly the attributes of the kind, each of its type and within its range."""
    wanted = _ATTRS[op.kind]
    for name, value in op.attrs.items():
        rule = wanted.get(name)
        if rule is None:
            raise Refused(f"unknown attribute {str(name)[:MAX_NAME]}")
        if isinstance(rule, tuple):
            if type(value) is not int or not rule[0] <= value <= rule[1]:
                raise Refused(f"{name} is {value!r}, outside {rule[0]}..{rule[1]}")
        elif not isinstance(value, str):
            raise Refused(f"{name} is {value!r}, not text")
        elif rule == _OUT8_16 and value not in ("i8", "i16"):
            raise Refused(f"dtype is {value!r}, not 'i8' or 'i16'")
    for name in wanted:
        if name not in op.attrs and (op.kind, name) not in _OPTIONAL:
            raise Refused(f"attribute {name} is missing")


# ---- one rule per op kind: (program, op, values so far) -> type of the result -------------------------


def _inputs(op: Op, values: dict[str, Value], *dtypes: tuple[str, ...]) -> list[Value]:
    """The inputs, as many as ``dtypes`` and each of a dtype listed there."""
    if len(op.ins) != len(dtypes):
        raise Refused(f"{len(op.ins)} inputs, needs {len(dtypes)}")
    found = []
    for name, allowed in zip(op.ins, dtypes, strict=True):
        value = values.get(name)
        if value is None:
            raise Refused(f"input {str(name)[:MAX_NAME]!r} is not defined before it")
        if value.dtype not in allowed:
            raise Refused(f"input {name} is {value.dtype}, needs {' or '.join(allowed)}")
        found.append(value)
    if len({value.length for value in found}) > 1:
        sizes = ", ".join(f"{name}[{value.length}]" for name, value in zip(op.ins, found, strict=True))
        raise Refused(f"inputs of unequal length: {sizes}")
    return found


def _const(program: Scope, op: Op, attr: str) -> Any:
    array = program.consts.get(op.text(attr))
    if array is None:
        raise Refused(f"constant {op.text(attr)[:MAX_NAME]!r} does not exist")
    return array


def _full(dtype: str, length: int) -> Value:
    return Value(dtype, length, *RANGES[dtype])


def _gather(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    _inputs(op, values)
    embed = _const(program, op, "embed")
    if embed.shape[0] != program.vocab:
        raise Refused(f"embedding has {embed.shape[0]} rows, vocabulary is {program.vocab}")
    return _full("i16", embed.shape[1])


def _norm(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    _const(program, op, "table")
    if op.integer("post") + max_norm_exponent(x.length) > MAX_SHIFT:
        raise Refused(f"post + E can exceed {MAX_SHIFT} with {x.length} elements")
    return _full("i8", x.length)


def _tmatvec(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i8",))
    weights = _const(program, op, "weights")
    if weights.shape[1] != x.length:
        raise Refused(f"matrix {op.text('weights')} has {weights.shape[1]} columns, input has {x.length}")
    return Value("acc", weights.shape[0], -128 * x.length, 128 * x.length)


def _requant(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("acc", "i16"))
    return _full(op.text("dtype"), x.length)


def _table(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i8",))
    entries = _const(program, op, "table")
    return Value("i16", x.length, int(entries.min()), int(entries.max()))


def _mul(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    a, b = _inputs(op, values, ("i8", "i16"), ("i8", "i16"))
    if b.low < -256 or b.high > 255:
        raise Refused(f"second factor {op.ins[1]} can be {b.low}..{b.high}, needs -256..255")
    return _full(op.text("dtype"), a.length)


def _add(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    a, _ = _inputs(op, values, ("i8", "i16"), ("i8", "i16"))
    return _full(op.text("dtype"), a.length)


def _lerp(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    h, c, f = _inputs(op, values, ("i16",), ("i16",), ("i16",))
    if f.low < 0 or f.high > 255:
        raise Refused(f"weight {op.ins[2]} can be {f.low}..{f.high}, needs 0..255")
    return Value("i16", h.length, min(h.low, c.low), max(h.high, c.high))


def _load(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    if len(op.ins) != 1 or op.ins[0] not in program.states:
        raise Refused(f"state {str(op.ins)[:MAX_NAME]} does not exist")
    return _full("i16", program.states[op.ins[0]])


def _store(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    if op.out not in program.states:
        raise Refused("there is no such state")
    if program.states[op.out] != x.length:
        raise Refused(f"state has {program.states[op.out]} words, value {op.ins[0]} has {x.length}")
    return x


# ---- wide ops ----------------------------------------------------------------------------------------


def _with_scalar(op: Op, values: dict[str, Value], *dtypes: str) -> Value:
    """The first of two inputs, of one of ``dtypes``; the second is one i16 that is never negative."""
    if len(op.ins) != 2:
        raise Refused(f"{len(op.ins)} inputs, needs 2")
    first = Op(op.kind, op.out, op.ins[:1], op.attrs)
    second = Op(op.kind, op.out, op.ins[1:], op.attrs)
    (x,), (m,) = _inputs(first, values, dtypes), _inputs(second, values, ("i16",))
    if m.length != 1 or m.low < 0:
        raise Refused(f"scale {op.ins[1]} is [{m.length}] in {m.low}..{m.high}, needs one value in 0..32767")
    return x


def _rmsnorm(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    return _full("i16", x.length)


def _scale(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    gain = _const(program, op, "gain")
    if gain.shape[0] != x.length:
        raise Refused(f"gain {op.text('gain')} has {gain.shape[0]} elements, input has {x.length}")
    corners = np.multiply.outer([x.low, x.high], [int(gain.min()), int(gain.max())])
    ends = sat16(rshift_round(corners, op.integer("shift")))
    return Value("i16", x.length, int(ends.min()), int(ends.max()))


def _peak(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    _inputs(op, values, ("i16",))
    return Value("i16", 1, 0, I16_MAX)


def _quant(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    return _full("i8", _with_scalar(op, values, "i16").length)


def _rescale(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    return _full(op.text("dtype"), _with_scalar(op, values, "acc", "i16").length)


def _interp(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    points = _const(program, op, "curve")
    return Value("i16", x.length, int(points.min()), int(points.max()))


def _mul16(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    a, _ = _inputs(op, values, ("i8", "i16"), ("i8", "i16"))
    return _full(op.text("dtype"), a.length)


def _blend(program: Scope, op: Op, values: dict[str, Value]) -> Value:
    h, c, e = _inputs(op, values, ("i16",), ("i16",), ("i16",))
    if e.low < 0:
        raise Refused(f"weight {op.ins[2]} can be {e.low}..{e.high}, needs 0..32767")
    return Value("i16", h.length, min(h.low, c.low), max(h.high, c.high))


RULES: dict[str, Callable[[Scope, Op, dict[str, Value]], Value]] = {
    "GATHER": _gather, "NORM": _norm, "TMATVEC": _tmatvec, "REQUANT": _requant, "TABLE": _table,
    "MUL": _mul, "ADD": _add, "LERP": _lerp, "LOAD": _load, "STORE": _store,
    "GATHER16": _gather, "RMSNORM": _rmsnorm, "SCALE": _scale, "PEAK": _peak, "QUANT": _quant,
    "RESCALE": _rescale, "INTERP": _interp, "MUL16": _mul16, "BLEND": _blend,
}  # fmt: skip
