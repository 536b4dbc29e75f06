"""The interface of the column pipelines: operand cycles, control codes, and the signals of each stage."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from amaranth.hdl import signed
from amaranth.lib import wiring
from amaranth.lib.wiring import Out

__all__ = [
    "B_OFFSET",
    "C_OFFSET",
    "SQUARE_OFFSET",
    "Y_OFFSET",
    "AddSelect",
    "AddendCode",
    "EpilogueRecord",
    "EpilogueStages",
    "MulSelect",
    "check_tables",
]

#: Cycle in which each operand is presented and each result appears; v0 and the control record are at cycle 0.
C_OFFSET = 4
B_OFFSET = 5
SQUARE_OFFSET = 10
Y_OFFSET = 13


class AddendCode(enum.IntEnum):
    """``EpilogueStages.addend``: where the column takes the addend from; it holds v2 or its complement."""

    ZERO = 0
    B = 1
    V2 = 2
    NOT_V2 = 3


class MulSelect(enum.Enum):
    """The second factor: the record's ``const`` (1, or the norm's mantissa), ``c``, or v1 (square)."""

    CONST = 0
    C = 1
    SQUARE = 2


class AddSelect(enum.Enum):
    """What is added before the last saturation."""

    ZERO = 0
    V2 = 1
    B = 2


@dataclass(frozen=True, kw_only=True)
class EpilogueRecord:
    """What an element asks of the pipeline, as ``Epilogue.model`` reads it."""

    shift1: int = 0
    narrow1: bool = False
    table_en: bool = False
    table_sel: int = 0
    sub: bool = False
    mul: MulSelect = MulSelect.CONST
    const: int = 1
    add: AddSelect = AddSelect.ZERO
    shift2: int = 0
    narrow2: bool = False


def check_tables(tables: int) -> None:
    """Raise ValueError unless ``tables`` is 1..16."""
    if not 1 <= tables <= 16:
        raise ValueError(f"tables must be 1..16, not {tables}")


class EpilogueStages(wiring.Signature):
    """Control signals (Out: from ``PassControl``) to the columns, each in the cycle of its use."""

    def __init__(self, tables: int) -> None:
        self.tables = tables
        super().__init__(
            {
                "coarse1": Out(2),
                "fine1": Out(3),
                "narrow1": Out(1),  # cycles 0, 1, 3
                "table_sel": Out(range(max(tables, 2))),
                "table_en": Out(1),  # cycles 3, 5
                "mul": Out(MulSelect),
                "const": Out(signed(9)),  # cycle C_OFFSET
                "sub": Out(1),
                "addend": Out(2),  # cycle B_OFFSET
                "square_en": Out(1),
                "square_first": Out(1),
                "square_last": Out(1),  # SQUARE_OFFSET - 1
                "coarse2": Out(2),
                "fine2": Out(3),
                "narrow2": Out(1),  # cycles 9, 10, 12
            }
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EpilogueStages) and other.tables == self.tables

    def __hash__(self) -> int:
        return hash(self.tables)
