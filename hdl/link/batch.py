"""BATCH in the link controller: several sessions under way in the engine at the same time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from amaranth import Array, Cat, Module, Mux, Signal, Value, ValueLike

from ternac.link import BATCH_MEMBER, MAX_BATCH_TOKENS, Status

__all__ = ["BATCH_STAGGER", "BatchWires", "batch_states"]

BYTE_CYCLES = 3
"""Cycles for each byte that the controller takes out of its RAM: the pointer, the RAM, its register."""
BATCH_STAGGER = BATCH_MEMBER * BYTE_CYCLES + 1
"""Cycles from the start of one session of a BATCH to that of the next."""


@dataclass(frozen=True, kw_only=True)
class BatchWires:
    """What the states share with the rest of the controller."""

    engine: Any
    """The engine's ports."""
    byte: Value
    """The frame's byte at ``pointer``, which ``goto`` moves; ``at_end`` behind the last one."""
    pointer: Signal
    goto: Callable[[ValueLike], list[Any]]
    at_end: Signal
    result: Signal
    """Where ``store`` puts the byte ``put`` (unless told otherwise, the low one of ``word``, which turns)."""
    store: Signal
    put: Signal
    word: Signal
    count: Signal
    number: Value
    """Tokens for each session."""
    entry_step: Value
    """Words of microcode from one context's entry to the next one's."""
    member: Signal
    """A session of the request: generator, session base, token."""
    again: Signal
    """The engine is started with its own token."""
    answer: Callable[[Status], None]
    """End with a status."""


def batch_states(m: Module, wires: BatchWires, contexts: int) -> None:
    """Add the states MEMBER to BATCH STORE to the controller's machine, which enters the first after the
    head.

    Every session is started in turn and fed what it chose; tokens and generator go to its part of the
    answer. The machine goes on in SUMMARY.
    """
    engine, number, count, result = wires.engine, wires.number, wires.count, wires.result
    member, word, answer = wires.member, wires.word, wires.answer
    many = range(contexts)
    places = Array([Signal(10, name=f"place_{k}") for k in many])
    left = Array([Signal(8, name=f"left_{k}") for k in many])
    who, entry = Signal(2, name="who"), Signal(16, name="entry")
    chosen = Signal(2, name="chosen")
    running = Signal(4, name="running")
    m.d.comb += [engine.entry.eq(entry), engine.start_context.eq(Mux(wires.again, engine.done_context, who))]
    with m.State("MEMBER"):
        m.d.comb += wires.goto(wires.pointer + 1)
        m.d.sync += [member.eq(Cat(member[8:], wires.byte)), count.eq(count + 1)]
        with m.If((number == 0) | (number > MAX_BATCH_TOKENS)):
            answer(Status.BAD_LENGTH)
        with m.Elif(count == BATCH_MEMBER - 1):
            m.next = "MEMBER START"
    with m.State("MEMBER START"):
        m.d.comb += engine.start.eq(1)
        m.d.sync += [
            count.eq(0), who.eq(who + 1), entry.eq(entry + wires.entry_step), running.eq(running + 1),
            places[who].eq(result), left[who].eq(number), result.eq(result + (number << 1) + 4),
        ]  # fmt: skip
        m.next = "MEMBER"
        with m.If(wires.at_end):
            m.next = "BATCH RUN"
    with m.State("BATCH RUN"):
        # the end of the answer waits in `member` while the pointer visits the sessions' parts
        m.d.sync += count.eq(0)
        with m.If(running == 0):
            m.d.sync += [count.eq(4), who.eq(0), entry.eq(0)]
            m.next = "SUMMARY"
        with m.Elif(engine.done):
            m.d.sync += [
                word.eq(engine.next_token), member[:32].eq(engine.rng_out), chosen.eq(engine.done_context),
                left[engine.done_context].eq(left[engine.done_context] - 1),
                result.eq(places[engine.done_context]), member[32:42].eq(result),
            ]  # fmt: skip
            with m.If(left[engine.done_context] == 1):
                m.d.sync += running.eq(running - 1)
            with m.Else():
                m.d.comb += [wires.again.eq(1), engine.start.eq(1)]
            m.next = "BATCH STORE"
    with m.State("BATCH STORE"):
        m.d.comb += [wires.store.eq(1)]
        m.d.sync += count.eq(count + 1)
        with m.If(count == 1):
            m.d.sync += places[chosen].eq(result + 1)
        with m.If(count >= 2):
            m.d.comb += wires.put.eq(member[:8])
            m.d.sync += member[:32].eq(member[:32].rotate_right(8))
        with m.If(count == 5):
            m.d.sync += [result.eq(member[32:42]), count.eq(0)]
            m.next = "BATCH RUN"
