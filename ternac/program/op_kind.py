"""Parts of an op kind's declaration, and the checks that follow from it alone.

:mod:`ternac.program.ops` declares the kinds that training makes, :mod:`ternac.program.import_ops` those of
imported models, :mod:`ternac.program.memory_ops` those of memories and loops. The names that others need are
exported by :mod:`ternac.program.ops`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.program.numerics import I8_MAX, I8_MIN, I16_MAX, I16_MIN, MAX_DIM, IntArray

MAX_NAME = 96
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*", re.ASCII)
RANGES = {"i8": (I8_MIN, I8_MAX), "i16": (I16_MIN, I16_MAX), "acc": (-MAX_DIM * 128, MAX_DIM * 128)}
"""Least and largest element of each dtype."""
BYTES = {"i8": 1, "i16": 2, "acc": 4}
"""Size of an element of each dtype in memory."""


@dataclass(frozen=True)
class Op:
    """One operation of a program.

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


@dataclass(frozen=True)
class Value:
    """Type of a vector: dtype "i8" | "i16" | "acc", length, and bounds that its elements provably keep."""

    dtype: str
    length: int
    low: int
    high: int

    @classmethod
    def full(cls, dtype: str, length: int) -> Value:
        """A vector whose elements may be anything that ``dtype`` holds."""
        return cls(dtype, length, *RANGES[dtype])


@dataclass(frozen=True)
class Memory:
    """Rows that a session keeps: ``rows`` of ``width`` elements of ``dtype``, "i8" or "i16"; zero at first.

    They lie in its state row after row, i8 elements two to a word, the even one in the low byte.
    """

    rows: int
    width: int
    dtype: str

    @property
    def words(self) -> int:
        """Its size in a session's state, in words of 16 bits."""
        return self.rows * self.width * BYTES[self.dtype] // 2


class Scope(Protocol):
    """The part of a program that a rule may look at, apart from the op and its inputs."""

    @property
    def vocab(self) -> int:
        """Number of tokens."""

    @property
    def consts(self) -> Mapping[str, npt.NDArray[Any]]:
        """Constants by name."""

    @property
    def states(self) -> Mapping[str, int]:
        """Length of each state by name."""

    @property
    def memories(self) -> Mapping[str, Memory]:
        """Memories by name."""


class Refused(Exception):
    """Reason why the op at hand is illegal; :func:`ternac.program.legality.infer` adds index and name."""


def check_name(name: object) -> None:
    """Raise Refused unless ``name`` is a short text of letters, digits and ``_ . -``."""
    if not isinstance(name, str) or len(name) > MAX_NAME or not NAME.fullmatch(name):
        raise Refused(f"{str(name)[:MAX_NAME]!r} is not a name (letters, digits, _ . -, at most {MAX_NAME})")


# ---- what a kind is declared with ---------------------------------------------------------------------


@dataclass(frozen=True)
class Role:
    """A use of constants: their dtype, shape (None: a side of 1..65535) and the range of their elements.

    ``what`` says it in messages, ``widened`` is the dtype in which the NumPy meaning gets them (None: as they
    are stored, for constants too large to copy). ``most`` is the greatest first side.
    """

    name: str
    dtype: type[np.integer[Any]]
    shape: tuple[int | None, ...]
    what: str = ""
    widened: type[np.integer[Any]] | None = None
    low: int | None = None
    high: int | None = None
    most: int = MAX_DIM

    def check(self, name: str, array: npt.NDArray[Any]) -> None:
        """Raise Refused unless ``array`` may be a constant of this role."""
        if array.dtype != self.dtype:
            raise Refused(f"constant {name}: dtype {array.dtype}, {self.name} needs {np.dtype(self.dtype)}")
        if None not in self.shape:
            if array.shape != self.shape:
                raise Refused(f"constant {name}: shape {array.shape}, {self.what}")
        elif array.ndim != len(self.shape) or not all(
            1 <= side <= (MAX_DIM if axis else self.most) for axis, side in enumerate(array.shape)
        ):
            sides = "one side" if len(self.shape) == 1 else "two sides"
            first = "" if self.most == MAX_DIM else f", the first in 1..{self.most}"
            raise Refused(f"constant {name}: shape {array.shape}, needs {sides} in 1..{MAX_DIM}{first}")
        if self.low is not None and self.high is not None:
            if array.min() < self.low or array.max() > self.high:
                raise Refused(f"constant {name}: {self.what}")


@dataclass(frozen=True)
class Integer:
    """An integer attribute in ``low``..``high``; one with a ``default`` may be left out."""

    low: int
    high: int
    default: int | None = None

    def check(self, name: str, value: object) -> None:
        """Raise Refused unless ``value`` is allowed."""
        if type(value) is not int or not self.low <= value <= self.high:
            raise Refused(f"{name} is {value!r}, outside {self.low}..{self.high}")


@dataclass(frozen=True)
class Constant:
    """An attribute that names a constant of ``role``."""

    role: Role
    default: None = None

    def check(self, name: str, value: object) -> None:
        """Raise Refused unless ``value`` is text; that the constant exists is checked with the inputs."""
        if not isinstance(value, str):
            raise Refused(f"{name} is {value!r}, not text")


@dataclass(frozen=True)
class Dtype:
    """The attribute ``dtype``: to which of i8 and i16 the result is saturated."""

    default: None = None

    def check(self, name: str, value: object) -> None:
        """Raise Refused unless ``value`` is one of the two."""
        if not isinstance(value, str):
            raise Refused(f"{name} is {value!r}, not text")
        if value not in ("i8", "i16"):
            raise Refused(f"dtype is {value!r}, not 'i8' or 'i16'")


@dataclass(frozen=True)
class State:
    """An attribute that names a state which the op reads, and if it ``writes`` changes in place."""

    writes: bool = False
    default: None = None

    def check(self, name: str, value: object) -> None:
        """Raise Refused unless ``value`` is text; that the state exists is checked with the inputs."""
        if not isinstance(value, str):
            raise Refused(f"{name} is {value!r}, not text")


@dataclass(frozen=True)
class Rows:
    """An attribute that names rows: a memory, which the op changes in place if it ``writes``, or, with a
    ``role``, a constant of that role.
    """

    role: Role | None = None
    writes: bool = False
    default: None = None

    def check(self, name: str, value: object) -> None:
        """Raise Refused unless ``value`` is text; that the rows exist is checked with the inputs."""
        if not isinstance(value, str):
            raise Refused(f"{name} is {value!r}, not text")


Attribute = Integer | Constant | Dtype | State | Rows


@dataclass(frozen=True)
class Input:
    """One input: its letter on the page, the dtypes that it may have, how the op reads it.

    ``whole``: every element of the result may depend on every element of it. ``scalar``: one element, never
    negative, for the whole vector. ``own_length``: its length is checked by the kind's rule. All other
    inputs of an op must be of one length. ``optional``: it may be left out (of several, the last first).
    ``within``: the range that it must provably keep, ``what`` its name in the message.
    """

    name: str
    dtypes: tuple[str, ...]
    whole: bool = False
    scalar: bool = False
    own_length: bool = False
    optional: bool = False
    within: tuple[int, int] | None = None
    what: str = "input"

    def check(self, name: str, value: Value) -> None:
        """Raise Refused unless ``value``, called ``name``, may be this input."""
        if value.dtype not in self.dtypes:
            raise Refused(f"input {name} is {value.dtype}, needs {' or '.join(self.dtypes)}")
        if self.scalar:
            if value.length != 1 or value.low < 0:
                found = f"[{value.length}] in {value.low}..{value.high}"
                raise Refused(f"{self.what} {name} is {found}, needs one value in 0..32767")
        elif self.within and not self.within[0] <= value.low <= value.high <= self.within[1]:
            found, needed = f"{value.low}..{value.high}", f"{self.within[0]}..{self.within[1]}"
            raise Refused(f"{self.what} {name} can be {found}, needs {needed}")


Rule = Callable[[Op, Sequence[Value], Scope], Value]
"""(op, its inputs, the program) to the type and range of what the op makes; raises Refused."""


@dataclass(frozen=True)
class OpKind:
    """An op kind: everything that is known of it but the kernels of the executors that are not NumPy.

    ``result``: its type as the page shows it, "i8[n]", "dtype" if the attribute of that name says it, or ""
    for a kind that defines no value.
    ``numpy``: what it computes, a function of the inputs in order (each an int array [..., n]) and of the
    attributes by name, constants as arrays. A kind that ``reads_token`` gets the token ids instead of
    inputs; a state that an attribute names comes as a view, int16 [..., n], a memory as a view
    [..., rows, width] of its dtype, an input that was left out as None. LOAD and STORE have none: executors
    move states. Nor has LOOP.
    ``rule``: what it accepts beyond the declaration, and what it makes; without one the result may be
    anything that its dtype holds.
    ``saturates``: ``numpy`` takes ``dtype``, and with None gives the result before saturation.
    ``state``: where the op names a state, "in" if it reads it (LOAD), "out" if it replaces it (STORE).
    ``structure``: it computes nothing but says how other ops run; its inputs are pairs of names (LOOP).
    """

    name: str
    prose: str
    inputs: tuple[Input, ...] = ()
    attrs: Mapping[str, Attribute] = field(default_factory=dict)
    result: str = "i16[n]"
    numpy: Callable[..., IntArray] | Callable[..., None] | None = None
    rule: Rule | None = None
    saturates: bool = False
    reads_token: bool = False
    state: str = ""
    structure: bool = False

    @property
    def dtype(self) -> str:
        """Dtype of the result; "dtype" where the attribute says it, "" where there is none."""
        return self.result.partition("[")[0]

    def dtype_of(self, op: Op) -> str:
        """Dtype of what ``op`` makes."""
        return op.text("dtype") if self.dtype == "dtype" else self.dtype

    @property
    def constants(self) -> dict[str, Role]:
        """Attributes that name constants, with their roles; one of `Rows` may name a memory instead."""
        return {
            name: attr.role
            for name, attr in self.attrs.items()
            if isinstance(attr, Constant | Rows) and attr.role is not None
        }

    @property
    def memories(self) -> dict[str, Rows]:
        """Attributes that name memories, or may."""
        return {name: attr for name, attr in self.attrs.items() if isinstance(attr, Rows)}

    @property
    def states(self) -> dict[str, State]:
        """Attributes that name states."""
        return {name: attr for name, attr in self.attrs.items() if isinstance(attr, State)}

    @property
    def integers(self) -> dict[str, Integer]:
        """Attributes that are integers, in the declared order."""
        return {name: attr for name, attr in self.attrs.items() if isinstance(attr, Integer)}

    @property
    def scalar(self) -> int | None:
        """Index of the input that is one number for the whole vector."""
        return next((index for index, one in enumerate(self.inputs) if one.scalar), None)

    @property
    def elementwise(self) -> bool:
        """True if element i of the result needs no other element of any vector."""
        apart = any(one.whole or one.own_length for one in self.inputs)
        return not (self.state or self.states or self.memories or self.structure or apart)

    @property
    def is_product(self) -> bool:
        """True for a product with a ternary matrix."""
        return any(role.name == "trits" for role in self.constants.values())

    def inputs_of(self, op: Op) -> tuple[Input, ...]:
        """The declarations of the inputs that ``op`` has, in order: optional ones may be left out."""
        absent = len(self.inputs) - len(op.ins)
        given = list(self.inputs)
        for one in reversed(self.inputs):
            if absent > 0 and one.optional:
                given.remove(one)
                absent -= 1
        return tuple(given)

    # ---- legality -----------------------------------------------------------------------------------

    def check_attrs(self, op: Op) -> None:
        """Raise Refused unless the attributes are those declared, each of its type and in its range."""
        for name, value in op.attrs.items():
            attribute = self.attrs.get(name)
            if attribute is None:
                raise Refused(f"unknown attribute {str(name)[:MAX_NAME]}")
            attribute.check(name, value)
        for name, attribute in self.attrs.items():
            if name not in op.attrs and attribute.default is None:
                raise Refused(f"attribute {name} is missing")

    def infer(self, op: Op, values: Mapping[str, Value], scope: Scope) -> Value:
        """Type of what ``op`` makes of ``values``; raises Refused if it breaks a rule."""
        if self.state == "in":
            if len(op.ins) != 1 or op.ins[0] not in scope.states:
                raise Refused(f"state {str(op.ins)[:MAX_NAME]} does not exist")
            return Value.full("i16", scope.states[op.ins[0]])
        ins = self._inputs(op, values)
        for name in self.constants:
            if op.text(name) not in scope.consts and name not in self.memories:
                raise Refused(f"constant {op.text(name)[:MAX_NAME]!r} does not exist")
        for name, rows in self.memories.items():
            if op.text(name) not in scope.memories and not (rows.role and op.text(name) in scope.consts):
                what = "memory or constant" if rows.role else "memory"
                raise Refused(f"{what} {op.text(name)[:MAX_NAME]!r} does not exist")
        for name in self.states:
            if op.text(name) not in scope.states:
                raise Refused(f"state {op.text(name)[:MAX_NAME]!r} does not exist")
        if self.rule:
            return self.rule(op, ins, scope)
        return Value.full(self.dtype_of(op), ins[0].length)

    def _inputs(self, op: Op, values: Mapping[str, Value]) -> list[Value]:
        """The inputs of ``op``; raises Refused unless they are as many and of the types declared."""
        most = len(self.inputs)
        least = sum(not one.optional for one in self.inputs)
        if not least <= len(op.ins) <= most:
            needed = f"{most}" if least == most else f"{least} to {most}"
            raise Refused(f"{len(op.ins)} inputs, needs {needed}")
        declared_ins, found = self.inputs_of(op), []
        for name, declared in zip(op.ins, declared_ins, strict=True):
            value = values.get(name)
            if value is None:
                raise Refused(f"input {str(name)[:MAX_NAME]!r} is not defined before it")
            declared.check(name, value)
            found.append(value)
        same = [
            (name, value.length)
            for name, value, one in zip(op.ins, found, declared_ins, strict=True)
            if not (one.scalar or one.own_length)
        ]
        if len({length for _, length in same}) > 1:
            sizes = ", ".join(f"{name}[{length}]" for name, length in same)
            raise Refused(f"inputs of unequal length: {sizes}")
        return found


# ---- rules that several kinds share -------------------------------------------------------------------


def embedding_row(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    """A row of the embedding ``embed``, which has one for each token."""
    embed = scope.consts[op.text("embed")]
    if embed.shape[0] != scope.vocab:
        raise Refused(f"embedding has {embed.shape[0]} rows, vocabulary is {scope.vocab}")
    return Value.full("i16", embed.shape[1])


def entry_of(constant: str) -> Rule:
    """For each element of the first input an entry of the constant that the attribute names."""

    def rule(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
        entries = scope.consts[op.text(constant)]
        return Value("i16", ins[0].length, int(entries.min()), int(entries.max()))

    return rule


def between_two(op: Op, ins: Sequence[Value], scope: Scope) -> Value:
    """Elements between those of the first two inputs."""
    a, b = ins[:2]
    return Value("i16", a.length, min(a.low, b.low), max(a.high, b.high))
