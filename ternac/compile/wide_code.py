"""Binary form of the wide unit's instructions (docs/wide.md), and what lies in external memory for them.

A word of `FIELDS`, lowest bits first, for each issue and each other instruction. Addresses of vectors are in
words of ``lanes`` elements. Constants are one region in the order in which they are taken.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.stream_layout import Descriptor, Encoding, pack_matrix
from ternac.compile.wide import (
    LOGITS,
    Curve,
    Gain,
    Group,
    Inverse,
    Issue,
    Matrix,
    Number,
    Row,
    Scalar,
    Vector,
    WideImage,
)
from ternac.errors import UnsupportedOp
from ternac.program.import_ops import CURVE_POINTS

__all__ = ["FIELDS", "WORD_BYTES", "Factor", "Kind", "WideCode", "decode", "encode"]

WORD_BYTES = 24
FIELDS: Mapping[str, int] = {
    "kind": 3, "last": 1, "words": 13, "tail": 8, "strip": 13,
    "a": 16, "b": 16, "c": 16, "out": 16,
    "factor": 3, "shift": 6, "slot": 4, "add": 1, "narrow": 1, "store": 1, "squares": 1,
    "inverse": 1, "root": 1, "logits": 1, "kept": 1, "register": 5, "wait": 12, "value": 48,
}  # fmt: skip
"""Widths of an instruction's fields, lowest bits first; the bits above them are 0."""


class Kind(enum.IntEnum):
    """Kinds of instructions."""

    #: The token ends when everything has come.
    END = 0
    ROW = 1
    ISSUE = 2
    INVERSE = 3
    MATRIX = 4
    CURVE = 5


class Factor(enum.IntEnum):
    """Second factor of an issue."""

    #: The vector at ``b``.
    VECTOR = 0
    #: That vector less the one at ``c``, which is also added.
    BLEND = 1
    #: ``value``, for every element.
    VALUE = 2
    #: A word of ``gains`` for every word of elements.
    GAIN = 3
    #: The curve in ``slot``: INTERP of ``a``.
    CURVE = 4


@dataclass(frozen=True)
class WideCode:
    """What an engine of ``lanes`` and a port of ``port_bytes`` needs to run an image.

    ``words`` the instructions; ``constants`` int16[words, lanes]; ``embedding`` int16[vocab, words, lanes];
    ``weights`` and the ``matrices`` in it, in the order in which they run, addresses from its begin.
    """

    image: WideImage
    lanes: int
    port_bytes: int
    encoding: Encoding
    words: tuple[int, ...]
    constants: npt.NDArray[np.int16]
    embedding: npt.NDArray[np.int16]
    matrices: tuple[Descriptor, ...]
    weights: npt.NDArray[np.uint8]


def encode(
    image: WideImage, lanes: int, *, port_bytes: int = 16, encoding: Encoding = Encoding.FIVE
) -> WideCode:
    """Encode an image and lay out what it reads.

    Raises UnsupportedOp if a number does not fit its field, or a place is no multiple of ``lanes``.
    """
    maker = _Encoder(image, lanes)
    words = tuple(maker.run())
    matrices, parts, address = [], [], 0
    for each in image.code:
        if isinstance(each, Matrix):
            packed = pack_matrix(image.program.consts[each.name], port_bytes, encoding)
            base, rest = divmod(each.x, port_bytes)
            if rest:
                raise _refuse(f"activations at {each.x}, a port takes {port_bytes} of them a word")
            columns = -(-each.columns // port_bytes)
            matrices.append(Descriptor(address, each.rows, columns, base, True))
            parts.append(packed)
            address += packed.size
    rows = [each for each in image.code if isinstance(each, Row)]
    if len(rows) != 1:
        raise _refuse(f"{len(rows)} embeddings a token, it reads one")
    embedding = _words(image.program.consts[rows[0].name], lanes)
    return WideCode(
        image, lanes, port_bytes, encoding, words, np.concatenate(maker.constants or [embedding[:0, 0]]),
        embedding, tuple(matrices), np.concatenate(parts),
    )  # fmt: skip


def decode(word: int) -> dict[str, int]:
    """Return the fields of an instruction word; ``value`` unsigned."""
    fields = {}
    for name, bits in FIELDS.items():
        fields[name] = word & (1 << bits) - 1
        word >>= bits
    return fields


def _refuse(what: str) -> UnsupportedOp:
    return UnsupportedOp(
        f"the wide unit's code: {what}", "run the program on an executor in software (ternac run)"
    )


def _words(x: npt.NDArray[Any], lanes: int) -> npt.NDArray[np.int16]:
    """Vectors along the last axis, cut into words; what is missing of the last one is 0."""
    pad = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % lanes)]
    return np.pad(x.astype(np.int16), pad).reshape(*x.shape[:-1], -1, lanes)


class _Encoder:
    """Walks the instructions; remembers which matrix makes what lies where."""

    def __init__(self, image: WideImage, lanes: int) -> None:
        self.image, self.lanes = image, lanes
        self.constants: list[npt.NDArray[np.int16]] = []
        self.made: dict[int, tuple[int, int]] = {}  # place to (end, number of the matrix)
        self.matrices = 0
        self.inverse = -1  # register whose inverse is at hand

    def run(self) -> list[int]:
        """The instruction words; `constants` in the same order."""
        words = []
        for each in self.image.code:
            match each:
                case Row(length=length, out=out):
                    self._write(out, length)
                    words.append(self._word(kind=Kind.ROW, out=self._place(out), **self._length(length)))
                case Group():
                    words += self._group(each)
                case Inverse(at=at, root=root):
                    self.inverse = at
                    words.append(self._word(kind=Kind.INVERSE, register=at, root=root))
                case Curve(name=name, slot=slot):
                    self.constants.append(_words(self.image.program.consts[name], self.lanes))
                    words.append(self._word(kind=Kind.CURVE, slot=slot, words=CURVE_POINTS - 1))
                case Matrix():
                    words.append(self._matrix(each))
        return [*words, self._word(kind=Kind.END)]

    def _word(self, **fields: int) -> int:
        word, at = 0, 0
        for name, bits in FIELDS.items():
            value = int(fields.pop(name, 0))
            low, high = (-(1 << bits - 1), 1 << bits) if name == "value" else (0, 1 << bits)
            if not low <= value < high:
                raise _refuse(f"{name} is {value}, needs {low} to {high - 1}")
            word |= (value & (1 << bits) - 1) << at
            at += bits
        assert not fields
        return word

    def _length(self, elements: int) -> dict[str, int]:
        return {"words": -(-elements // self.lanes) - 1, "tail": (elements - 1) % self.lanes}

    def _place(self, element: int) -> int:
        place, rest = divmod(element, self.lanes)
        if rest:
            raise _refuse(f"a vector at element {element}, no multiple of {self.lanes} lanes")
        return place

    def _write(self, begin: int, length: int) -> None:
        """Forget the matrices whose results are overwritten."""
        end = begin + length
        self.made = {at: x for at, x in self.made.items() if at >= end or x[0] <= begin}

    def _group(self, group: Group) -> list[int]:
        strip = group.strip or group.length
        if strip < group.length and strip % self.lanes:
            raise _refuse(f"strips of {strip} elements, no multiple of {self.lanes} lanes")
        last = len(group.issues) - 1
        size = -(-strip // self.lanes) if strip < group.length else 0
        words = [self._issue(issue, i == last, size) for i, issue in enumerate(group.issues)]
        for begin in range(0, group.length, strip):
            for issue in group.issues:
                if isinstance(issue.b, Gain):
                    gains = self.image.program.consts[issue.b.name][begin : min(group.length, begin + strip)]
                    self.constants.append(_words(gains, self.lanes))
        return words

    def _issue(self, issue: Issue, last: bool, strip: int) -> int:
        fields: dict[str, int] = {"kind": Kind.ISSUE, "last": last, "strip": strip, "shift": issue.shift}
        fields |= self._length(issue.length) | {"narrow": issue.narrow, "store": issue.out is not None}
        for name, x in (("a", issue.a), ("b", issue.b), ("c", issue.c)):
            if isinstance(x, Vector):
                fields[name] = self._place(x.at)
                fields["wait"] = max(fields.get("wait", 0), self.made.get(x.at, (0, 0))[1])
        match issue.b:
            case Gain():
                fields["factor"] = Factor.GAIN
            case Scalar(at=at):
                if at != self.inverse:
                    raise _refuse(f"{issue.op} takes an inverse that is not the last one found")
                fields |= {"factor": Factor.VALUE, "inverse": 1}
            case Number(value=value):
                fields |= {"factor": Factor.VALUE, "value": value}
            case Vector():
                fields["factor"] = Factor.VECTOR if issue.minus is None else Factor.BLEND
        if issue.minus not in (None, issue.c) or (issue.minus is None) is (fields["factor"] == Factor.BLEND):
            raise _refuse(f"{issue.op} subtracts another vector than it adds")
        if isinstance(issue.c, Vector):
            fields["add"] = 1
        if issue.curve:
            fields |= {"factor": Factor.CURVE, "slot": issue.slot}
        if issue.out is not None:
            fields["out"] = self._place(issue.out)
            if not issue.narrow:
                self._write(issue.out, issue.length)
        if issue.squares is not None:
            if fields["factor"] != Factor.VECTOR or issue.peak is not None or issue.out is not None:
                raise _refuse(f"{issue.op} keeps more than a sum of squares")
            fields |= {"squares": 1, "value": issue.eps}
        if issue.peak is not None:
            fields |= {"kept": 1, "register": issue.peak}
        return self._word(**fields)

    def _matrix(self, matrix: Matrix) -> int:
        self.matrices += 1
        logits = matrix.out == LOGITS
        fields: dict[str, int] = {"kind": Kind.MATRIX, "logits": logits, "shift": matrix.shift}
        fields |= {"value": matrix.multiplier}
        if not logits:
            self._write(matrix.out, matrix.rows)
            self.made[matrix.out] = (matrix.out + matrix.rows, self.matrices)
            fields["out"] = self._place(matrix.out)
        if matrix.scale is not None:
            fields |= {"kept": 1, "register": matrix.scale}
        return self._word(**fields)
