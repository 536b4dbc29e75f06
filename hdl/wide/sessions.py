"""Steps of several sessions on one engine: their states take turns, tokens are chosen and fed again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.tech import Technology
from ternac.hdl.wide.sampler import VocabularySampler
from ternac.hdl.wide.states import Move, SessionBank
from ternac.run.sampling import Sampling

__all__ = ["WideSessions"]

State = tuple[int, ...]


class WideSessions(wiring.Component):
    """Runs steps on an engine outside of it: a token of a session each, and a choice of the next one.

    A step of another session than the one before first moves states: those in vector memory into the bank,
    and the other's out of it, or zeros.

    :param lanes, depth: of the engine's vector memory.
    :param vocab: logits at most; ``bank``: words of all states.

    Members
    -------
    steps : In(stream.Signature(step_layout))
        ``session``, first word of its states in the bank; ``fresh``: they are 0; ``follow``: ``token`` and
        ``rng`` are those that were chosen last; ``choose``: by ``greedy``, ``m``, ``s``, ``top_k``.
    chosen : Out(stream.Signature(token_layout))
        ``token`` and ``rng`` of a step with ``choose``.
    words : In(range(depth))
        Words of a session's states, less one; never changes.
    save : In(1)
        Pulse, while ``idle``: move the states in vector memory into the bank.
    idle : Out(1)
        No step runs.
    tokens : Out(stream.Signature(16))
        To the engine, as all that follow.
    logits : In(stream.Signature(logit_layout))
        From it.
    done : In(1)
        Pulse: a token has ended.
    peek, wr_en, wr_addr, wr_data : Out
        A word of vector memory: which to read; write one.
    peeked : In(width)
        The word that was read, BlockRam.LATENCY cycles later.
    """

    def __init__(
        self, lanes: int, depth: int, vocab: int, bank: int, *, tech: Technology = Technology.PORTABLE
    ) -> None:
        self.sampler = VocabularySampler(vocab, tech=tech)
        self.states = SessionBank(lanes, depth, bank, tech=tech)
        rule = {"greedy": 1, "m": 8, "s": 5, "top_k": 16, "rng": 32}
        self.step_layout = data.StructLayout(
            {"session": range(bank), "token": 16, "fresh": 1, "follow": 1, "choose": 1, **rule}
        )
        self.token_layout, self.logit_layout = self.sampler.token_layout, self.sampler.logit_layout
        super().__init__(
            {
                "steps": In(stream.Signature(self.step_layout)),
                "chosen": Out(stream.Signature(self.token_layout)),
                "words": In(range(depth)),
                "save": In(1),
                "idle": Out(1),
                "tokens": Out(stream.Signature(16)),
                "logits": In(stream.Signature(self.logit_layout)),
                "done": In(1),
                "peek": Out(range(depth)),
                "peeked": In(self.states.width),
                "wr_en": Out(1),
                "wr_addr": Out(range(depth)),
                "wr_data": Out(self.states.width),
            }
        )

    @staticmethod
    def model(
        steps: Sequence[Mapping[str, int]],
        run: Callable[[State, int], tuple[State, Sequence[int]]],
        zero: State,
    ) -> tuple[list[tuple[int, int]], dict[int, State]]:
        """(token, rng) of each choice, and the states of all sessions.

        ``run`` makes new states and logits of states and a token; ``zero``: states of a new session.
        """
        states: dict[int, State] = {}
        chosen: list[tuple[int, int]] = []
        for step in steps:
            token, rng = chosen[-1] if step["follow"] else (step["token"], step["rng"])
            before = zero if step["fresh"] else states[step["session"]]
            states[step["session"]], logits = run(before, token)
            if step["choose"]:
                rule = Sampling(bool(step["greedy"]), step["m"], step["s"], step["top_k"])
                chosen.append(VocabularySampler.model(logits, rule, rng))
        return chosen, states

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.sampler = sampler = self.sampler
        m.submodules.states = states = self.states
        wiring.connect(m, wiring.flipped(self.logits), sampler.logits)
        step = Signal(self.step_layout, name="step")
        last = Signal(self.token_layout, name="last")
        inside, held = Signal(name="inside"), Signal.like(step.session, name="held")
        ended = Signal(name="ended")
        m.d.comb += [
            states.words.eq(self.words),
            self.peek.eq(states.peek), states.peeked.eq(self.peeked),
            self.wr_en.eq(states.wr_en), self.wr_addr.eq(states.wr_addr), self.wr_data.eq(states.wr_data),
            self.tokens.payload.eq(Mux(step.follow, last.token, step.token)),
            sampler.choose.payload.rng.eq(Mux(step.follow, last.rng, step.rng)),
            *(sampler.choose.payload[name].eq(step[name]) for name in ("greedy", "m", "s", "top_k")),
            self.chosen.payload.eq(sampler.chosen.payload),
        ]  # fmt: skip
        with m.If(self.done):
            m.d.sync += ended.eq(1)
        with m.FSM():
            with m.State("IDLE"):
                m.d.comb += [self.idle.eq(~self.save), self.steps.ready.eq(~self.save)]
                m.d.sync += [step.eq(self.steps.payload), ended.eq(0)]
                with m.If(self.save):
                    m.next = "SAVE"
                with m.Elif(self.steps.valid):
                    m.next = "MOVE"
            with m.State("SAVE"):  # the session stays in vector memory
                m.d.comb += [states.move.valid.eq(inside), states.move.payload.kind.eq(Move.KEEP)]
                m.d.comb += states.move.payload.base.eq(held)
                with m.If(states.move.ready | ~inside):
                    m.next = "SAVED"
            with m.State("SAVED"):
                with m.If(states.idle):
                    m.next = "IDLE"
            with m.State("MOVE"):
                m.next = "RUN"
                with m.If(~inside | (held != step.session) | step.fresh):
                    m.next = "RESUME"
                    with m.If(inside & (held != step.session)):
                        m.next = "KEEP"
            with m.State("KEEP"):
                m.d.comb += [states.move.valid.eq(1), states.move.payload.kind.eq(Move.KEEP)]
                m.d.comb += states.move.payload.base.eq(held)
                with m.If(states.move.ready):
                    m.next = "RESUME"
            with m.State("RESUME"):
                m.d.comb += [
                    states.move.valid.eq(1),
                    states.move.payload.kind.eq(Mux(step.fresh, Move.CLEAR, Move.RESUME)),
                    states.move.payload.base.eq(step.session),
                ]
                with m.If(states.move.ready):
                    m.d.sync += [inside.eq(1), held.eq(step.session)]
                    m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.tokens.valid.eq(states.idle)
                with m.If(self.tokens.valid & self.tokens.ready):
                    m.next = "WAIT"
            with m.State("WAIT"):
                with m.If(ended):
                    m.next = "IDLE"
                    with m.If(step.choose):
                        m.next = "CHOOSE"
            with m.State("CHOOSE"):
                m.d.comb += sampler.choose.valid.eq(1)
                with m.If(sampler.choose.ready):
                    m.next = "TELL"
            with m.State("TELL"):
                m.d.comb += [
                    self.chosen.valid.eq(sampler.chosen.valid),
                    sampler.chosen.ready.eq(self.chosen.ready),
                ]
                with m.If(self.chosen.valid & self.chosen.ready):
                    m.d.sync += last.eq(sampler.chosen.payload)
                    m.next = "IDLE"
        return m
