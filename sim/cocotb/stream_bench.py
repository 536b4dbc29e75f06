"""Streaming matrix-vector unit on cocotbext-axi's memory: random matrices, latencies, faults, pace.

Settings: what `ternac.sim.cocotb.stream_agents.stream_unit` makes the unit from, and ``rounds``.
"""

from __future__ import annotations

import random
from typing import Any

import cocotb
import numpy as np

from ternac.compile.stream_layout import Descriptor, pack_matrix
from ternac.hdl.stream.matvec import Fault, StreamMatVec
from ternac.sim.cocotb.common import Checker, Gaps, generator, settings, start_clock, tick
from ternac.sim.cocotb.stream_agents import (
    INPUTS,
    DescriptorDriver,
    Ram,
    pauses,
    stream_unit,
    watch_sums,
    write_activations,
)

MEMORY = 1 << 16


class Scene:
    """The unit on its memory with all agents; ``level`` 0..3 is how often they pause."""

    def __init__(self, dut: Any, rng: random.Random, level: int, latency: tuple[int, int]) -> None:
        self.dut, self.rng, self.level = dut, rng, level
        self.unit: StreamMatVec = stream_unit(settings())
        for part in (self.unit, self.unit.reader, self.unit.lanes, *self.unit.lanes.units, self.unit.lanes.x):
            part._MustUse__silence = True  # asked for model and layout only
        self.memory = np.zeros(MEMORY, np.uint8)
        self.x = np.zeros((self.unit.x_depth, self.unit.port_bits // 8), np.int8)
        self.sums = Checker("row")
        self.requests: list[tuple[int, int]] = []
        self.driver = DescriptorDriver(dut, self.unit, Gaps(rng, level))
        self.latency = latency

    async def begin(self) -> None:
        """Start the clock, reset, start memory and monitor."""
        await start_clock(self.dut, INPUTS)
        rng, level = self.rng, self.level
        self.ram = Ram(self.dut, MEMORY, lambda: rng.randint(*self.latency))
        if level:
            self.ram.ar_channel.channel.set_pause_generator(pauses(rng, level))
            self.ram.r_channel.set_pause_generator(pauses(rng, level))
        cocotb.start_soon(watch_sums(self.dut, self.unit.lanes.sum_bits, self.sums, Gaps(rng, level)))

    def matrix(self, address: int, rows: int, words: int, fence: bool = False, x_base: int = 0) -> Descriptor:
        """Put random trits, sometimes all -1, into memory."""
        rng, size = np.random.default_rng(self.rng.randrange(1 << 30)), self.unit.port_bits // 8
        low = -1 if self.rng.randrange(4) else -2
        trits = np.maximum(rng.integers(low, 2 if low == -1 else 0, (rows, words * size)), -1).astype(np.int8)
        packed = pack_matrix(trits, size, self.unit.encoding)
        self.memory[address : address + packed.size] = packed
        self.ram.write(address, packed.tobytes())
        return Descriptor(address, rows, words, x_base, fence)

    def expect(self, descriptor: Descriptor) -> None:
        """Expect the sums of one matrix and the bursts that fetch it."""
        rows = self.unit.model(self.memory, self.x, [descriptor])
        for i, value in enumerate(rows):
            self.sums.expect((value, int(i == len(rows) - 1)))
        self.requests.append((descriptor.address, descriptor.beats(self.unit.encoding)))

    def vector(self, base: int, words: int) -> Any:
        """Write random activations, also the extremes, at ``base``."""
        rng = np.random.default_rng(self.rng.randrange(1 << 30))
        x = rng.integers(-128, 128, (words, self.x.shape[1]), np.int8)
        if not self.rng.randrange(4):
            x[:] = -128
        self.x[base : base + words] = x
        return x

    async def done(self) -> None:
        """Wait until all expected sums have come."""
        for _ in range(200_000):
            if not self.sums._expected:
                return
            await tick(self.dut)
        self.sums.finish()


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(level=[0, 1, 2, 3])
async def matches_model(dut: Any, level: int) -> None:
    """Random lists of matrices at every distance from a page's end; all sums, all bursts, no fault."""
    rng = generator(level)
    scene = Scene(dut, rng, level, (1, 1 + 30 * level))
    await scene.begin()
    size, depth = scene.unit.port_bits // 8, scene.unit.x_depth
    for _ in range(settings()["rounds"]):
        base, found, vectors = 0, [], []
        for _ in range(rng.randrange(1, 6)):
            words = rng.randrange(1, depth // 6)
            rows = rng.randrange(1, 1 + max(1, 120 // words))
            near_edge = 4096 * rng.randrange(1, 8) - size * rng.randrange(1, 5)
            address = near_edge if rng.randrange(2) else size * rng.randrange(MEMORY // 2 // size)
            vectors.append((base, scene.vector(base, words)))
            found.append(scene.matrix(address, rows, words, True, base))
            base += words
        for descriptor in found:  # all are in memory by now: they may overlap
            scene.expect(descriptor)
        sender = cocotb.start_soon(_send(scene, found))
        for at, x in vectors:
            await write_activations(dut, at, x, Gaps(rng, level))
        await sender
        await scene.done()
    assert scene.ram.bursts == scene.unit.reader.model(scene.requests)
    assert not dut.fault.value
    scene.sums.finish(settings()["rounds"])


async def _send(scene: Scene, descriptors: list[Descriptor]) -> None:
    for descriptor in descriptors:
        await scene.driver.send(descriptor)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def error_is_reported_and_sticks(dut: Any) -> None:
    """An error response raises READ until it is cleared; the number of sums stays the same."""
    scene = Scene(dut, generator(1), 0, (5, 30))
    await scene.begin()
    size = scene.unit.port_bits // 8
    x = scene.vector(0, 3)
    await write_activations(dut, 0, x, Gaps(scene.rng, 0))
    descriptor = scene.matrix(64 * size, rows=11, words=3)
    zeroed = 64 * size + 4 * size  # the memory model sends zeros where it errs
    scene.memory[zeroed : zeroed + size] = 0
    scene.ram.bad.add(zeroed)
    scene.expect(descriptor)
    await scene.driver.send(descriptor)
    await scene.done()
    assert dut.fault.value == Fault.READ
    scene.ram.bad.clear()
    scene.expect(scene.matrix(8192, rows=5, words=2))
    await scene.driver.send(Descriptor(8192, 5, 2))
    await scene.done()
    assert dut.fault.value == Fault.READ
    dut.clear.value = 1
    await tick(dut)
    assert not dut.fault.value
    dut.clear.value = 0


@cocotb.test(timeout_time=2, timeout_unit="ms")
@cocotb.parametrize(wrong=[-1, 1])
async def wrong_length_is_reported(dut: Any, wrong: int) -> None:
    """A descriptor whose beats are too many or too few raises LENGTH."""
    scene = Scene(dut, generator(2), 0, (5, 5))
    scene.sums.observe = lambda item: None  # type: ignore[method-assign]
    await scene.begin()
    descriptor = scene.matrix(0, rows=4, words=4)
    await scene.driver.send(descriptor, descriptor.beats(scene.unit.encoding) + wrong)
    await scene.driver.send(scene.matrix(4096, rows=1, words=2))
    for _ in range(100):
        await tick(dut)
    assert dut.fault.value == Fault.LENGTH


@cocotb.test(timeout_time=5, timeout_unit="ms")
async def port_is_busy(dut: Any) -> None:
    """At random latencies a list of matrices keeps the data port busy at least 95% of the cycles."""
    scene = Scene(dut, generator(3), 0, (20, 60))
    await scene.begin()
    scene.vector(0, 8)
    await write_activations(dut, 0, scene.x[:8], Gaps(scene.rng, 0))
    size = scene.unit.port_bits // 8
    rows = MEMORY // 4 // size // 8 // 2 * scene.unit.encoding.rows
    found = [scene.matrix(MEMORY // 4 * i + size * i, rows, words=8) for i in range(4)] * 3
    for descriptor in found:
        scene.expect(descriptor)
        await scene.driver.send(descriptor)
    await scene.done()
    dut._log.info("data port busy %.2f%% of %d beats", 100 * scene.ram.busy, scene.ram.beats)
    assert scene.ram.busy >= 0.95, scene.ram.busy
