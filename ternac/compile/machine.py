"""The engine's instructions executed in NumPy on an image's memories: what the RTL must do, word for word.

It reads only the packed memories and the microcode, never the program, so that packing and placement are
checked on their own. It has no notion of time: each pass ends before the next begins, so a missing barrier
shows only in the RTL.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image
from ternac.compile.isa import (
    DIGIT_BITS,
    TOKEN_DIGITS,
    WORDS,
    Addend,
    Instruction,
    Lane,
    MulBy,
    Opcode,
    RowAddress,
    Source,
)
from ternac.compile.layout import from_slots, row_blocks, row_values, stream_trits, weight_trits
from ternac.program.numerics import norm_exponent, rshift_round, sat8, sat16

Ints = npt.NDArray[np.int64]


class Machine:
    """An engine that holds ``image``; `step` runs one token in one session slot.

    ``bank`` is int64 ``[columns, bank_depth]``, ``rows`` int64 ``[columns, rows]``; ``logits`` are the last
    ones, int32 ``[vocabulary]``.
    """

    def __init__(self, image: Image) -> None:
        g = self.geometry = image.geometry
        self.image = image
        code = image.memories[Mem.PROGRAM].T.reshape(-1)
        self.code = [
            Instruction.decode([int(w) for w in code[i : i + WORDS]]) for i in range(0, len(code), WORDS)
        ]
        self.trits = (stream_trits if g.streams else weight_trits)(image.memories[Mem.WEIGHT], g)
        self.streamed = 0  # weight words of this token that have been used, where weights stream
        self.bank: Ints = np.zeros((g.columns, g.bank_depth), np.int64)
        self.x: Ints = np.zeros(g.x_depth * g.lanes, np.int64)
        self.side: Ints = np.zeros((g.columns, 0), np.int64)
        self.tables = image.memories[Mem.TABLE][0].astype(np.uint16).view(np.int16).astype(np.int64)
        self.norms = image.memories[Mem.NORM][0].astype(np.int64)
        blocks = image.memories[Mem.EMBED]
        parts = [blocks >> (8 * i) & 0xFF for i in range(g.embed_block_bits // 8)]
        self.embed = np.stack(parts, 1).reshape(g.columns, -1).astype(np.uint8).view(np.int8).astype(np.int64)
        self.logits: npt.NDArray[np.int32] = np.zeros(0, np.int32)
        self.mantissa = self.exponent = 0
        self.rows: Ints = np.zeros((g.columns, g.rows), np.int64)
        if Mem.ROWS in image.memories:
            constants = image.memories[Mem.ROWS].astype(np.uint8).view(np.int8)
            self.rows[:, : constants.shape[1]] = constants
        self.digits: Ints = np.zeros(g.list_slots * g.columns, np.int64)

    def step(
        self, token: int, session_base: int = 0, entry: int = 0, loops: int | None = None
    ) -> npt.NDArray[np.int32]:
        """Run the microcode from word ``entry`` for ``token``; return the logits.

        A LOOP runs as often as it says, or ``loops`` times.
        """
        self.streamed = 0
        at, runs = entry // WORDS, 0
        while (inst := self.code[at]).op != Opcode.HALT:
            at += 1
            if inst.op == Opcode.LOOP:
                runs += 1
                again = runs < (loops or inst.count)
                at, runs = (inst.a // WORDS, runs) if again else (at, 0)
                continue
            self.execute(inst, token, session_base)
        return self.logits

    def execute(self, i: Instruction, token: int, base: int) -> None:
        """Run one pass over all slots."""
        c = self.geometry.columns

        def operand(name: str) -> Ints:
            start = getattr(i, name) + base * getattr(i, "rel_" + name)
            return self.bank[:, start : start + i.count]

        if i.source == Source.ROWS:
            v0 = self.digit_slots(i, token) if i.op == Opcode.VEC else self.row_sums(i, base)
        elif i.source == Source.DOT:
            weight = self.streamed if self.geometry.streams else i.weight
            words = self.trits[weight : weight + i.count * i.words]
            self.streamed += i.count * i.words
            rows = words.reshape(i.count, i.words, c, -1).transpose(2, 0, 1, 3).reshape(c, i.count, -1)
            x = self.x[i.x_src * self.geometry.lanes :][: rows.shape[2]]
            v0 = np.where(rows < 0, -x - 1, rows * x).sum(2)
            if self.geometry.streams:
                v0 += (rows < 0).sum(2)
            else:
                v0 = v0 + self.image.memories[Mem.BIAS][:, i.a : i.a + i.count]
        elif i.source == Source.EMBED:
            start = token << i.stride
            v0 = self.embed[:, start : start + i.count] << 8
        else:
            v0 = operand("a")
        v0 = v0.astype(np.int64)
        v1 = (sat16 if i.wide1 else sat8)(rshift_round(v0, i.shift1))
        v2 = self.tables[i.table * 256 + v1 + 128] if i.table_en else v1
        b = operand("b") if i.sub or i.add == Addend.B else np.zeros_like(v2)
        u = b - v2 if i.sub else v2
        shift = i.shift2
        w: Ints | int = 1
        if i.mul == MulBy.BANK_C:
            w = (operand("c") + 256 & 511) - 256
        elif i.mul == MulBy.NORM:
            w, shift = self.mantissa, self.exponent
        elif i.mul == MulBy.SQUARE:
            w = v2
        p = u * w
        if i.stat:
            exponent, index = norm_exponent(int(p.sum()))
            self.mantissa = int(self.norms[i.norm_table * 256 + index])
            self.exponent = exponent + i.shift2
            return
        q = rshift_round(p, shift) + {Addend.NONE: 0, Addend.V2: v2, Addend.B: b}[i.add]
        y = (sat16 if i.wide2 else sat8)(q)
        if i.mask:
            y = np.where(self.winner_places(i), y, 0)
        if i.to_list:
            digits = y.T.reshape(-1) & (1 << DIGIT_BITS) - 1
            self.digits[i.x_dst * c :][: len(digits)] = digits
        if i.to_rows:
            self.update_rows(i, y, base)
        if i.arg:
            found = self.largest(i, y)
            self.digits[i.x_dst * c :][: len(found)] = found
        if i.to_bank:
            start = i.d + base * i.rel_d
            self.bank[:, start : start + i.count] = y
        if i.to_x:
            start = i.x_dst * self.geometry.lanes
            self.x[start : start + i.count * c] = self.lane(i, y).T.reshape(-1)
        if i.to_side:
            self.side = sat8(y)
        if i.to_logits:
            self.logits = y.T.reshape(-1)[: c * (i.count - 1) + i.tail].astype(np.int32)

    def lane(self, i: Instruction, y: Ints) -> Ints:
        """Return what the side lane makes of a pass's results ``[columns, slots]``."""
        if i.lane == Lane.DIRECT:
            return sat8(y)
        if i.lane == Lane.SIDE:
            return sat8(rshift_round(y * self.side[:, : i.count], i.post))
        q = sat8(rshift_round(y, i.pre))
        q[i.tail :, -1] = 0
        exponent, index = norm_exponent(int((q * q).sum()))
        mantissa = int(self.norms[i.norm_table * 256 + index])
        return sat8(rshift_round(y * mantissa, i.post + exponent))

    def digit_slots(self, i: Instruction, token: int) -> Ints:
        """Return the digits of the list, or of the token, as ``[columns, slots]``."""
        c = self.geometry.columns
        if i.pre & TOKEN_DIGITS:
            found = np.zeros((c, i.count), np.int64)
            found[:2, 0] = token >> 8, token & 255
            return found
        return self.digits[i.x_src * c :][: i.count * c].reshape(-1, c).T

    def row_words(self, i: Instruction, base: int) -> Ints:
        """Return the word in which each row begins, ``[heads]``."""
        c, where = self.geometry.columns, RowAddress.of(i)
        local, values = np.zeros(i.words, np.int64), 1
        for slot in (where.a, where.b):
            if slot is not None:
                values <<= where.bits
                local = (local << where.bits) + (self.digits[slot * c :][: i.words] & (1 << where.bits) - 1)
        if not where.shared:
            local = local + np.arange(i.words) * values
        return (where.first + (base << where.shift if where.session else 0) + (local << where.step)) & 0xFFFF

    def row_sums(self, i: Instruction, base: int) -> Ints:
        """Return the sum of the rows at the address, ``[columns, slots]``."""
        at = self.row_words(i, base)[:, None] + np.arange(i.count)
        return self.rows[:, at].sum(1)

    def update_rows(self, i: Instruction, e: Ints, base: int) -> None:
        """Take ``e`` and the fading part of each row away from every row at the address."""
        at = self.row_words(i, base)[:, None] + np.arange(i.count)
        old = self.rows[:, at]
        fades = rshift_round(old, i.d) if i.d else 0
        self.rows[:, at] = sat8(old - fades - e[:, None, :])

    def largest(self, i: Instruction, y: Ints) -> Ints:
        """Return the position of the largest y in each group of slots."""
        c = self.geometry.columns
        groups = y.T.reshape(-1, i.c * c)[:, : c * (i.c - 1) + i.tail]
        return groups.argmax(1)

    def winner_places(self, i: Instruction) -> npt.NDArray[np.bool_]:
        """Return where a group of slots has its winner, ``[columns, slots]``."""
        c = self.geometry.columns
        winners = self.digits[i.x_src * c :][: i.count // i.c]
        places = np.arange(i.c * c) == winners[:, None]
        return places.reshape(-1, c).T

    def read_rows(self, name: str, session_base: int = 0) -> npt.NDArray[np.int8]:
        """Return the rows of a memory of the image, ``[rows, width]``."""
        s, words = self.image.rows[name], self._row_words(name, session_base)
        return row_values((words & 0xFF).astype(np.uint32), s.width, self.geometry, s.step)

    def write_rows(self, name: str, rows: npt.NDArray[np.int8], session_base: int = 0) -> None:
        """Replace the rows of a memory of the image."""
        words = row_blocks(rows, self.geometry, self.image.rows[name].step)
        self._row_words(name, session_base)[...] = words.astype(np.uint8).view(np.int8)

    def _row_words(self, name: str, session_base: int) -> Ints:
        s = self.image.rows[name]
        start = s.address + (session_base << self.image.row_shift)
        return self.rows[:, start : start + (s.rows << s.step)]

    def read(self, name: str, session_base: int = 0) -> npt.NDArray[np.int32]:
        """Return a symbol or a state of the image, as int32."""
        state = name in self.image.states
        s = self.image.states[name] if state else self.image.symbols[name]
        start = s.address + (session_base if state else 0)
        words = self.bank[:, start : start + s.slots(self.geometry)] & 0xFFFF
        return from_slots(words.astype(np.uint32), s.length, s.parts)
