"""The line test against its model: pseudo-random bytes both ways, echo, lost and damaged bytes, patience."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from ternac.hdl.diagnostics.line_test import LineCount, LineTest, check_bytes, random_bytes
from ternac.hdl.diagnostics.phase import PhaseStepper
from tests.hdl.sim import simulate

PATIENCE = 60


def test_the_sequence_is_as_long_as_its_polynomial_allows() -> None:
    data = random_bytes(2 * 32_767)
    assert data[:32_767] == data[32_767:]
    assert len({data[at : at + 2] for at in range(32_767)}) == 32_767


def test_good_bytes_are_right_and_each_wrong_bit_shows() -> None:
    data = random_bytes(400)
    assert check_bytes(data) == LineCount(400, 0, 0)
    for at in range(2, 390, 17):
        damaged = bytearray(data)
        damaged[at] ^= 1 << at % 8
        assert check_bytes(damaged).wrong_bits == 3, at
    assert check_bytes(data[:100] + data[101:]).wrong_bytes > 0


def run_line(
    echo: bool, came: bytes, receive: int, send: int, seed: int = 0
) -> tuple[bytes, LineCount, bytes, bytes]:
    """Let frames pass, run a test, let frames pass again: returns what was sent in the test, the counters,
    and what passed to and from the controller.
    """
    dut, rng = LineTest(PATIENCE), random.Random(seed)
    sent, passed, answered = bytearray(), bytearray(), bytearray()
    counts: list[LineCount] = []

    async def offer(ctx: Any, stream: Any, data: bytes, gaps: float = 0.3) -> None:
        for byte in data:
            while rng.random() < gaps:
                await ctx.tick()
            ctx.set(stream.payload, byte)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    async def bench(ctx: Any) -> None:
        ctx.set(dut.quiet, 1)
        await offer(ctx, dut.host_i, b"request")
        ctx.set(dut.quiet, 0)
        for name, value in (("echo", echo), ("receive", receive), ("send", send)):
            ctx.set(getattr(dut, name), value)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        await offer(ctx, dut.link_i, b"answer")
        ctx.set(dut.quiet, 1)
        await offer(ctx, dut.host_i, came)
        await ctx.tick().until(~dut.busy)
        counts.append(
            LineCount(*(ctx.get(getattr(dut, n)) for n in ("received", "wrong_bytes", "wrong_bits")))
        )
        answered.extend(sent[len(b"answer") :])
        sent.clear()
        await offer(ctx, dut.host_i, b"next")
        await offer(ctx, dut.link_i, b"last")
        await ctx.tick().repeat(5)

    async def sink(ctx: Any) -> None:
        streams = ((dut.host_o, sent), (dut.link_o, passed))
        watched = [getattr(stream, name) for stream, _ in streams for name in ("valid", "ready", "payload")]
        async for _, _, *levels in ctx.tick().sample(*watched):
            for at, (stream, found) in enumerate(streams):
                valid, ready, payload = levels[3 * at : 3 * at + 3]
                found.extend([payload] * (valid & ready))
                ctx.set(stream.ready, rng.random() < 0.7)

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(sink, background=True)
    simulator.add_testbench(bench)
    simulator.run()
    return bytes(answered), counts[0], bytes(passed), bytes(sent)


@pytest.mark.parametrize("seed", range(3))
def test_bytes_both_ways(seed: int) -> None:
    answered, count, passed, after = run_line(False, random_bytes(120), 120, 90, seed)
    assert answered == random_bytes(90)
    assert count == LineCount(120, 0, 0)
    assert (passed, after) == (b"requestnext", b"last")


@pytest.mark.parametrize("fault", ["damaged", "lost"])
def test_faults_are_counted_as_the_model_counts_them(fault: str) -> None:
    data = bytearray(random_bytes(80))
    if fault == "damaged":
        data[33] ^= 0x41
    else:
        del data[33]
    _, count, passed, _ = run_line(False, bytes(data), 80, 0)
    assert count == LineTest.model(bytes(data))
    assert count.wrong_bytes > 0 and count.received == len(data)
    assert passed == b"requestnext"  # after the patience, where a byte was lost


def test_echo() -> None:
    data = bytes(range(256))
    answered, count, passed, after = run_line(True, data, 256, 0)
    assert answered == data and count.received == 256
    assert (passed, after) == (b"requestnext", b"last")


def test_a_phase_step_is_one_falling_edge_in_its_direction() -> None:
    rng, dut = random.Random(4), PhaseStepper()
    edges, steps = [], [rng.random() < 0.5 for _ in range(30)]

    async def bench(ctx: Any) -> None:
        for earlier in steps:
            ctx.set(dut.earlier, earlier)
            ctx.set(dut.start, 1)
            await ctx.tick()
            ctx.set(dut.start, 0)
            ctx.set(dut.earlier, rng.random() < 0.5)
            before, stable = 0, 0
            while True:
                level = ctx.get(dut.step)
                stable = stable + 1 if level else stable
                if before and not level:
                    edges.append(bool(ctx.get(dut.direction)))
                    assert stable == 4
                before = level
                if not ctx.get(dut.busy):
                    break
                await ctx.tick()
        assert ctx.get(dut.position) == dut.model(steps)

    simulate(dut, bench)
    assert edges == steps
