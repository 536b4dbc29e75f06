"""BATCH: several sessions in the engine at the same time."""

from __future__ import annotations

from amaranth import Array, Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.link.frames import BYTE_CYCLES
from ternac.hdl.link.requests import REQUEST
from ternac.link import BATCH_MEMBER, MAX_BATCH_TOKENS, Status

__all__ = ["BATCH_STAGGER", "BatchRequest"]

BATCH_STAGGER = BATCH_MEMBER * BYTE_CYCLES + 1
"""Cycles from the start of one session of a BATCH to that of the next."""


class BatchRequest(wiring.Component):
    """BATCH: starts every session in turn and feeds each what it chose; tokens and generator go to its part
    of the answer.

    Parameters
    ----------
    contexts : of the engine, at most 4.

    Members
    -------
    byte : In(8)
        The byte at the pointer.
    number : In(8)
        Tokens for each session.
    entry_step : In(16)
        Words of microcode from one context's entry to the next one's.
    result : In(10)
        Where the next byte of the answer goes.
    place : Out(1)
        Pulse: put the next bytes of the answer at ``place_at``.
    place_at : Out(10)
        That address.
    of_rng : Out(1)
        With ``store``: the byte is ``rng_byte``, not that of the word register.
    rng_byte : Out(8)
        A byte of a session's generator.
    engine_start : Out(1)
        Pulse, to the engine: run, with what follows.
    context : Out(2)
        The context.
    entry : Out(16)
        The entry of its microcode.
    again : Out(1)
        It continues with its own token.
    token : Out(16)
        The first token of a session.
    session_base : Out(16)
        The bank word at which its state begins.
    rng : Out(32)
        Its generator.
    hold_done : Out(1)
        To the engine: what is done waits until all sessions are started.
    engine_done : In(1)
        Pulse, from the engine.
    done_context : In(2)
        The context that is done.
    rng_out : In(32)
        Its generator.
    keep_word : Out(1)
        Pulse: the word becomes the engine's next token.
    summarize : Out(1)
        Pulse: all tokens are chosen. It takes the place of ``finish`` with OK.

    The others are those of `REQUEST`.
    """

    def __init__(self, contexts: int) -> None:
        self.contexts = contexts
        super().__init__(
            {
                **REQUEST,
                "byte": In(8),
                "number": In(8),
                "entry_step": In(16),
                "result": In(10),
                "place": Out(1),
                "place_at": Out(10),
                "of_rng": Out(1),
                "rng_byte": Out(8),
                "engine_start": Out(1),
                "context": Out(2),
                "entry": Out(16),
                "again": Out(1),
                "token": Out(16),
                "session_base": Out(16),
                "rng": Out(32),
                "hold_done": Out(1),
                "engine_done": In(1),
                "done_context": In(2),
                "rng_out": In(32),
                "keep_word": Out(1),
                "summarize": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # A session of the request: generator, session base, token. While the engine runs it holds a
        # generator on its way to the answer, and the end of the answer.
        member = Signal(8 * BATCH_MEMBER, name="member")
        end = member[32:42]
        count = Signal(4, name="count")
        places = Array([Signal(10, name=f"place_{k}") for k in range(self.contexts)])
        left = Array([Signal(8, name=f"left_{k}") for k in range(self.contexts)])
        who, chosen, running = Signal(2, name="who"), Signal(2, name="chosen"), Signal(4, name="running")
        done_context = self.done_context
        m.d.comb += [
            self.context.eq(Mux(self.again, done_context, who)),
            self.rng.eq(member[:32]),
            self.session_base.eq(member[32:48]),
            self.token.eq(member[48:]),
            self.rng_byte.eq(member[:8]),
        ]
        with m.If(self.step):
            with m.FSM() as state:
                with m.State("WAIT"):
                    m.d.sync += [count.eq(0), who.eq(0), self.entry.eq(0)]
                    with m.If(self.start):
                        m.next = "MEMBER"
                with m.State("MEMBER"):
                    m.d.comb += self.advance.eq(1)
                    m.d.sync += [member.eq(Cat(member[8:], self.byte)), count.eq(count + 1)]
                    with m.If((self.number == 0) | (self.number > MAX_BATCH_TOKENS)):
                        m.d.comb += [
                            self.advance.eq(0),
                            self.finish.eq(1),
                            self.outcome.eq(Status.BAD_LENGTH),
                        ]
                        m.next = "WAIT"
                    with m.Elif(count == BATCH_MEMBER - 1):
                        m.next = "START"
                with m.State("START"):
                    m.d.comb += [
                        self.engine_start.eq(1),
                        self.place.eq(1),
                        self.place_at.eq(self.result + (self.number << 1) + 4),
                    ]
                    m.d.sync += [
                        count.eq(0),
                        who.eq(who + 1),
                        self.entry.eq(self.entry + self.entry_step),
                        running.eq(running + 1),
                        places[who].eq(self.result),
                        left[who].eq(self.number),
                    ]
                    m.next = "MEMBER"
                    with m.If(self.at_end):
                        m.next = "RUN"
                with m.State("RUN"):
                    m.d.sync += count.eq(0)
                    with m.If(running == 0):
                        m.d.comb += self.summarize.eq(1)
                        m.next = "WAIT"
                    with m.Elif(self.engine_done):
                        m.d.comb += [
                            self.keep_word.eq(1),
                            self.place.eq(1),
                            self.place_at.eq(places[done_context]),
                        ]
                        m.d.sync += [
                            member[:32].eq(self.rng_out),
                            end.eq(self.result),
                            chosen.eq(done_context),
                            left[done_context].eq(left[done_context] - 1),
                        ]
                        with m.If(left[done_context] == 1):
                            m.d.sync += running.eq(running - 1)
                        with m.Else():
                            m.d.comb += [self.again.eq(1), self.engine_start.eq(1)]
                        m.next = "STORE"
                with m.State("STORE"):  # the token, then the generator, which the next token overwrites
                    m.d.comb += self.store.eq(1)
                    m.d.sync += count.eq(count + 1)
                    with m.If(count == 1):
                        m.d.sync += places[chosen].eq(self.result + 1)
                    with m.If(count >= 2):
                        m.d.comb += self.of_rng.eq(1)
                        m.d.sync += member[:32].eq(member[:32].rotate_right(8))
                    with m.If(count == 5):
                        m.d.comb += [self.place.eq(1), self.place_at.eq(end)]
                        m.d.sync += count.eq(0)
                        m.next = "RUN"
        m.d.comb += self.hold_done.eq(state.ongoing("MEMBER") | state.ongoing("START"))
        return m
