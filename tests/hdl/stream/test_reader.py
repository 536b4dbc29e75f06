"""AXI4 read master: bursts, room that is never over-promised, faults, what it refuses."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ternac.hdl.stream.reader import AxiReader, bursts
from tests.hdl.sim import simulate


@given(st.integers(0, 5000), st.integers(0, 600), st.sampled_from([(4, 256), (8, 32), (16, 64), (64, 64)]))
def test_bursts_cover_a_request_and_no_page_edge(word: int, beats: int, form: tuple[int, int]) -> None:
    size, most = form
    at = word * size
    for address, length in bursts(at, beats, size, most):
        assert address == at and 1 <= length <= most
        assert address // 4096 == (address + length * size - 1) // 4096
        at += length * size
    assert at == (word + beats) * size


class _Bus:
    """A memory that answers with the address of each word, after a while, with gaps."""

    def __init__(self, reader: AxiReader, rng: random.Random, latency: int) -> None:
        self.reader, self.rng, self.latency = reader, rng, latency
        self.flight: deque[tuple[int, bool, int]] = deque()
        self.asked: list[tuple[int, int]] = []
        self.cycle = 0
        self.fault: dict[int, tuple[int, int]] = {}
        """Beat number to what is xored to (resp, last)."""
        self.beats = 0

    def drive(self, ctx: Any) -> None:
        """Before the edge: offer a beat, take an address."""
        dut = self.reader
        due = bool(self.flight) and self.flight[0][2] <= self.cycle and self.rng.randrange(4) > 0
        address, last, _ = self.flight[0] if due else (0, False, 0)
        resp, flip = self.fault.get(self.beats, (0, 0)) if due else (0, 0)
        ctx.set(dut.m_axi_rvalid, due)
        ctx.set(dut.m_axi_rdata, address)
        ctx.set(dut.m_axi_rlast, last ^ flip)
        ctx.set(dut.m_axi_rresp, resp)
        ready = self.rng.randrange(2)
        ctx.set(dut.m_axi_arready, ready)
        assert ctx.get(dut.m_axi_rready)
        if due:
            self.flight.popleft()
            self.beats += 1
        if ready and ctx.get(dut.m_axi_arvalid):
            address, length = ctx.get(dut.m_axi_araddr), ctx.get(dut.m_axi_arlen) + 1
            self.asked.append((address, length))
            for i in range(length):
                word = address + i * dut.word_bytes
                self.flight.append((word, i == length - 1, self.cycle + self.latency))
        self.cycle += 1


def _run(reader: AxiReader, requests: list[tuple[int, int]], *, taking: int, bus: _Bus, cycles: int) -> Any:
    """Words (data, last) that came, the fault at the end; ``taking`` of 4 cycles take a word."""
    words: list[tuple[int, int]] = []
    faults: list[int] = []

    async def bench(ctx: Any) -> None:
        waiting = deque(requests)
        for _ in range(cycles):
            offer = bool(waiting)
            ctx.set(reader.requests.valid, offer)
            if offer:
                ctx.set(reader.requests.payload, {"address": waiting[0][0], "beats": waiting[0][1]})
            take = bus.rng.randrange(4) < taking
            ctx.set(reader.words.ready, take)
            bus.drive(ctx)
            if offer and ctx.get(reader.requests.ready):
                waiting.popleft()
            if take and ctx.get(reader.words.valid):
                payload = ctx.get(reader.words.payload)
                words.append((payload.data, payload.last))
            await ctx.tick()
        faults.append(ctx.get(reader.fault))
        ctx.set(reader.clear, 1)
        ctx.set(reader.m_axi_rvalid, 0)
        await ctx.tick()
        assert not ctx.get(reader.fault)

    simulate(reader, bench)
    return words, faults[0]


def _words(reader: AxiReader, requests: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [
        (address + i * reader.word_bytes, int(i == beats - 1))
        for address, beats in requests
        for i in range(beats)
    ]


@pytest.mark.parametrize(("bits", "burst", "taking"), [(32, 1, 4), (32, 256, 4), (64, 16, 3), (512, 64, 1)])
def test_words_in_order_with_pauses(bits: int, burst: int, taking: int) -> None:
    rng = random.Random(bits + burst)
    reader = AxiReader(bits, depth=burst + 40, burst=burst, outstanding=3, queue=2)
    size = reader.word_bytes
    requests = [(size * rng.randrange(0x4000), rng.randrange(1, 90)) for _ in range(12)]
    bus = _Bus(reader, rng, latency=7)
    words, fault = _run(reader, requests, taking=taking, bus=bus, cycles=6000)
    assert words == _words(reader, requests)
    assert bus.asked == reader.model(requests)
    assert fault == 0


def test_reads_stop_while_nobody_takes_words() -> None:
    reader = AxiReader(64, depth=50, burst=16, outstanding=8)
    bus = _Bus(reader, random.Random(1), latency=5)
    words, fault = _run(reader, [(0, 1000)], taking=0, bus=bus, cycles=800)
    assert not words and not fault
    assert sum(length for _, length in bus.asked) == 48  # three bursts: a fourth would not fit


@pytest.mark.parametrize(("resp", "flip", "fault"), [(2, 0, 1), (3, 0, 1), (1, 0, 1), (0, 1, 2)])
@pytest.mark.parametrize("beat", [0, 15, 20])
def test_faults_stick_and_lose_nothing(resp: int, flip: int, fault: int, beat: int) -> None:
    reader = AxiReader(64, depth=50, burst=16)
    bus = _Bus(reader, random.Random(2), latency=5)
    bus.fault[beat] = (resp, flip)
    requests = [(64, 40), (4096 - 8, 3)]
    words, found = _run(reader, requests, taking=4, bus=bus, cycles=400)
    assert found == fault
    assert words == _words(reader, requests)


@pytest.mark.parametrize(("arguments", "message"), [
    ({"data_bits": 48}, "data_bits must be one of"),
    ({"data_bits": 512, "burst": 128}, "power of two of at most 64 words, not 128"),
    ({"data_bits": 64, "burst": 24}, "power of two"),
    ({"data_bits": 64, "depth": 65}, "depth must be at least burst \\+ 2 = 66, not 65"),
    ({"data_bits": 64, "address_bits": 12}, "address_bits must be at least 13"),
    ({"data_bits": 64, "queue": 0}, "at least 1"),
])  # fmt: skip
def test_refusals(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AxiReader(**arguments)
