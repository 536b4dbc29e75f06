"""SLIP and CRC components against their models."""

from __future__ import annotations

import random
import zlib

import pytest
from amaranth.sim import Simulator, SimulatorContext
from hypothesis import given
from hypothesis import strategies as st

from ternac import link as protocol
from ternac.hdl.link.crc import Crc32
from ternac.hdl.link.slip import SlipDecoder, SlipEncoder


def transfer(dut, items, fields, seed, gap=0.3, stall=0.3):
    """Push items through dut.i, collect from dut.o, with random gaps and back-pressure."""
    rng = random.Random(seed)
    out = []

    async def source(ctx: SimulatorContext) -> None:
        for item in items:
            while rng.random() < gap:
                await ctx.tick()
            ctx.set(dut.i.payload, item)
            ctx.set(dut.i.valid, 1)
            await ctx.tick().until(dut.i.ready)
            ctx.set(dut.i.valid, 0)

    async def sink(ctx: SimulatorContext) -> None:
        held = None
        while True:
            ready = int(rng.random() >= stall)
            ctx.set(dut.o.ready, ready)
            _, _, valid, value = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            value = fields(value) if valid else None
            assert held is None or value == held, "an offered item must stay until it is taken"
            held = value if valid and not ready else None
            if valid and ready:
                out.append(value)

    async def drain(ctx: SimulatorContext) -> None:
        await source(ctx)
        await ctx.tick().repeat(20)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(drain)
    simulator.add_testbench(sink, background=True)
    simulator.run()
    return out


def nasty_bytes(rng, count):
    return bytes(rng.choice((0xC0, 0xDB, 0xDC, 0xDD, rng.randrange(256))) for _ in range(count))


@pytest.mark.parametrize("seed", range(4))
def test_decoder(seed):
    wire = nasty_bytes(random.Random(seed), 300)
    got = transfer(SlipDecoder(), wire, lambda v: (v.data, v.end, v.bad), seed)
    assert got == SlipDecoder.model(wire)


@pytest.mark.parametrize("seed", range(4))
def test_encoder(seed):
    rng = random.Random(seed)
    items = [(0, 1) if rng.random() < 0.1 else (byte, 0) for byte in nasty_bytes(rng, 200)]
    got = transfer(SlipEncoder(), [{"data": d, "end": e} for d, e in items], int, seed)
    assert bytes(got) == SlipEncoder.model(items)


@pytest.mark.parametrize("data", [b"", b"123456789", bytes(range(256)), b"\xff" * 40])
def test_crc(data):
    dut = Crc32()
    result = []

    async def bench(ctx: SimulatorContext) -> None:
        async def feed(byte: int) -> None:
            ctx.set(dut.data, byte)
            ctx.set(dut.valid, 1)
            await ctx.tick()
            ctx.set(dut.valid, 0)

        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        for byte in data + zlib.crc32(data).to_bytes(4, "little"):
            await feed(byte)
        await ctx.tick()
        assert ctx.get(dut.match)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)
        for byte in data:
            await feed(byte)
        await ctx.tick()
        for _ in range(4):
            result.append(ctx.get(dut.low))
            await feed(result[-1] ^ 0xFF)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert int.from_bytes(bytes(result), "little") == zlib.crc32(data) == Crc32.model(data)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.data())
def test_slip_round_trip(frames, data):
    wire = b"".join(map(protocol.slip_encode, frames))
    decoder = protocol.SlipDecoder()
    got = []
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        got += decoder.feed(wire[:cut])
        wire = wire[cut:]
    assert got == frames and decoder.spoiled == 0


@given(st.binary(max_size=60))
def test_slip_decoder_agrees_with_the_fabric(wire):
    """Host and fabric decoder cut the same bytes into the same frames."""
    frames, current = [], bytearray()
    for byte, end, bad in SlipDecoder.model(wire):
        if end:
            if current and not bad:
                frames.append(bytes(current))
            current.clear()
        else:
            current.append(byte)
    assert protocol.SlipDecoder().feed(wire) == frames


@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=50), st.data())
def test_frame_rejects_any_flipped_bit(kind, seq, payload, data):
    encoded = protocol.Frame(kind, seq, payload).encode()
    assert protocol.Frame.decode(encoded) == protocol.Frame(kind, seq, payload)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    damaged = bytearray(encoded)
    damaged[bit // 8] ^= 1 << bit % 8
    assert protocol.Frame.decode(bytes(damaged)) is None
