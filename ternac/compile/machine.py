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
from ternac.compile.isa import WORDS, Addend, Instruction, Lane, MulBy, Opcode, Source
from ternac.compile.layout import from_slots, stream_trits, weight_trits
from ternac.program.numerics import norm_exponent, rshift_round, sat8, sat16

Ints = npt.NDArray[np.int64]


class Machine:
    """An engine that holds ``image``; `step` runs one token in one session slot.

    ``bank`` is int64 ``[columns, bank_depth]``, ``logits`` the last logits as int32 ``[vocabulary]``.
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

    def step(self, token: int, session_base: int = 0, entry: int = 0) -> npt.NDArray[np.int32]:
        """Run the microcode from word ``entry`` for ``token``; return the logits."""
        self.streamed = 0
        for inst in self.code[entry // WORDS :]:
            if inst.op == Opcode.HALT:
                break
            self.execute(inst, token, session_base)
        return self.logits

    def execute(self, i: Instruction, token: int, base: int) -> None:
        """Run one pass over all slots."""
        c = self.geometry.columns

        def operand(name: str) -> Ints:
            start = getattr(i, name) + base * getattr(i, "rel_" + name)
            return self.bank[:, start : start + i.count]

        if i.source == Source.DOT:
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

    def read(self, name: str, session_base: int = 0) -> npt.NDArray[np.int32]:
        """Return a symbol or a state of the image, as int32."""
        state = name in self.image.states
        s = self.image.states[name] if state else self.image.symbols[name]
        start = s.address + (session_base if state else 0)
        words = self.bank[:, start : start + self.geometry.slots(s.length)] & 0xFFFF
        return from_slots(words.astype(np.uint32), s.length)
