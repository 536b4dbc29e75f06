"""Which programs may run: every op is checked for names, types, lengths, attributes and value ranges.

:func:`check` raises IllegalProgram with op index, name and reason.  An executor runs only what passed, and
may rely on it: no intermediate overflows 32 bits (REQUANT with a multiplier excepted), no index leaves its
table.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ternac.errors import IllegalProgram
from ternac.numerics import I8_MAX, I8_MIN, I16_MAX, I16_MIN, MAX_DIM, MAX_SHIFT, max_norm_exponent
from ternac.program import RESERVED_KINDS, ROLE_DTYPE, ROLE_OF_ATTR, Op, Program
from ternac.strict_json import BadJson, check_data, dump

MAX_OPS = 65535
MAX_CONSTS = 16384
MAX_STATES = 4096
MAX_STATE_WORDS = 1 << 24
MAX_TRITS = 1 << 33
MAX_NAME = 96
MAX_META = 1 << 18
MAX_MULTIPLIER = (1 << 31) - 1
TOKENIZERS = ("bytes",)
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", re.ASCII)

RANGES = {"i8": (I8_MIN, I8_MAX), "i16": (I16_MIN, I16_MAX), "acc": (-MAX_DIM * 128, MAX_DIM * 128)}


@dataclass(frozen=True)
class Value:
    """Type of a vector: dtype "i8" | "i16" | "acc", length, and bounds that its elements provably keep."""

    dtype: str
    length: int
    low: int
    high: int


class _Refused(Exception):
    """Reason why the op at hand is illegal; :func:`infer` adds index and name."""


def check(program: Program) -> None:
    """Raise IllegalProgram unless the program is legal."""
    infer(program)


def shapes(program: Program) -> dict[str, tuple[str, int]]:
    """Value name to (dtype, length); raises IllegalProgram like :func:`check`."""
    return {name: (value.dtype, value.length) for name, value in infer(program).items()}


def infer(program: Program) -> dict[str, Value]:
    """Value name to its type, in program order; raises IllegalProgram."""
    _check_frame(program)
    _check_consts(program)
    values: dict[str, Value] = {}
    touched: set[str] = set()
    for index, op in enumerate(program.ops):
        try:
            rule = _RULES.get(op.kind)
            if rule is None:
                later = "is not implemented by this version" if op.kind in RESERVED_KINDS else "is unknown"
                raise _Refused(f"op kind {op.kind} {later}")
            _check_attrs(op)
            _check_name(op.out)
            result = rule(program, op, values)
            if op.kind in ("LOAD", "STORE"):
                touched.add(op.ins[0] if op.kind == "LOAD" else op.out)
            if op.kind != "STORE":
                if op.out in values or op.out in program.consts or op.out in program.states:
                    raise _Refused("its name is already taken")
                values[op.out] = result
        except _Refused as reason:
            raise IllegalProgram(f"op {index} ({op.kind} {str(op.out)[:MAX_NAME]}): {reason}") from None
    for name in program.states:
        if name not in touched:
            raise IllegalProgram(f"state {name}: no op loads or stores it")
    roles = program.roles()
    for name in program.consts:
        if name not in roles:
            raise IllegalProgram(f"constant {name}: no op uses it")
    logits = values.get(program.logits) if isinstance(program.logits, str) else None
    if logits is None:
        raise IllegalProgram(f"logits: no op defines {program.logits!r}")
    if (logits.dtype, logits.length) != ("i16", program.vocab):
        raise IllegalProgram(
            f"logits: {program.logits} is {logits.dtype}[{logits.length}], not i16[{program.vocab}]"
        )
    return values


def _check_name(name: object) -> None:
    if not isinstance(name, str) or len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise _Refused(f"{str(name)[:MAX_NAME]!r} is not a name (letters, digits, _ . -, at most {MAX_NAME})")


def _check_frame(program: Program) -> None:
    """Everything outside the ops: names, counts, states, tokenizer."""
    try:
        for name in (program.name, *program.states, *program.consts):
            _check_name(name)
    except _Refused as reason:
        raise IllegalProgram(str(reason)) from None
    limits = (
        ("vocab", program.vocab, 1, MAX_DIM),
        ("logit_scale_bits", program.logit_scale_bits, 0, MAX_SHIFT),
        ("number of ops", len(program.ops), 1, MAX_OPS),
        ("number of constants", len(program.consts), 0, MAX_CONSTS),
        ("number of states", len(program.states), 0, MAX_STATES),
        *((f"length of state {name}", length, 1, MAX_DIM) for name, length in program.states.items()),
    )
    for what, value, low, high in limits:
        if type(value) is not int or not low <= value <= high:
            raise IllegalProgram(f"{what} is {value!r}, outside {low}..{high}")
    if program.state_words > MAX_STATE_WORDS:
        raise IllegalProgram(f"{program.state_words} words of state, limit {MAX_STATE_WORDS}")
    for name in program.states:
        if name in program.consts:
            raise IllegalProgram(f"state {name}: its name is already taken")
    try:
        check_data(dict(program.meta), "meta")
        size = len(dump(dict(program.meta)))
    except BadJson as reason:
        raise IllegalProgram(str(reason)) from None
    if size > MAX_META:
        raise IllegalProgram(f"meta has {size} bytes, limit {MAX_META}")
    tokenizer = program.meta.get("tokenizer")
    if tokenizer is not None and tokenizer not in TOKENIZERS:
        raise IllegalProgram(f"tokenizer {str(tokenizer)[:40]!r} is not supported by this version")
    if tokenizer == "bytes" and program.vocab != 256:
        raise IllegalProgram(f"tokenizer 'bytes' needs a vocabulary of 256, not {program.vocab}")


def _check_consts(program: Program) -> None:
    """Types, sizes and contents of the constants."""
    roles: dict[str, str] = {}
    for index, op in enumerate(program.ops):
        for (kind, attr), role in ROLE_OF_ATTR.items():
            name = op.attrs.get(attr)
            if op.kind == kind and isinstance(name, str) and roles.setdefault(name, role) != role:
                where = f"op {index} ({op.kind} {op.out})"
                raise IllegalProgram(f"{where}: {name} is already used as {roles[name]}")
    trits = 0
    for name, array in program.consts.items():
        if name not in roles:
            continue  # refused when all ops have been looked at
        role, wanted = roles[name], np.dtype(ROLE_DTYPE[roles[name]])
        if array.dtype != wanted:
            raise IllegalProgram(f"constant {name}: dtype {array.dtype}, {role} needs {wanted}")
        if role in ("norm", "table"):
            if array.shape != (256,):
                raise IllegalProgram(f"constant {name}: shape {array.shape}, a table has 256 entries")
        elif array.ndim != 2 or not all(1 <= side <= MAX_DIM for side in array.shape):
            raise IllegalProgram(f"constant {name}: shape {array.shape}, needs two sides in 1..{MAX_DIM}")
        if role == "trits":
            trits += array.size
            if array.min() < -1 or array.max() > 1:
                raise IllegalProgram(f"constant {name}: a weight is not in -1, 0, 1")
    if trits > MAX_TRITS:
        raise IllegalProgram(f"{trits} ternary weights, limit {MAX_TRITS}")


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
}
_OPTIONAL = {("REQUANT", "multiplier")}


def _check_attrs(op: Op) -> None:
    """Exactly the attributes of the kind, each of its type and within its range."""
    wanted = _ATTRS[op.kind]
    for name, value in op.attrs.items():
        rule = wanted.get(name)
        if rule is None:
            raise _Refused(f"unknown attribute {str(name)[:MAX_NAME]}")
        if isinstance(rule, tuple):
            if type(value) is not int or not rule[0] <= value <= rule[1]:
                raise _Refused(f"{name} is {value!r}, outside {rule[0]}..{rule[1]}")
        elif not isinstance(value, str):
            raise _Refused(f"{name} is {value!r}, not text")
        elif rule == _OUT8_16 and value not in ("i8", "i16"):
            raise _Refused(f"dtype is {value!r}, not 'i8' or 'i16'")
    for name in wanted:
        if name not in op.attrs and (op.kind, name) not in _OPTIONAL:
            raise _Refused(f"attribute {name} is missing")


# ---- one rule per op kind: (program, op, values so far) -> type of the result -------------------------


def _inputs(op: Op, values: dict[str, Value], *dtypes: tuple[str, ...]) -> list[Value]:
    """The inputs, as many as ``dtypes`` and each of a dtype listed there."""
    if len(op.ins) != len(dtypes):
        raise _Refused(f"{len(op.ins)} inputs, needs {len(dtypes)}")
    found = []
    for name, allowed in zip(op.ins, dtypes, strict=True):
        value = values.get(name)
        if value is None:
            raise _Refused(f"input {str(name)[:MAX_NAME]!r} is not defined before it")
        if value.dtype not in allowed:
            raise _Refused(f"input {name} is {value.dtype}, needs {' or '.join(allowed)}")
        found.append(value)
    if len({value.length for value in found}) > 1:
        sizes = ", ".join(f"{name}[{value.length}]" for name, value in zip(op.ins, found, strict=True))
        raise _Refused(f"inputs of unequal length: {sizes}")
    return found


def _const(program: Program, op: Op, attr: str) -> Any:
    array = program.consts.get(op.text(attr))
    if array is None:
        raise _Refused(f"constant {op.text(attr)[:MAX_NAME]!r} does not exist")
    return array


def _full(dtype: str, length: int) -> Value:
    return Value(dtype, length, *RANGES[dtype])


def _gather(program: Program, op: Op, values: dict[str, Value]) -> Value:
    _inputs(op, values)
    embed = _const(program, op, "embed")
    if embed.shape[0] != program.vocab:
        raise _Refused(f"embedding has {embed.shape[0]} rows, vocabulary is {program.vocab}")
    return _full("i16", embed.shape[1])


def _norm(program: Program, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    _const(program, op, "table")
    if op.integer("post") + max_norm_exponent(x.length) > MAX_SHIFT:
        raise _Refused(f"post + E can exceed {MAX_SHIFT} with {x.length} elements")
    return _full("i8", x.length)


def _tmatvec(program: Program, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i8",))
    weights = _const(program, op, "weights")
    if weights.shape[1] != x.length:
        raise _Refused(f"matrix {op.text('weights')} has {weights.shape[1]} columns, input has {x.length}")
    return Value("acc", weights.shape[0], -128 * x.length, 128 * x.length)


def _requant(program: Program, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("acc", "i16"))
    return _full(op.text("dtype"), x.length)


def _table(program: Program, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i8",))
    entries = _const(program, op, "table")
    return Value("i16", x.length, int(entries.min()), int(entries.max()))


def _mul(program: Program, op: Op, values: dict[str, Value]) -> Value:
    a, b = _inputs(op, values, ("i8", "i16"), ("i8", "i16"))
    if b.low < -256 or b.high > 255:
        raise _Refused(f"second factor {op.ins[1]} can be {b.low}..{b.high}, needs -256..255")
    return _full(op.text("dtype"), a.length)


def _add(program: Program, op: Op, values: dict[str, Value]) -> Value:
    a, _ = _inputs(op, values, ("i8", "i16"), ("i8", "i16"))
    return _full(op.text("dtype"), a.length)


def _lerp(program: Program, op: Op, values: dict[str, Value]) -> Value:
    h, c, f = _inputs(op, values, ("i16",), ("i16",), ("i16",))
    if f.low < 0 or f.high > 255:
        raise _Refused(f"weight {op.ins[2]} can be {f.low}..{f.high}, needs 0..255")
    return Value("i16", h.length, min(h.low, c.low), max(h.high, c.high))


def _load(program: Program, op: Op, values: dict[str, Value]) -> Value:
    if len(op.ins) != 1 or op.ins[0] not in program.states:
        raise _Refused(f"state {str(op.ins)[:MAX_NAME]} does not exist")
    return _full("i16", program.states[op.ins[0]])


def _store(program: Program, op: Op, values: dict[str, Value]) -> Value:
    (x,) = _inputs(op, values, ("i16",))
    if op.out not in program.states:
        raise _Refused("there is no such state")
    if program.states[op.out] != x.length:
        raise _Refused(f"state has {program.states[op.out]} words, value {op.ins[0]} has {x.length}")
    return x


_RULES: dict[str, Callable[[Program, Op, dict[str, Value]], Value]] = {
    "GATHER": _gather, "NORM": _norm, "TMATVEC": _tmatvec, "REQUANT": _requant, "TABLE": _table,
    "MUL": _mul, "ADD": _add, "LERP": _lerp, "LOAD": _load, "STORE": _store,
}  # fmt: skip
