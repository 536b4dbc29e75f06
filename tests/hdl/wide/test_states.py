"""States of sessions between vector memory and a bank: contents, cycles, pauses, planted faults."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from amaranth.hdl import Module, Mux
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.wide.states import MemoryMover, Move, SessionBank
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, netlist

WIDTH, DEPTH = 32, 64


class Moved(wiring.Component):
    """A mover and its memory."""

    def __init__(self) -> None:
        self.mover = MemoryMover(WIDTH, DEPTH)
        super().__init__({
            "move": In(stream.Signature(self.mover.move_layout)), "idle": Out(1),
            "read": Out(stream.Signature(WIDTH)), "write": In(stream.Signature(WIDTH)),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.mover, m.submodules.memory = self.mover, (memory := BlockRam(WIDTH, DEPTH))
        for name in ("move", "write", "read"):
            wiring.connect(m, getattr(self.mover, name), wiring.flipped(getattr(self, name)))
        names = ("rd_addr", "wr_en", "wr_addr", "wr_data")
        m.d.comb += [getattr(memory, name).eq(getattr(self.mover, name)) for name in names]
        m.d.comb += [self.mover.rd_data.eq(memory.rd_data), self.idle.eq(self.mover.idle)]
        return m


@pytest.mark.parametrize("pauses", [0.0, 0.5])
def test_runs_of_words_go_in_and_out(pauses: float) -> None:
    rng = random.Random(3)
    unit = Moved()
    memory = [0] * DEPTH
    moves = [(0, DEPTH - 1, 1), (0, DEPTH - 1, 0)]
    for _ in range(8):
        first = rng.randrange(DEPTH)
        moves.append((first, rng.randrange(DEPTH - first), rng.randrange(2)))
    moves.append((0, DEPTH - 1, 0))
    given: list[int] = []
    wanted: list[int] = []
    for first, count, write in moves:
        words = [rng.randrange(1 << WIDTH) for _ in range(count + 1)] if write else None
        given += words or []
        wanted += MemoryMover.model(memory, first, count, words)
    found: list[int] = []

    async def bench(ctx: Any) -> None:
        waiting, words, cycle = list(moves), list(given), 0
        while waiting or not ctx.get(unit.idle):
            ctx.set(unit.move.valid, bool(waiting))
            if waiting:
                ctx.set(unit.move.payload, dict(zip(("first", "count", "write"), waiting[0], strict=True)))
            offer = bool(words) and rng.random() >= pauses
            ctx.set(unit.write.valid, offer)
            if offer:
                ctx.set(unit.write.payload, words[0])
            ctx.set(unit.read.ready, ready := rng.random() >= pauses)
            if ready and ctx.get(unit.read.valid):
                found.append(ctx.get(unit.read.payload))
            if offer and ctx.get(unit.write.ready):
                words.pop(0)
            if waiting and ctx.get(unit.move.ready):
                waiting.pop(0)
            await ctx.tick()
            cycle += 1
        total = sum(count + 1 for _, count, _ in moves)
        if not pauses:  # a word a cycle, and one more to take a move
            assert cycle <= total + len(moves) + 8

    simulate(unit, bench)
    assert found == wanted
    wanted[-1] ^= 1
    assert found != wanted


class Banked(wiring.Component):
    """A bank beside a vector memory that the bench fills and reads while no move runs."""

    def __init__(self, bank: SessionBank, depth: int) -> None:
        self.inner, self.depth = bank, depth
        super().__init__({
            "move": In(stream.Signature(bank.move_layout)), "words": In(range(depth)), "idle": Out(1),
            "wr_en": In(1), "wr_addr": In(range(depth)), "wr_data": In(bank.width),
            "rd_addr": In(range(depth)), "rd_data": Out(bank.width),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.bank = bank = self.inner
        m.submodules.vectors = vectors = BlockRam(bank.width, self.depth)
        wiring.connect(m, bank.move, wiring.flipped(self.move))
        m.d.comb += [
            bank.words.eq(self.words), self.idle.eq(bank.idle), bank.peeked.eq(vectors.rd_data),
            self.rd_data.eq(vectors.rd_data),
            vectors.rd_addr.eq(Mux(bank.idle, self.rd_addr, bank.peek)),
            vectors.wr_en.eq(bank.wr_en | (bank.idle & self.wr_en)),
            vectors.wr_addr.eq(Mux(bank.wr_en, bank.wr_addr, self.wr_addr)),
            vectors.wr_data.eq(Mux(bank.wr_en, bank.wr_data, self.wr_data)),
        ]  # fmt: skip
        return m


MOVES = [
    (Move.KEEP, 0), (Move.CLEAR, 0), (Move.KEEP, 3), (Move.KEEP, 1), (Move.RESUME, 0), (Move.RESUME, 3),
    (Move.CLEAR, 2), (Move.RESUME, 1), (Move.KEEP, 3), (Move.RESUME, 3),
]  # fmt: skip
"""Kinds and sessions."""


def sessions(words: int, wrong: int | None = None) -> tuple[list[Any], list[Any], list[int]]:
    """Vector memory behind each move as found and as the model has it, and the cycles of the moves.

    Before each move the bench writes the words anew, as a token would; before move ``wrong`` a bit of them
    differs from the model's.
    """
    lanes, depth = 2, 16
    bank = SessionBank(lanes, depth, 4 * words)
    unit = Banked(bank, depth)
    rng = np.random.default_rng(words)
    kept = np.zeros((4 * words, lanes), np.int16)
    found: list[Any] = []
    wanted: list[Any] = []
    cycles: list[int] = []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.words, words - 1)
        for number, (kind, slot) in enumerate(MOVES):
            vectors = rng.integers(-32768, 32768, (depth, lanes)).astype(np.int16)
            for at, row in enumerate(vectors):
                data = int.from_bytes(row.tobytes(), "little")
                ctx.set(unit.wr_en, 1)
                ctx.set(unit.wr_addr, at)
                ctx.set(unit.wr_data, data ^ (number == wrong and at == 0))
                await ctx.tick()
            ctx.set(unit.wr_en, 0)
            ctx.set(unit.move.valid, 1)
            ctx.set(unit.move.payload, {"kind": kind, "base": slot * words})
            assert ctx.get(unit.move.ready)
            await ctx.tick()
            ctx.set(unit.move.valid, 0)
            count = 0
            while not ctx.get(unit.idle):
                await ctx.tick()
                count += 1
            cycles.append(count)
            SessionBank.model(vectors, kept, kind, slot * words, words)
            state: npt.NDArray[np.int16] = np.zeros((depth, lanes), np.int16)
            for at in range(depth):
                ctx.set(unit.rd_addr, at)
                for _ in range(BlockRam.LATENCY):
                    await ctx.tick()
                data = ctx.get(unit.rd_data)
                state[at] = np.frombuffer(data.to_bytes(2 * lanes, "little"), np.int16)
            found.append(state)
            wanted.append(vectors)

    simulate(unit, bench)
    return found, wanted, cycles


@pytest.mark.parametrize("words", [1, 5, 16])
def test_sessions_take_turns(words: int) -> None:
    found, wanted, cycles = sessions(words)
    assert all(np.array_equal(x, y) for x, y in zip(found, wanted, strict=True))
    assert cycles == [SessionBank.cycles(kind, words) for kind, _ in MOVES]


def test_a_planted_bit_of_a_session_comes_back_with_it() -> None:
    found, wanted, _ = sessions(5, wrong=2)
    wrong = [i for i, (x, y) in enumerate(zip(found, wanted, strict=True)) if not np.array_equal(x, y)]
    assert wrong == [2, 5]


@pytest.mark.slow
def test_no_multiplier() -> None:
    assert_no_multiplier(netlist(SessionBank(8, 512, 1024), "synth_ecp5"))


def test_refused() -> None:
    with pytest.raises(ValueError, match="bank must be at least 2 words, not 1"):
        SessionBank(2, 16, 1)
