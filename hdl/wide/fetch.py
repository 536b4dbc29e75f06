"""What is read beside weights: gains and curves in the order of their use, rows of the embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.reader import AxiReader

__all__ = ["ConstantReader", "RowReader", "WordSplitter"]

TOKEN_BITS = 16
_ELEMENT_BITS = 16


def _ratio(port_bits: int, lanes: int) -> tuple[int, int]:
    """Words of a beat and beats of a word; one of them is 1.

    Raises ValueError if lanes are no power of two.
    """
    if lanes < 1 or lanes & (lanes - 1):
        raise ValueError(f"lanes must be a power of two, not {lanes}")
    word = _ELEMENT_BITS * lanes
    return max(1, port_bits // word), max(1, word // port_bits)


class WordSplitter(wiring.Component):
    """Beats of a port as words of ``lanes`` elements: one beat is several words, or several beats are one.

    Lowest first. A beat with ``last`` holds ``tail`` + 1 words and then padding. No cycle is lost where a
    beat is several words; where it is not, a word comes with its last beat.

    Members
    -------
    beats : In(stream.Signature(beat_layout))
        ``data``, and ``last`` with a region's last.
    tail : In(range(words of a beat))
        Words of a last beat, less one.
    words : Out(stream.Signature(word_layout))
        The words.
    """

    def __init__(self, port_bits: int, lanes: int) -> None:
        self.port_bits, self.lanes = port_bits, lanes
        self.split, self.joined = _ratio(port_bits, lanes)
        self.beat_layout = data.StructLayout({"data": port_bits, "last": 1})
        self.word_layout = data.ArrayLayout(signed(_ELEMENT_BITS), lanes)
        super().__init__(
            {
                "beats": In(stream.Signature(self.beat_layout)),
                "tail": In(range(self.split)),
                "words": Out(stream.Signature(self.word_layout)),
            }
        )

    def model(self, beats: Sequence[tuple[int, int]], tail: int) -> list[int]:
        """Words of (data, last)."""
        if self.joined > 1:
            groups = [beats[i : i + self.joined] for i in range(0, len(beats), self.joined)]
            return [sum(x << self.port_bits * i for i, (x, _) in enumerate(group)) for group in groups]
        bits = self.port_bits // self.split
        return [
            x >> bits * i & (1 << bits) - 1
            for x, last in beats
            for i in range(tail + 1 if last else self.split)
        ]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        beat, words = self.beats.payload, self.words
        word = words.payload.as_value()
        if self.split == self.joined == 1:
            m.d.comb += [
                word.eq(beat.data), words.valid.eq(self.beats.valid), self.beats.ready.eq(words.ready),
            ]  # fmt: skip
        elif self.split > 1:
            index, at_end = Signal(range(self.split), name="index"), Signal(name="at_end")
            m.d.comb += [
                at_end.eq(index == Mux(beat.last, self.tail, self.split - 1)),
                word.eq(beat.data.word_select(index, len(word))),
                words.valid.eq(self.beats.valid),
                self.beats.ready.eq(words.ready & at_end),
            ]
            with m.If(words.valid & words.ready):
                m.d.sync += index.eq(Mux(at_end, 0, index + 1))
        else:
            index = Signal(range(self.joined), name="index")
            below = Signal(len(word) - self.port_bits, name="below")
            at_end = index == self.joined - 1
            m.d.comb += [
                word.eq(Cat(below, beat.data)),
                words.valid.eq(self.beats.valid & at_end),
                self.beats.ready.eq(words.ready | ~at_end),
            ]
            with m.If(self.beats.valid & self.beats.ready):
                m.d.sync += [
                    index.eq(Mux(at_end, 0, index + 1)),
                    below.eq(Cat(below, beat.data)[self.port_bits :]),
                ]
        return m


class ConstantReader(wiring.Component):
    """A region of memory, word by word, from its begin again and again: one pass a token.

    It reads ahead as far as its FIFO reaches, over a pass's end into the next one, whatever takes the words.

    :param depth: beats of the FIFO; what a token takes between two matrices should fit.
    :param port_bits, burst, outstanding, address_bits: of `AxiReader`.

    Members
    -------
    enable : In(1)
        Begin pass after pass; ``base`` and ``words`` are stable meanwhile.
    base : In(address_bits)
        Address of the region, a multiple of the port's bytes.
    words : In(24)
        Words of the region, at least 1.
    constants : Out(stream.Signature(word_layout))
        The words.
    fault : Out(2)
        As of `AxiReader`.
    clear : In(1)
        Pulse: forget the faults.
    m_axi_* : read_port
        AXI4 read master.
    """

    WORDS_BITS = 24

    def __init__(
        self,
        port_bits: int,
        lanes: int,
        *,
        address_bits: int = 32,
        depth: int = 512,
        burst: int = 32,
        outstanding: int = 4,
    ) -> None:
        self.reader = AxiReader(
            port_bits, address_bits=address_bits, depth=depth, burst=burst, outstanding=outstanding, queue=2
        )
        self.splitter = WordSplitter(port_bits, lanes)
        self.word_layout = self.splitter.word_layout
        super().__init__(
            {
                "enable": In(1),
                "base": In(address_bits),
                "words": In(self.WORDS_BITS),
                "constants": Out(stream.Signature(self.word_layout)),
                "fault": Out(2),
                "clear": In(1),
                **read_port("m_axi", address_bits=address_bits, data_bits=port_bits),
            }
        )

    def model(self, memory: npt.NDArray[np.uint8], base: int, words: int) -> npt.NDArray[np.int16]:
        """int16[words, lanes] of one pass."""
        lanes = self.splitter.lanes
        return memory[base : base + 2 * words * lanes].view(np.int16).reshape(words, lanes)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.reader = reader = self.reader
        m.submodules.splitter = splitter = self.splitter
        wiring.connect(m, reader.words, splitter.beats)
        wiring.connect(m, splitter.words, wiring.flipped(self.constants))
        _pass_port(m, reader, self)
        split, joined = splitter.split, splitter.joined
        beats = (self.words + (split - 1)) >> split.bit_length() - 1
        m.d.comb += [
            reader.requests.valid.eq(self.enable),
            reader.requests.payload.address.eq(self.base),
            reader.requests.payload.beats.eq(beats << joined.bit_length() - 1),
            splitter.tail.eq(self.words[: split.bit_length() - 1] - 1),
            reader.clear.eq(self.clear),
            self.fault.eq(reader.fault),
        ]
        return m


class RowReader(wiring.Component):
    """A row of a matrix of i16 in memory for each token that comes: the embedding.

    Rows follow each other, each padded to whole beats. The address is found by shifts and sums in 16 cycles.

    :param depth: beats of the FIFO; the others are those of `AxiReader`.

    Members
    -------
    base : In(address_bits)
        Address of row 0, a multiple of the port's bytes.
    words : In(16)
        Words of a row, at least 1.
    tokens : In(stream.Signature(16))
        Which row.
    row : Out(stream.Signature(word_layout))
        Its words.
    fault : Out(2)
        As of `AxiReader`.
    clear : In(1)
        Pulse: forget the faults.
    m_axi_* : read_port
        AXI4 read master.
    """

    WORDS_BITS = 16

    def __init__(
        self,
        port_bits: int,
        lanes: int,
        *,
        address_bits: int = 32,
        depth: int = 66,
        burst: int = 32,
        outstanding: int = 2,
    ) -> None:
        self.reader = AxiReader(
            port_bits, address_bits=address_bits, depth=depth, burst=burst, outstanding=outstanding, queue=2
        )
        self.splitter = WordSplitter(port_bits, lanes)
        self.word_layout = self.splitter.word_layout
        super().__init__(
            {
                "base": In(address_bits),
                "words": In(self.WORDS_BITS),
                "tokens": In(stream.Signature(TOKEN_BITS)),
                "row": Out(stream.Signature(self.word_layout)),
                "fault": Out(2),
                "clear": In(1),
                **read_port("m_axi", address_bits=address_bits, data_bits=port_bits),
            }
        )

    def model(
        self, memory: npt.NDArray[np.uint8], base: int, words: int, token: int
    ) -> npt.NDArray[np.int16]:
        """int16[words, lanes] of a token."""
        lanes, size = self.splitter.lanes, self.reader.word_bytes
        begin = base + token * -(-2 * words * lanes // size) * size
        return memory[begin : begin + 2 * words * lanes].view(np.int16).reshape(words, lanes)

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.reader = reader = self.reader
        m.submodules.splitter = splitter = self.splitter
        wiring.connect(m, reader.words, splitter.beats)
        wiring.connect(m, splitter.words, wiring.flipped(self.row))
        _pass_port(m, reader, self)
        split, joined = splitter.split, splitter.joined
        shift = reader.word_bytes.bit_length() - 1
        beats = Signal(self.WORDS_BITS + joined.bit_length() - 1, name="beats")
        # The token's bits, the highest first: twice what is found, and a row for a 1. Then the base.
        place = Signal(reader.address_bits - shift, name="place")
        bits, left = Signal(TOKEN_BITS, name="bits"), Signal(range(TOKEN_BITS + 1), name="left")
        waiting = Signal(name="waiting")
        m.d.comb += [
            beats.eq(((self.words + (split - 1)) >> split.bit_length() - 1) << joined.bit_length() - 1),
            self.tokens.ready.eq(~waiting & ~left.any()),
            reader.requests.valid.eq(waiting),
            reader.requests.payload.address.eq(Cat(Const(0, shift), place + self.base[shift:])),
            reader.requests.payload.beats.eq(beats),
            splitter.tail.eq(self.words[: split.bit_length() - 1] - 1),
            reader.clear.eq(self.clear),
            self.fault.eq(reader.fault),
        ]
        with m.If(self.tokens.valid & self.tokens.ready):
            m.d.sync += [bits.eq(self.tokens.payload), left.eq(TOKEN_BITS), place.eq(0)]
        with m.If(left.any()):
            m.d.sync += [
                left.eq(left - 1),
                bits.eq(bits << 1),
                place.eq((place << 1) + Mux(bits[-1], beats, 0)),
                waiting.eq(left == 1),
            ]
        with m.If(waiting & reader.requests.ready):
            m.d.sync += waiting.eq(0)
        return m


def _pass_port(m: Module, reader: AxiReader, outer: Any) -> None:
    """Wire a reader's AXI port to its owner's."""
    for name, member in read_port("m_axi", address_bits=13, data_bits=reader.data_bits).items():
        inside, outside = getattr(reader, name), getattr(outer, name)
        m.d.comb += outside.eq(inside) if member.flow is Out else inside.eq(outside)
