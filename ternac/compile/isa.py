"""The engine's instructions: one vector operation each, 12 words of 16 bits (docs/isa.md).

An instruction runs one pass of ``count`` slots over all columns. Each slot is an element per column that goes
through the column pipeline::

    v0 = dot product + row correction | bank[A] | embedding << 8
    v1 = saturate(rshift_round(v0, shift1))          8 or 16 bits (wide1)
    v2 = TABLE[table][v1] or v1
    u  = B - v2 or v2
    w  = 1 | C | norm mantissa | v2
    q  = rshift_round(u * w, shift2)                 plus the norm unit's exponent when w is the mantissa
    y  = saturate(q + (0 | v2 | B))                  8 or 16 bits (wide2)

and goes to ``bank[D]``, the x buffer, the logits, or (``stat``) into the sum of squares. On its way to the x
buffer the side lane, where the geometry has one, may multiply it once more (docs/numerics.md, MUL and NORM)::

    x  = sat8(y)                                              DIRECT
    x  = sat8(rshift_round(y * side[slot], post))             SIDE: slot by slot what a ``to_side`` pass left
    x  = sat8(rshift_round(y * mantissa, post + exponent))    NORM, of the whole vector y, after its last slot

An engine with row RAM has an address list beside the banks (docs/isa.md, Rows): passes put digits there, and
``MEM`` passes read or change the rows that they stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum

from ternac.errors import ProgramError

WORDS = 12
"""16-bit words per instruction."""
DIGIT_BITS = 10
"""Bits of an entry of the address list."""
LIST_BITS = 4
"""Bits of a slot of the list in ``x_src`` and ``x_dst``; a context has at most ``2**LIST_BITS`` slots."""
TOKEN_DIGITS = 8
"""In ``pre`` of a ``VEC`` pass with source ROWS: v0 is the token's two digits and not the list."""
MAX_STEP = 7
"""log2 of the row words that a row takes, at most."""
PIPELINE = 24
"""Cycles after which an element's result can be read for certain, from the element on; the RTL asserts it."""


class Opcode(IntEnum):
    """Kinds of instructions. `TOPK` is reserved; an engine stops on it, on ``MEM`` and ``LOOP`` if it has no
    rows, and on ``MOVE`` if they are not in an SDRAM.
    """

    HALT = 0
    VEC = 1
    MEM = 2
    TOPK = 3
    LOOP = 4
    MOVE = 5


class Source(IntEnum):
    """Source of v0. `ROWS` is the sum of rows in a ``MEM`` pass, digits of the list or of the token in a
    ``VEC`` pass.
    """

    DOT = 0
    BANK = 1
    EMBED = 2
    ROWS = 3


class MulBy(IntEnum):
    """The multiplicand w."""

    ONE = 0
    BANK_C = 1
    NORM = 2
    SQUARE = 3


class Addend(IntEnum):
    """The addend after the second shift."""

    NONE = 0
    V2 = 1
    B = 2


# field name -> (word, lowest bit, width): the only home of the encoding; compiler, sequencer and docs use it
LAYOUT: dict[str, tuple[int, int, int]] = {
    "op": (0, 0, 4), "barrier": (0, 4, 1), "source": (0, 5, 2), "table_en": (0, 7, 1), "mul": (0, 8, 2),
    "sub": (0, 10, 1), "add": (0, 11, 2), "stat": (0, 13, 1), "to_logits": (0, 14, 1), "paced": (0, 15, 1),
    "to_bank": (1, 0, 1), "to_x": (1, 1, 1), "to_side": (1, 2, 1), "switch": (1, 3, 1), "wide1": (1, 4, 1),
    "wide2": (1, 5, 1), "rel_a": (1, 6, 1), "rel_b": (1, 7, 1), "rel_c": (1, 8, 1), "rel_d": (1, 9, 1),
    "table": (1, 10, 3), "norm_table": (1, 13, 3),
    "shift1": (2, 0, 5), "shift2": (2, 5, 5), "stride": (2, 10, 4), "lane": (2, 14, 2),
    "count": (3, 0, 16), "words": (4, 0, 9), "post": (4, 9, 5), "weight": (5, 0, 16),
    "a": (6, 0, 16), "b": (7, 0, 16), "c": (8, 0, 16), "d": (9, 0, 16), "tail": (10, 0, 8), "pre": (10, 8, 4),
    "x_src": (11, 0, 8), "x_dst": (11, 8, 8),
    # only engines with rows have these; they are 0 in every program without memories
    "to_list": (10, 12, 1), "arg": (10, 13, 1), "to_rows": (10, 14, 1), "mask": (10, 15, 1),
}  # fmt: skip


class Lane(IntEnum):
    """Operation of the side lane on y, on its way to the x buffer."""

    DIRECT = 0
    SIDE = 1
    NORM = 2


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One decoded instruction; field widths are in `LAYOUT`, meanings in docs/isa.md."""

    op: Opcode = Opcode.VEC
    barrier: int = 0
    """Wait until every earlier instruction has written its results."""
    source: Source = Source.DOT
    table_en: int = 0
    mul: MulBy = MulBy.ONE
    sub: int = 0
    add: Addend = Addend.NONE
    stat: int = 0
    """Sum the squares and start the norm unit (shift2 is its ``post``)."""
    to_logits: int = 0
    paced: int = 0
    """One element every fourth cycle: both A and B are bank operands and share a port."""
    to_bank: int = 0
    to_x: int = 0
    """Write the vector to the x buffer: y, or what ``lane`` makes of it."""
    lane: Lane = Lane.DIRECT
    to_side: int = 0
    """Write y to the side lane's multiplicand, 8 bits, slot 0 and up."""
    switch: int = 0
    """The next instruction is another context's."""
    x_dst: int = 0
    """First word of the x buffer that is written."""
    x_src: int = 0
    """First word of the x buffer that the dot units read."""
    pre: int = 0
    """Shift of the lane's NORM before it squares."""
    post: int = 0
    """Shift of the lane's product; the norm adds its exponent."""
    wide1: int = 0
    wide2: int = 0
    rel_a: int = 0
    """A is relative to the session's base; likewise rel_b, rel_c, rel_d."""
    rel_b: int = 0
    rel_c: int = 0
    rel_d: int = 0
    table: int = 0
    norm_table: int = 0
    shift1: int = 0
    shift2: int = 0
    stride: int = 0
    """log2 of the embedding words per token and column."""
    count: int = 0
    """Slots: elements per column."""
    words: int = 1
    """Weight words per row."""
    weight: int = 0
    """First weight word."""
    a: int = 0
    """First bank word of operand A, or first row correction when the source is DOT."""
    b: int = 0
    c: int = 0
    d: int = 0
    tail: int = 0
    """Columns that the last slot fills (1..columns): elements = columns * (count - 1) + tail; with ``arg``
    the last slot of each group."""
    to_list: int = 0
    """Write the low `DIGIT_BITS` bits of y to the list, from slot ``x_dst`` on."""
    arg: int = 0
    """Write the position of the largest y of each ``c`` slots to the list, one entry after the other."""
    to_rows: int = 0
    """``MEM``: take y away from every addressed row; ``d`` is ``keep``."""
    mask: int = 0
    """y is 0 but where an entry of the list says that ``c`` slots have their winner."""

    def encode(self) -> list[int]:
        """Return the 12 words of the instruction.

        Raises ProgramError if a field does not fit its width.
        """
        words = [0] * WORDS
        for name, (word, low, width) in LAYOUT.items():
            value = int(getattr(self, name))
            if not 0 <= value < 1 << width:
                raise ProgramError(f"instruction field {name} = {value} does not fit {width} bits")
            words[word] |= value << low
        return words

    @classmethod
    def decode(cls, words: list[int]) -> Instruction:
        """Return the instruction encoded in ``words`` (12 integers of 16 bits).

        Raises ProgramError if their number is wrong or a code is unknown.
        """
        if len(words) != WORDS:
            raise ProgramError(f"an instruction has {WORDS} words, not {len(words)}")
        raw = {n: words[w] >> low & ((1 << width) - 1) for n, (w, low, width) in LAYOUT.items()}
        kinds = {"op": Opcode, "source": Source, "mul": MulBy, "add": Addend, "lane": Lane}
        try:
            return cls(**{n: kinds[n](v) if n in kinds else v for n, v in raw.items()})  # type: ignore[arg-type]
        except ValueError as error:
            raise ProgramError(f"not an instruction: {error}") from None

    def __str__(self) -> str:
        """Return the opcode and every field that is not at its default, as an assembler would."""
        parts = [self.op.name]
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name != "op" and value != f.default:
                parts.append(f"{f.name}={value.name if isinstance(value, IntEnum) else value}")
        return " ".join(parts)


@dataclass(frozen=True, kw_only=True)
class RowAddress:
    """Where a ``MEM`` pass finds its rows, in fields that such a pass needs for nothing else.

    Slot s of head k is word ``first + base + ((shared ? 0 : k * R) + local) * 2**step + s``.  ``local`` is
    the low ``bits`` bits of entry k of the list at ``a``, with those of ``b`` behind them if there are two;
    R is the number of its values. ``base`` is ``session_base << shift`` for rows of the ``session``.
    """

    first: int
    bits: int
    step: int
    a: int
    b: int | None = None
    shared: bool = False
    session: bool = False
    shift: int = 0

    def fields(self) -> dict[str, int]:
        """Return the fields of an instruction that say it."""
        return {
            "weight": self.first,
            "post": self.bits,
            "norm_table": self.step,
            "x_src": self.a | (self.b or 0) << LIST_BITS,
            "pre": int(self.b is not None) | int(self.shared) << 1 | int(self.session) << 2,
            "stride": self.shift if self.session else 0,
        }

    @classmethod
    def of(cls, inst: Instruction) -> RowAddress:
        """Return what `fields` put into ``inst``."""
        two, shared, session = (bool(inst.pre >> i & 1) for i in range(3))
        return cls(
            first=inst.weight,
            bits=inst.post,
            step=inst.norm_table,
            a=inst.x_src & (1 << LIST_BITS) - 1,
            b=inst.x_src >> LIST_BITS if two else None,
            shared=shared,
            session=session,
            shift=inst.stride,
        )
