"""UART against its model: rates that do not divide the clock, jitter, noise, overrun."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator, SimulatorContext

from ternac.hdl.link.rate import rate_increment
from ternac.hdl.link.uart import UartRx, UartTx
from tests.hdl.link.link_bench import line_bytes

RATES = [(25_000_000, 3_000_000), (12_000_000, 3_000_000), (24_000_000, 1_000_000), (25_000_000, 460_800)]


@pytest.mark.parametrize(("clock", "baud"), RATES)
def test_transmit(clock, baud):
    dut = UartTx(clock, baud)
    data = bytes(random.Random(baud).randrange(256) for _ in range(6))
    levels = []

    async def bench(ctx: SimulatorContext) -> None:
        for byte in data:
            ctx.set(dut.i.payload, byte)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
        ctx.set(dut.i.valid, 0)
        await ctx.tick().repeat(12 * clock // baud)

    async def watch(ctx: SimulatorContext) -> None:
        async for _, _, level in ctx.tick().sample(dut.tx):
            levels.append(level)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.add_testbench(watch, background=True)
    simulator.run()
    assert line_bytes(levels, clock / baud) == data
    assert len(levels) > 10 * len(data) * clock / baud


def receive(clock, baud, waveform, stall=0.0, seed=0):
    """Feed (level, seconds) pairs; returns the bytes that come out."""
    dut = UartRx(clock, baud)
    rng = random.Random(seed)
    got = bytearray()

    async def bench(ctx: SimulatorContext) -> None:
        time = cycle = 0.0
        for level, seconds in waveform:
            time += seconds * clock
            while cycle < time:
                ctx.set(dut.rx, level)
                await ctx.tick()
                cycle += 1
        ctx.set(dut.rx, 1)
        await ctx.tick().repeat(12 * clock // baud)

    async def sink(ctx: SimulatorContext) -> None:
        while True:
            ready = int(rng.random() >= stall)
            ctx.set(dut.o.ready, ready)
            _, _, valid, byte = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            if valid and ready:
                got.append(byte)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.add_testbench(sink, background=True)
    simulator.run()
    return bytes(got)


@pytest.mark.parametrize(("clock", "baud"), RATES)
@pytest.mark.parametrize("error", [-0.02, 0, 0.02])
def test_receive(clock, baud, error):
    """A sender 2% fast or slow, bytes back to back."""
    data = bytes(random.Random(baud).randrange(256) for _ in range(5 if clock // baud > 20 else 30))
    line = [1, *UartTx.model(data)]
    assert UartRx.model(line) == data
    bit = (1 + error) / baud
    assert receive(clock, baud, [(level, bit) for level in line], stall=0.3) == data


def test_noise_and_broken_bytes():
    """A glitch shorter than half a bit gives nothing; after a break the next byte is right."""
    clock, baud = 24_000_000, 1_000_000
    bit = 1 / baud
    good = [(level, bit) for level in UartTx.model(b"\x5a")]
    assert receive(clock, baud, [(1, bit), (0, bit / 4), (1, 3 * bit), *good]) == b"\x5a"
    broken = [(0, 10 * bit), (1, 12 * bit)]
    assert receive(clock, baud, [(1, bit), *broken, *good])[-1:] == b"\x5a"


def test_overrun_drops_the_new_byte():
    clock, baud = 12_000_000, 3_000_000
    line = [(level, 1 / baud) for level in [1, *UartTx.model(b"abcdef")]]
    got = receive(clock, baud, line, stall=0.985, seed=3)
    assert 1 <= len(got) < 6
    assert bytes(byte for byte in b"abcdef" if byte in got) == got


@pytest.mark.parametrize(("clock", "baud"), [*RATES, (90_000_000, 3_000_000), (1 << 30, 1 << 10)])
def test_rate(clock, baud):
    bits, increment = rate_increment(clock, baud)
    assert abs(increment / (1 << bits) * clock / baud - 1) < 0.002


@pytest.mark.parametrize(("clock", "baud"), [(11_000_000, 3_000_000), (1 << 31, 1000)])
def test_impossible_rates(clock, baud):
    with pytest.raises(ValueError, match="cannot carry"):
        UartTx(clock, baud)
