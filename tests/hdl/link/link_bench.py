"""Drives a component with byte streams ``rx`` and ``tx`` in Amaranth's simulator, frame by frame."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Awaitable, Callable

from amaranth.sim import Simulator, SimulatorContext

from ternac import link as protocol


def line_bytes(levels: list[int], bit: float) -> bytes:
    """An ideal UART receiver: waits for a start bit, samples the middles; ``bit`` in samples."""
    got, position = bytearray(), 0
    while 0 in levels[position:]:
        start = levels.index(0, position)
        bits = [levels[start + int((n + 0.5) * bit)] for n in range(10)]
        assert (bits[0], bits[9]) == (0, 1)
        got.append(sum(level << n for n, level in enumerate(bits[1:9])))
        position = start + int(9.5 * bit)
    return bytes(got)


class Bench:
    """``send`` queues bytes; ``answer`` waits for a frame (None after ``cycles`` without one)."""

    def __init__(self, dut, seed: int = 0, gap: float = 0.1, stall: float = 0.1) -> None:
        self.dut, self.rng, self.gap, self.stall = dut, random.Random(seed), gap, stall
        self.queue: deque[int] = deque()
        self.frames: deque[bytes] = deque()
        self.decoder = protocol.SlipDecoder()
        self.seq = 0

    def send(self, data: bytes) -> None:
        self.queue.extend(data)

    async def answer(self, ctx: SimulatorContext, cycles: int = 3000) -> bytes | None:
        for _ in range(cycles):
            if self.frames:
                return self.frames.popleft()
            await ctx.tick()
        return None

    async def open(self, ctx: SimulatorContext, seq: int = 0) -> None:
        """Say HELLO; the next request is number ``seq`` + 1."""
        self.seq = seq - 1
        assert (await self.request(ctx, protocol.Command.HELLO))[0] == protocol.Status.OK

    async def request(self, ctx: SimulatorContext, kind: int, payload: bytes = b"") -> tuple[int, bytes]:
        """A fresh request; checks type and seq of the answer, returns (status, payload)."""
        self.seq = (self.seq + 1) % protocol.SEQUENCE
        self.send(protocol.Frame(kind, self.seq, payload).wire())
        return self.check(await self.answer(ctx), kind)

    def check(self, data: bytes | None, kind: int) -> tuple[int, bytes]:
        assert data is not None, "no answer"
        frame = protocol.Frame.decode(data)
        assert frame is not None, "damaged answer"
        assert (frame.kind, frame.seq) == (kind | protocol.ANSWER, self.seq)
        return frame.payload[0], frame.payload[1:]

    def run(self, test: Callable[[SimulatorContext], Awaitable[None]]) -> None:
        async def source(ctx: SimulatorContext) -> None:
            while True:
                if self.queue and self.rng.random() >= self.gap:
                    ctx.set(self.dut.rx.payload, self.queue.popleft())
                    ctx.set(self.dut.rx.valid, 1)
                    await ctx.tick().until(self.dut.rx.ready)
                    ctx.set(self.dut.rx.valid, 0)
                else:
                    await ctx.tick()

        async def sink(ctx: SimulatorContext) -> None:
            while True:
                ready = int(self.rng.random() >= self.stall)
                ctx.set(self.dut.tx.ready, ready)
                _, _, valid, byte = await ctx.tick().sample(self.dut.tx.valid, self.dut.tx.payload)
                if valid and ready:
                    self.frames.extend(self.decoder.feed((byte,)))

        simulator = Simulator(self.dut)
        simulator.add_clock(1e-6)
        simulator.add_testbench(test)
        simulator.add_testbench(source, background=True)
        simulator.add_testbench(sink, background=True)
        simulator.run()
