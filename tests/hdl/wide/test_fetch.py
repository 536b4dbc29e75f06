"""Gains, curves and rows from external memory, beside weights on the same port: exact, and nothing lost."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.stream.arbiter import ReadArbiter
from ternac.hdl.stream.axi import read_port
from ternac.hdl.stream.reader import AxiReader
from ternac.hdl.wide.fetch import ConstantReader, RowReader, WordSplitter
from tests.hdl.axi_bus import MemoryBus
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, netlist


class Shared(wiring.Component):
    """Weights, a row and constants behind one port."""

    def __init__(
        self, port_bits: int, lanes: int, *, depth: int, burst: int, slack: int | None = None
    ) -> None:
        self.weights = AxiReader(port_bits, depth=depth, burst=burst)
        self.rows = RowReader(port_bits, lanes, burst=4, depth=8)
        self.reader = ConstantReader(port_bits, lanes, burst=8, depth=40)
        self.arbiter = ReadArbiter(self.weights, 2, burst=8)
        if slack is not None:
            self.arbiter.slack = slack
        super().__init__({
            "requests": In(stream.Signature(self.weights.request_layout)),
            "words": Out(stream.Signature(self.weights.word_layout)),
            "enable": In(1), "constant_base": In(32), "constant_words": In(24),
            "row_base": In(32), "row_words": In(16),
            "tokens": In(stream.Signature(16)),
            "row": Out(stream.Signature(self.rows.word_layout)),
            "constants": Out(stream.Signature(self.reader.word_layout)),
            "fault": Out(2),
            **read_port("m_axi", address_bits=32, data_bits=port_bits),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.weights, m.submodules.rows = self.weights, self.rows
        m.submodules.reader, m.submodules.arbiter = self.reader, self.arbiter
        for i, each in enumerate((self.weights, self.rows, self.reader)):
            for name, member in read_port("", address_bits=32, data_bits=self.weights.data_bits).items():
                inner, outer = getattr(each, f"m_axi{name}"), getattr(self.arbiter, f"c{i}{name}")
                m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        for name, member in read_port("m_axi", address_bits=32, data_bits=self.weights.data_bits).items():
            inner, outer = getattr(self.arbiter, name), getattr(self, name)
            m.d.comb += outer.eq(inner) if member.flow is Out else inner.eq(outer)
        for inner, outer in (
            (self.weights.requests, self.requests), (self.rows.tokens, self.tokens),
            (self.weights.words, self.words), (self.rows.row, self.row),
            (self.reader.constants, self.constants),
        ):  # fmt: skip
            wiring.connect(m, inner, wiring.flipped(outer))
        m.d.comb += [
            self.reader.enable.eq(self.enable), self.reader.base.eq(self.constant_base),
            self.reader.words.eq(self.constant_words),
            self.rows.base.eq(self.row_base), self.rows.words.eq(self.row_words),
            self.fault.eq(self.weights.fault | self.rows.fault | self.reader.fault),
        ]  # fmt: skip
        return m


@dataclass
class Job:
    """Where things lie, what is asked for, and when it is taken."""

    memory: Any
    requests: list[tuple[int, int]]
    constant_base: int
    constant_words: int
    row_base: int
    row_words: int
    tokens: list[int]
    cycles: int
    takes: Callable[[Job, str], bool]
    """Whether a word of the stream is taken in this cycle if there is one."""
    enable: bool = True
    wanted: tuple[int, int, int] = (0, 0, 0)
    """Ends when as many words of weights, constants and rows have come; 0: after ``cycles``."""
    cycle: int = 0
    weights: list[int] = field(default_factory=list)
    weight_cycles: list[int] = field(default_factory=list)
    constants: list[int] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)


def run(unit: Shared, job: Job, rng: random.Random, **bus: Any) -> MemoryBus:
    """Run a job for its cycles; fills what came of each stream."""
    memory = MemoryBus(unit, job.memory, rng, **bus)

    def value(payload: Any) -> int:
        return sum((int(x) & 0xFFFF) << 16 * i for i, x in enumerate(payload))

    async def bench(ctx: Any) -> None:
        requests, tokens = list(job.requests), list(job.tokens)
        for name in ("constant_base", "constant_words", "row_base", "row_words", "enable"):
            ctx.set(getattr(unit, name), getattr(job, name))
        for cycle in range(job.cycles):
            job.cycle = cycle
            came = len(job.weights), len(job.constants), len(job.rows)
            if all(job.wanted) and all(x >= y for x, y in zip(came, job.wanted, strict=True)):
                break
            ctx.set(unit.requests.valid, bool(requests))
            if requests:
                ctx.set(unit.requests.payload, dict(zip(("address", "beats"), requests[0], strict=True)))
            ctx.set(unit.tokens.valid, bool(tokens))
            if tokens:
                ctx.set(unit.tokens.payload, tokens[0])
            take = {name: job.takes(job, name) for name in ("words", "constants", "row")}
            for name, taken in take.items():
                ctx.set(getattr(unit, name).ready, taken)
            memory.drive(ctx)
            if requests and ctx.get(unit.requests.ready):
                requests.pop(0)
            if tokens and ctx.get(unit.tokens.ready):
                tokens.pop(0)
            if take["words"] and ctx.get(unit.words.valid):
                job.weights.append(ctx.get(unit.words.payload.data))
                job.weight_cycles.append(job.cycle)
            if take["constants"] and ctx.get(unit.constants.valid):
                job.constants.append(value(ctx.get(unit.constants.payload)))
            if take["row"] and ctx.get(unit.row.valid):
                job.rows.append(value(ctx.get(unit.row.payload)))
            await ctx.tick()
        assert ctx.get(unit.fault) == 0

    simulate(unit, bench)
    return memory


def words(array: Any) -> list[int]:
    """int16[words, lanes] as integers."""
    return [int.from_bytes(row.tobytes(), "little") for row in np.ascontiguousarray(array)]


def make(rng: random.Random, unit: Shared, takes: Callable[[Job, str], bool], cycles: int) -> Job:
    """Random places and sizes in a memory of random bytes."""
    size = unit.weights.word_bytes
    memory = np.frombuffer(rng.randbytes(1 << 16), np.uint8)
    requests = [(size * rng.randrange(300), rng.randrange(1, 70)) for _ in range(5)]
    return Job(
        memory, requests, constant_base=0x8000 + 64 * rng.randrange(9), constant_words=rng.randrange(1, 90),
        row_base=0xC000, row_words=rng.randrange(1, 8), tokens=[rng.randrange(20) for _ in range(4)],
        cycles=cycles, takes=takes,
    )  # fmt: skip


def expected(unit: Shared, job: Job) -> tuple[list[int], list[int], list[int]]:
    """All weights, one pass of the constants, all rows."""
    size = unit.weights.word_bytes
    weights = [
        int.from_bytes(job.memory[address + i * size : address + (i + 1) * size].tobytes(), "little")
        for address, beats in job.requests
        for i in range(beats)
    ]
    constants = words(unit.reader.model(job.memory, job.constant_base, job.constant_words))
    rows = [unit.rows.model(job.memory, job.row_base, job.row_words, token) for token in job.tokens]
    return weights, constants, [x for row in rows for x in words(row)]


@pytest.mark.parametrize(("port_bits", "lanes"), [(128, 8), (32, 1), (32, 4)])
@pytest.mark.parametrize("pauses", [0.0, 0.4])
def test_every_stream_is_its_memory_s(port_bits: int, lanes: int, pauses: float) -> None:
    """Random latencies and pauses of the memory and of those who take words."""
    rng = random.Random(port_bits + lanes)
    unit = Shared(port_bits, lanes, depth=40, burst=16)
    job = make(rng, unit, lambda job, name: rng.random() >= pauses, 6000)
    weights, constants, rows = expected(unit, job)
    job.wanted = len(weights), 2 * len(constants), len(rows)
    bus = run(unit, job, rng, latency=(3, 40), pauses=pauses)
    assert job.weights == weights and job.rows == rows
    assert len(job.constants) >= 2 * len(constants)  # passes follow each other
    assert job.constants == (constants * (len(job.constants) // len(constants) + 1))[: len(job.constants)]
    job.memory = job.memory.copy()
    address, _ = bus.asked[-1]
    job.memory[address] ^= 1  # a planted bit
    assert expected(unit, job) != (weights, constants, rows)


PHASES = [(200, 120), (40, 60), (300, 100)]
"""Words of weights that are taken one a cycle, and cycles of waiting before."""


def phases(job: Job, name: str) -> bool:
    """Weights are taken a word a cycle behind each wait; constants always."""
    if name != "words":
        return True
    taken, begin = len(job.weights), 0
    for number, (count, wait) in enumerate(PHASES):
        if taken < begin + count:
            since = job.weight_cycles[begin - 1] if number else 0
            waiting = job.cycle - since <= wait
            return not waiting or taken > begin
        begin += count
    return False


def weight_cycles(enable: bool, slack: int | None = None) -> tuple[list[int], int]:
    """Cycles of the weights' words on a memory of a beat a cycle, and the constants that came."""
    unit = Shared(64, 4, depth=128, burst=16, slack=slack)
    memory = np.frombuffer(random.Random(1).randbytes(1 << 16), np.uint8)
    job = Job(memory, [(0, 200), (4096, 40), (8192, 300)], 0x8000, 200, 0xC000, 4, [], 900, phases, enable)
    run(unit, job, random.Random(2))
    assert len(job.weights) == 540
    return job.weight_cycles, len(job.constants)


def test_weights_come_as_if_nothing_else_were_read() -> None:
    """However many constants are taken, each weight comes in the cycle in which it would have."""
    alone, none = weight_cycles(enable=False)
    shared, constants = weight_cycles(enable=True)
    assert shared == alone
    assert none == 0 and constants > 250
    # Planted: an arbiter that does not look at what is in flight.
    assert weight_cycles(enable=True, slack=1 << 14)[0] != alone


@pytest.mark.parametrize("depth", [18, 128])
def test_who_waits_for_constants_gets_them(depth: int) -> None:
    """Weights are taken only behind constants; and behind the last weight constants still come."""
    rng = random.Random(depth)
    unit = Shared(64, 4, depth=depth, burst=16)

    def takes(job: Job, name: str) -> bool:
        if name == "words":
            return len(job.constants) >= 2 * len(job.weights) - 40
        return name == "constants" or len(job.weights) > 60

    job = make(rng, unit, takes, 6000)
    weights, _, rows = expected(unit, job)
    job.wanted = len(weights), 2 * len(weights) + 100, len(rows)
    run(unit, job, rng, latency=(10, 60), pauses=0.1)
    assert job.weights == weights and job.rows == rows
    assert len(job.constants) == 2 * len(weights) + 100


def test_the_rule_of_the_arbiter() -> None:
    """Each cycle's choice is the model's; a model that lets others in a cycle too early is not."""
    reader = AxiReader(64, depth=128, burst=16, outstanding=4)
    wrong = {0: 0, 1: 0}
    for early in wrong:
        unit = ReadArbiter(reader, 2, burst=8, flight=6)
        rng = random.Random(3)

        async def bench(
            ctx: Any, unit: ReadArbiter = unit, rng: random.Random = rng, early: int = early
        ) -> None:
            quiet = 0
            flight: list[tuple[int, int]] = []
            index, busy = 0, False
            held = [False] * 3
            for i in range(3):
                ctx.set(getattr(unit, f"c{i}_rready"), 1)
            for _ in range(2000):
                rate = (0.15, 0.5, 0.5)
                for i in range(3):
                    held[i] = held[i] or rng.random() < rate[i]
                    ctx.set(getattr(unit, f"c{i}_arvalid"), held[i])
                    ctx.set(getattr(unit, f"c{i}_arlen"), (15, 3, 7)[i])
                    ctx.set(getattr(unit, f"c{i}_araddr"), i)
                ready, beat = rng.random() < 0.7, bool(flight) and rng.random() < 0.5
                ctx.set(unit.m_axi_arready, ready)
                ctx.set(unit.m_axi_rvalid, beat)
                beats = sum(length for _, length in flight) - index
                bursts = sum(source == 0 for source, _ in flight)
                choice = unit.model(held, quiet + early, beats, bursts)
                free = (not busy or ready) and len(flight) < 6
                wanted = choice if free else None
                taken = [i for i in range(3) if ctx.get(getattr(unit, f"c{i}_arready"))]
                wrong[early] += taken != ([] if wanted is None else [wanted])
                if beat:
                    owner = [i for i in range(3) if ctx.get(getattr(unit, f"c{i}_rvalid"))]
                    assert owner == [flight[0][0]]
                    index += 1
                    if index == flight[0][1]:
                        flight.pop(0)
                        index = 0
                assert ctx.get(unit.m_axi_arvalid) == busy
                quiet = 0 if held[0] else min(4, quiet + 1)
                busy = bool(taken) or (busy and not ready)
                for i in taken:
                    flight.append((i, (16, 4, 8)[i]))
                    held[i] = False
                await ctx.tick()

        simulate(unit, bench)
    assert wrong[0] == 0 and wrong[1] > 0


@pytest.mark.parametrize(("port_bits", "lanes"), [(64, 1), (64, 2), (32, 8)])
def test_words_of_beats(port_bits: int, lanes: int) -> None:
    rng = random.Random(lanes)
    unit = WordSplitter(port_bits, lanes)
    beats = [(rng.randrange(1 << port_bits), int(i % 8 == 7)) for i in range(80)]
    tail, found = unit.split // 2, []

    async def bench(ctx: Any) -> None:
        ctx.set(unit.tail, tail)
        at = 0
        for _ in range(1500):
            ctx.set(unit.beats.valid, valid := at < len(beats) and rng.random() < 0.8)
            if valid:
                ctx.set(unit.beats.payload, {"data": beats[at][0], "last": beats[at][1]})
            ctx.set(unit.words.ready, ready := rng.random() < 0.7)
            if ready and ctx.get(unit.words.valid):
                payload = ctx.get(unit.words.payload)
                found.append(sum((int(x) & 0xFFFF) << 16 * i for i, x in enumerate(payload)))
            at += valid and ctx.get(unit.beats.ready)
            await ctx.tick()

    simulate(unit, bench)
    assert found == unit.model(beats, tail)
    assert found != unit.model([(data ^ 1, last) for data, last in beats], tail)


@pytest.mark.slow
def test_no_multiplier() -> None:
    for unit in (ConstantReader(128, 8), RowReader(128, 8), ReadArbiter(AxiReader(128), 2)):
        assert_no_multiplier(netlist(unit, "synth_ecp5"))


def test_refused() -> None:
    with pytest.raises(ValueError, match="lanes must be a power of two, not 3"):
        WordSplitter(64, 3)
    reader = AxiReader(64)
    with pytest.raises(ValueError, match="others must be at least 1, not 0"):
        ReadArbiter(reader, 0)
    with pytest.raises(ValueError, match="flight must be at least 2, not 1"):
        ReadArbiter(reader, flight=1)
    with pytest.raises(ValueError, match=r"burst must be 1..256, not 0"):
        ReadArbiter(reader, burst=0)
