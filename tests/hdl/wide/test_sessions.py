"""Steps of sessions on an engine that is a few registers: choices and states as the model has them."""

from __future__ import annotations

import random
from typing import Any

from amaranth.hdl import Array, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.registers import delay
from ternac.hdl.wide.sessions import WideSessions
from ternac.run.sampling import seed_state
from tests.hdl.sim import simulate

STATE, DEPTH, VOCAB, SESSIONS = 3, 8, 20, 4
State = tuple[int, ...]


def scramble(x: Any) -> Any:
    """Next of a sequence of 16 bits."""
    if isinstance(x, int):
        x ^= x << 7 & 0xFFFF
        x ^= x >> 9
        return x ^ x << 8 & 0xFFFF
    x = (x ^ (x << 7))[:16]
    x = (x ^ (x >> 9))[:16]
    return (x ^ (x << 8))[:16]


def run(state: State, token: int) -> tuple[State, list[int]]:
    """What `Registers` does."""
    state = tuple(scramble(x ^ token + at & 0xFFFF) for at, x in enumerate(state))
    x, logits = state[0] ^ state[1] ^ state[2] | 1, []
    for _ in range(VOCAB):
        x = scramble(x)
        logits.append(x - 65536 if x >> 15 else x)
    return state, logits


class Registers(wiring.Component):
    """An engine: three words of state, logits from all of them."""

    def __init__(self, sessions: WideSessions) -> None:
        self.sessions = sessions
        super().__init__({
            "steps": In(stream.Signature(sessions.step_layout)),
            "chosen": Out(stream.Signature(sessions.token_layout)),
            "save": In(1), "idle": Out(1),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.sessions = sessions = self.sessions
        wiring.connect(m, sessions.steps, wiring.flipped(self.steps))
        wiring.connect(m, sessions.chosen, wiring.flipped(self.chosen))
        words = [Signal(16, name=f"word{i}", init=0x1234) for i in range(DEPTH)]
        busy, x, count = Signal(name="busy"), Signal(16, name="x"), Signal(8, name="count")
        logits, take = sessions.logits, Signal(name="take")
        m.d.comb += [
            sessions.words.eq(STATE - 1),
            sessions.save.eq(self.save), self.idle.eq(sessions.idle),
            sessions.peeked.eq(delay(m, Array(words)[sessions.peek], BlockRam.LATENCY)),
            sessions.tokens.ready.eq(~busy), take.eq(sessions.tokens.valid & ~busy),
            logits.valid.eq(busy & count.any()), logits.payload.y.eq(x),
            logits.payload.last.eq(count == 1),
        ]  # fmt: skip
        m.d.sync += sessions.done.eq(0)
        new = [
            scramble((word ^ (sessions.tokens.payload + at)[:16])[:16])
            for at, word in enumerate(words[:STATE])
        ]
        with m.If(sessions.wr_en):
            m.d.sync += Array(words)[sessions.wr_addr].eq(sessions.wr_data)
        with m.If(take):
            m.d.sync += [word.eq(value) for word, value in zip(words, new, strict=False)]
            m.d.sync += [busy.eq(1), count.eq(VOCAB), x.eq(scramble(new[0] ^ new[1] ^ new[2] | 1))]
        with m.If(logits.valid & logits.ready):
            m.d.sync += [x.eq(scramble(x)), count.eq(count - 1)]
            with m.If(count == 1):
                m.d.sync += [busy.eq(0), sessions.done.eq(1)]
        return m


def steps_of(rng: random.Random, count: int) -> list[dict[str, int]]:
    """Steps of sessions in turn, in runs that feed what was chosen, sessions begun again among them."""
    begun: set[int] = set()
    steps: list[dict[str, int]] = []
    session = 0
    while len(steps) < count:
        follow = bool(steps) and steps[-1]["choose"] and rng.random() < 0.5
        if not follow:
            session = rng.randrange(SESSIONS)
        fresh = session not in begun or (not follow and rng.random() < 0.1)
        begun.add(session)
        steps.append({
            "session": STATE * session, "token": rng.randrange(VOCAB), "fresh": int(fresh),
            "follow": int(follow), "choose": int(rng.random() < 0.7), "greedy": rng.randrange(2),
            "m": rng.randrange(1, 256), "s": rng.randrange(20), "top_k": rng.choice((0, 1, 5, VOCAB)),
            "rng": seed_state(rng.randrange(999)),
        })  # fmt: skip
    return steps


def simulated(steps: list[dict[str, int]], rng: random.Random) -> list[tuple[int, int]]:
    """What was chosen; states are saved now and then, which changes nothing."""
    unit = Registers(WideSessions(1, DEPTH, VOCAB, STATE * SESSIONS))
    chosen: list[tuple[int, int]] = []

    async def bench(ctx: Any) -> None:
        waiting = list(steps)
        for cycle in range(6000 + 4000 * len(steps)):
            save = ctx.get(unit.idle) and rng.random() < 0.1
            ctx.set(unit.save, save)
            offer = bool(waiting) and rng.random() < 0.8
            ctx.set(unit.steps.valid, offer)
            if offer:
                ctx.set(unit.steps.payload, waiting[0])
            ctx.set(unit.chosen.ready, ready := rng.random() < 0.5)
            if ready and ctx.get(unit.chosen.valid):
                payload = ctx.get(unit.chosen.payload)
                chosen.append((payload.token, payload.rng))
            if offer and ctx.get(unit.steps.ready):
                waiting.pop(0)
            await ctx.tick()
            if not waiting and cycle % 8 == 0 and ctx.get(unit.idle):
                break

    simulate(unit, bench)
    return chosen


def with_last(steps: list[dict[str, int]]) -> list[dict[str, int]]:
    """The steps, and one more of each session that shows its states."""
    begun = sorted({step["session"] for step in steps})
    show = {
        "token": 1,
        "fresh": 0,
        "follow": 0,
        "choose": 1,
        "greedy": 1,
        "m": 1,
        "s": 0,
        "top_k": 0,
        "rng": 7,
    }
    return [*steps, *({"session": session, **show} for session in begun)]


def test_sessions_take_turns_on_one_engine() -> None:
    rng = random.Random(11)
    steps = with_last(steps_of(rng, 16))
    wanted, states = WideSessions.model(steps, run, (0,) * STATE)
    assert len(states) > 2 and any(step["follow"] for step in steps)
    assert simulated(steps, rng) == wanted


def test_a_state_that_was_not_resumed_is_found() -> None:
    """A session that is begun again where the model goes on."""
    rng = random.Random(12)
    steps = with_last(steps_of(rng, 5))
    wanted, _ = WideSessions.model(steps, run, (0,) * STATE)
    steps[-1]["fresh"] = 1
    found = simulated(steps, rng)
    assert found[:-1] == wanted[:-1] and found[-1] != wanted[-1]
