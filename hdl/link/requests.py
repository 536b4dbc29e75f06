"""The requests that the link controller executes, one component each, and the registers that they share.

Every request is started by the controller when its head has been read, reads the rest of its frame byte by
byte, and ends with ``finish`` and a status. An output of a request that is not being executed is 0, so that
the controller can join all of them by OR.
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.link import FOLLOWS, GREEDY_FLAG, RUN_HEAD, Status

__all__ = [
    "REQUEST",
    "CommitRequest",
    "ReadRequest",
    "RequestRegisters",
    "RunRequest",
    "RunSummary",
    "WriteRequest",
]

REQUEST = {
    "start": In(1),
    "step": In(1),
    "at_end": In(1),
    "advance": Out(1),
    "store": Out(1),
    "finish": Out(1),
    "outcome": Out(3),
}
"""Ports of every request.

Members
-------
start : In(1)
    Pulse: begin.
step : In(1)
    The byte at the pointer and ``at_end`` are settled; nothing happens before.
at_end : In(1)
    The pointer is behind the last byte of the request.
advance : Out(1)
    Pulse: go to the next byte.
store : Out(1)
    Pulse: append the low byte of the word register to the answer; the word turns by a byte.
finish : Out(1)
    Pulse: the request is executed, or refused.
outcome : Out(3)
    With ``finish``: its status.
"""


class RequestRegisters(wiring.Component):
    """The head of a request and a word of 18 bits.

    The heads of WRITE, READ, RUN and BATCH go through one shift register; the short ones use its last bytes.

    Members
    -------
    byte : In(8)
        The byte at the pointer.
    shift : In(1)
        Pulse: shift it into the head.
    next_address : In(1)
        Pulse: increment ``address``.
    count_down : In(1)
        Pulse: decrement ``number``.
    keep_rng : In(1)
        Pulse: replace ``rng`` by ``new_rng``.
    new_rng : In(32)
        The generator of a session.
    load : In(1)
        Pulse: ``byte`` becomes part ``part`` of the word.
    part : In(2)
        0 to 2, the lowest first.
    keep_word : In(1)
        Pulse: replace the word by ``new_word``.
    new_word : In(16)
        A token or a word of a bank.
    turn : In(1)
        Pulse: rotate the word's low 16 bits by a byte.
    word : Out(18)
        The word.
    rng : Out(32)
        RUN: the generator.
    top_k : Out(16)
        RUN, BATCH: how many logits take part in a draw.
    inv_m : Out(8)
        RUN, BATCH: mantissa of the inverse temperature.
    number : Out(8)
        The memory of WRITE and READ is its low bits; what READ, RUN and BATCH count.
    block : Out(8)
        WRITE, READ: the block. RUN, BATCH: the flags below.
    inv_s : Out(5)
        RUN, BATCH: shift of the inverse temperature.
    greedy : Out(1)
        RUN, BATCH: choose the largest logit.
    follows : Out(1)
        RUN: only directly after the RUN before.
    address : Out(16)
        WRITE, READ: the word. RUN: the session's base. BATCH: words from one context's entry to the next.
    some : Out(1)
        ``number`` is not 0, two cycles late.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "byte": In(8),
                "shift": In(1),
                "next_address": In(1),
                "count_down": In(1),
                "keep_rng": In(1),
                "new_rng": In(32),
                "load": In(1),
                "part": In(2),
                "keep_word": In(1),
                "new_word": In(16),
                "turn": In(1),
                "word": Out(18),
                "rng": Out(32),
                "top_k": Out(16),
                "inv_m": Out(8),
                "number": Out(8),
                "block": Out(8),
                "inv_s": Out(5),
                "greedy": Out(1),
                "follows": Out(1),
                "address": Out(16),
                "some": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        head = Signal(8 * RUN_HEAD, name="head")
        number, block, address = head[56:64], head[64:72], head[72:88]
        m.d.comb += [
            self.rng.eq(head[0:32]),
            self.top_k.eq(head[32:48]),
            self.inv_m.eq(head[48:56]),
            self.number.eq(number),
            self.block.eq(block),
            self.inv_s.eq(block[:5]),
            self.greedy.eq(block[GREEDY_FLAG.bit_length() - 1]),
            self.follows.eq(block[FOLLOWS.bit_length() - 1]),
            self.address.eq(address),
        ]
        m.d.sync += self.some.eq(number.any())
        with m.If(self.shift):
            m.d.sync += head.eq(Cat(head[8:], self.byte))
        with m.If(self.next_address):
            m.d.sync += address.eq(address + 1)
        with m.If(self.count_down):
            m.d.sync += number.eq(number - 1)
        with m.If(self.keep_rng):
            m.d.sync += head[0:32].eq(self.new_rng)

        word = self.word
        with m.If(self.load):
            with m.Switch(self.part):
                for i, piece in enumerate((word[:8], word[8:16], word[16:18])):
                    with m.Case(i):
                        m.d.sync += piece.eq(self.byte)
        with m.If(self.keep_word):
            m.d.sync += word.eq(self.new_word)
        with m.Elif(self.turn):
            m.d.sync += word[:16].eq(word[:16].rotate_left(8))
        return m


class CommitRequest(wiring.Component):
    """COMMIT: copies the program hash from the frame to its place in the RAM.

    Members
    -------
    load : Out(1)
        Pulse: the word takes the byte at the pointer.
    restore : Out(1)
        Pulse: the next bytes of the answer go to its usual place again.

    The others are those of `REQUEST`.
    """

    def __init__(self) -> None:
        super().__init__({**REQUEST, "load": Out(1), "restore": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    with m.If(self.start):
                        m.next = "LOAD"
                with m.State("LOAD"):
                    m.d.comb += [self.load.eq(1), self.advance.eq(1)]
                    m.next = "STORE"
                with m.State("STORE"):
                    m.d.comb += self.store.eq(1)
                    m.next = "LOAD"
                    with m.If(self.at_end):
                        m.d.comb += [self.restore.eq(1), self.finish.eq(1), self.outcome.eq(Status.OK)]
                        m.next = "WAIT"
        return m


class WriteRequest(wiring.Component):
    """WRITE: words of one memory of the engine, from an address on.

    Parameters
    ----------
    word_bytes : bytes of a word of each memory, in the order of Mem.

    Members
    -------
    number : In(8)
        The memory.
    load : Out(1)
        Pulse: the byte at the pointer becomes part ``part`` of the word.
    part : Out(2)
        That part.
    wr_en : Out(1)
        Pulse: the word is complete.

    The others are those of `REQUEST`.
    """

    def __init__(self, word_bytes: Sequence[int]) -> None:
        self.word_bytes = tuple(word_bytes)
        super().__init__({**REQUEST, "number": In(8), "load": Out(1), "part": Out(2), "wr_en": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        count, last = Signal(2, name="count"), Signal(2, name="last")
        with m.Switch(self.number[:3]):
            for memory, size in enumerate(self.word_bytes):
                with m.Case(memory):
                    m.d.comb += last.eq(size - 1)
        m.d.comb += self.part.eq(count)
        m.d.sync += self.wr_en.eq(0)
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    m.d.sync += count.eq(0)
                    with m.If(self.start):
                        m.next = "WRITE"
                with m.State("WRITE"):
                    with m.If((self.number >= len(self.word_bytes)) | self.at_end):
                        m.d.comb += self.finish.eq(1)
                        m.next = "WAIT"
                        with m.If(self.number >= len(self.word_bytes)):
                            m.d.comb += self.outcome.eq(Status.BAD_MEMORY)
                        with m.Elif(count.any()):
                            m.d.comb += self.outcome.eq(Status.BAD_LENGTH)
                    with m.Else():
                        m.d.comb += [self.load.eq(1), self.advance.eq(1)]
                        m.d.sync += count.eq(count + 1)
                        with m.If(count == last):
                            m.d.sync += [count.eq(0), self.wr_en.eq(1)]
        return m


class ReadRequest(wiring.Component):
    """READ: words of a bank.

    Members
    -------
    some : In(1)
        Words are left.
    rd_en : Out(1)
        Pulse, to the engine: read a word.
    rd_valid : In(1)
        Pulse, from the engine: there it is.
    got : Out(1)
        Pulse: keep the word; go to the next one's address.

    The others are those of `REQUEST`.
    """

    def __init__(self) -> None:
        super().__init__({**REQUEST, "some": In(1), "rd_en": Out(1), "rd_valid": In(1), "got": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    with m.If(self.start):
                        m.next = "READ"
                with m.State("READ"):
                    with m.If(self.at_end & self.some):
                        m.d.comb += self.rd_en.eq(1)
                        m.next = "WORD"
                    with m.Else():
                        m.d.comb += [
                            self.finish.eq(1),
                            self.outcome.eq(Mux(self.at_end, Status.OK, Status.BAD_LENGTH)),
                        ]
                        m.next = "WAIT"
                with m.State("WORD"):
                    with m.If(self.rd_valid):
                        m.d.comb += self.got.eq(1)
                        m.next = "LOW"
                with m.State("LOW"):
                    m.d.comb += self.store.eq(1)
                    m.next = "HIGH"
                with m.State("HIGH"):
                    m.d.comb += self.store.eq(1)
                    m.next = "READ"
        return m


class RunRequest(wiring.Component):
    """RUN: feeds tokens to a session and lets it choose some; a RUN that FOLLOWS needs the one before.

    Members
    -------
    some : In(1)
        Tokens are left to be chosen.
    whole : In(1)
        The request ends with a whole token.
    follows : In(1)
        The request FOLLOWS.
    in_order : In(1)
        The one before was a RUN, and was answered with OK.
    load : Out(1)
        Pulse: the byte at the pointer becomes part ``part`` of the word.
    part : Out(1)
        That part.
    busy : In(1)
        From the engine.
    engine_start : Out(1)
        Pulse, to the engine: run with the word as token.
    engine_done : In(1)
        Pulse, from the engine.
    keep : Out(1)
        Pulse: the word becomes the engine's next token, the generator the engine's.
    chosen : Out(1)
        Pulse: likewise, and a token less is left to be chosen.
    summarize : Out(1)
        Pulse: all tokens are fed and chosen. It takes the place of ``finish`` with OK.

    The others are those of `REQUEST`.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                **REQUEST,
                "some": In(1),
                "whole": In(1),
                "follows": In(1),
                "in_order": In(1),
                "load": Out(1),
                "part": Out(1),
                "busy": In(1),
                "engine_start": Out(1),
                "engine_done": In(1),
                "keep": Out(1),
                "chosen": Out(1),
                "summarize": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bare, high = Signal(name="bare"), Signal(name="high")
        following, chose = Signal(name="following"), Signal(name="chose")
        m.d.comb += [following.eq(bare & self.follows), self.part.eq(high)]
        with m.If(self.step):
            with m.FSM():
                with m.State("WAIT"):
                    m.d.sync += [bare.eq(1), high.eq(0)]
                    with m.If(self.start):
                        m.next = "TOKEN"
                with m.State("TOKEN"):
                    with m.If(following & ~self.in_order):
                        m.d.comb += [self.finish.eq(1), self.outcome.eq(Status.OUT_OF_ORDER)]
                        m.next = "WAIT"
                    with m.Elif(following & self.at_end & chose & self.some):
                        m.d.comb += self.keep.eq(1)
                        m.next = "START"
                    with m.Elif(self.at_end | ~self.whole):
                        m.d.comb += [self.finish.eq(1), self.outcome.eq(Status.BAD_LENGTH)]
                        m.next = "WAIT"
                    with m.Else():
                        m.d.comb += [self.load.eq(1), self.advance.eq(1)]
                        m.d.sync += [high.eq(1), bare.eq(0), chose.eq(0)]
                        with m.If(high):
                            m.next = "START"
                with m.State("START"):
                    m.d.sync += high.eq(0)
                    with m.If(~self.busy):
                        m.d.comb += self.engine_start.eq(1)
                        m.next = "RUN"
                with m.State("RUN"):
                    with m.If(self.engine_done):
                        with m.If(self.at_end & self.some):
                            m.d.comb += [self.keep.eq(1), self.chosen.eq(1)]
                            m.d.sync += chose.eq(1)
                            m.next = "LOW"
                        with m.Elif(self.at_end):
                            m.d.comb += self.summarize.eq(1)
                            m.next = "WAIT"
                        with m.Else():
                            m.next = "TOKEN"
                with m.State("LOW"):
                    m.d.comb += self.store.eq(1)
                    m.next = "HIGH"
                with m.State("HIGH"):
                    m.d.comb += self.store.eq(1)
                    with m.If(self.some):
                        m.next = "START"
                    with m.Else():
                        m.d.comb += self.summarize.eq(1)
                        m.next = "WAIT"
        return m


class RunSummary(wiring.Component):
    """The end of a RUN's answer, its generator and its cycles, or of a BATCH's, its cycles.

    Members
    -------
    start : In(1)
        Pulse: begin.
    cycles_only : In(1)
        The summary of a BATCH, taken with ``start``.
    step : In(1)
        The answer can take a byte.
    store : Out(1)
        Pulse: append a byte to the answer.
    of_cycles : Out(1)
        It is byte ``number`` of the cycles, else the low byte of the generator, which is shifted.
    number : Out(2)
        The byte's number.
    finish : Out(1)
        Pulse: the last one.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "cycles_only": In(1),
                "step": In(1),
                "store": Out(1),
                "of_cycles": Out(1),
                "number": Out(2),
                "finish": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        running, count = Signal(name="running"), Signal(3, name="count")
        m.d.comb += [
            self.store.eq(running & self.step),
            self.of_cycles.eq(count[2]),
            self.number.eq(count[:2]),
            self.finish.eq(self.store & (count == 7)),
        ]
        with m.If(self.start):
            m.d.sync += [running.eq(1), count.eq(Mux(self.cycles_only, 4, 0))]
        with m.Elif(self.store):
            m.d.sync += [count.eq(count + 1), running.eq(count != 7)]
        return m
