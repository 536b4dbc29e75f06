"""Agents of the streaming matrix-vector unit: a memory behind AXI4, activation writes, descriptors, sums."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
from cocotb.queue import Queue
from cocotb.triggers import RisingEdge
from cocotb.utils import get_sim_time
from cocotbext.axi import AxiRamRead, AxiReadBus

from ternac.compile.stream_layout import Descriptor, Encoding
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.sim.cocotb.common import PERIOD_NS, Checker, Gaps, tick

__all__ = ["INPUTS", "DescriptorDriver", "Ram", "pauses", "stream_unit", "watch_sums", "write_activations"]

INPUTS = (
    "desc__valid",
    "desc__payload",
    "x_wr_en",
    "x_wr_addr",
    "x_wr_data",
    "x_ready",
    "sums__ready",
    "clear",
    "m_axi_arready",
    "m_axi_rid",
    "m_axi_rdata",
    "m_axi_rresp",
    "m_axi_rlast",
    "m_axi_rvalid",
)


def stream_unit(settings: dict[str, Any]) -> Any:
    """Return the unit of the ``stream`` and ``axi`` benches."""
    names = ("port_bits", "x_depth", "chain", "depth", "burst", "outstanding", "queue")
    return StreamMatVec(encoding=Encoding(settings["encoding"]), **{name: settings[name] for name in names})


class _Delayed:
    """Request channel that delays each request by some cycles after the handshake."""

    def __init__(self, channel: Any, cycles: Callable[[], int], seen: Callable[[int, int], None]) -> None:
        self.channel, self.cycles, self.seen = channel, cycles, seen
        self.queue: Queue[tuple[Any, float]] = Queue()
        cocotb.start_soon(self._collect())

    async def _collect(self) -> None:
        while True:
            request = await self.channel.recv()
            self.seen(int(request.araddr), int(request.arlen) + 1)
            self.queue.put_nowait((request, get_sim_time("ns") + PERIOD_NS * self.cycles()))

    async def recv(self) -> Any:
        """Return the next request once its delay is over."""
        request, due = await self.queue.get()
        while get_sim_time("ns") < due:
            await RisingEdge(self.channel.clock)
        return request

    def clear(self) -> None:
        """Drop what is in flight, as a reset does."""
        self.channel.clear()
        while not self.queue.empty():
            self.queue.get_nowait()


class Ram(AxiRamRead):
    """cocotbext-axi's memory with a latency for every burst and addresses that answer with an error.

    ``bursts`` lists (address, beats) of all that was asked for; cocotbext-axi itself refuses bursts that
    cross 4 KiB. ``beats`` counts cycles in which a beat was taken, between ``first`` and ``last`` (ns).
    """

    def __init__(self, dut: Any, size: int, latency: Callable[[], int]) -> None:
        super().__init__(AxiReadBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=size)
        self.log.setLevel("ERROR")
        self.bad: set[int] = set()
        self.bursts: list[tuple[int, int]] = []
        self.beats, self.first, self.last = 0, 0.0, 0.0
        requests: Any = self.ar_channel
        self.ar_channel: Any = _Delayed(requests, latency, lambda *burst: self.bursts.append(burst))
        cocotb.start_soon(self._count(dut))

    async def _read(self, address: int, length: int) -> Any:
        if address in self.bad:
            raise ValueError("this address answers with an error")
        return await super()._read(address, length)

    async def _count(self, dut: Any) -> None:
        while True:
            await tick(dut)
            assert dut.rst.value or dut.m_axi_rready.value, "the unit stalled the data port"
            if dut.m_axi_rvalid.value and not dut.rst.value:
                self.last = get_sim_time("ns")
                self.first = self.first or self.last
                self.beats += 1

    @property
    def busy(self) -> float:
        """Return the beats per cycle, from the first beat to the last."""
        return self.beats / ((self.last - self.first) / PERIOD_NS + 1)


def pauses(rng: random.Random, level: int) -> Iterator[bool]:
    """Yield pauses for ``set_pause_generator``: none (level 0) to three quarters (3) of the cycles."""
    while True:
        yield rng.randrange(4) < level


class DescriptorDriver:
    """Driver: sends descriptors, with gaps."""

    def __init__(self, dut: Any, unit: StreamMatVec, gaps: Gaps) -> None:
        self.dut, self.unit, self.gaps = dut, unit, gaps

    async def send(self, descriptor: Descriptor, beats: int | None = None) -> None:
        """Send one descriptor; ``beats`` replaces the correct number."""
        dut, unit = self.dut, self.unit
        fields = {
            "address": descriptor.address,
            "rows": descriptor.rows,
            "words": descriptor.words,
            "x_base": descriptor.x_base,
            "fence": int(descriptor.fence),
            "beats": descriptor.beats(unit.encoding) if beats is None else beats,
        }
        await self.gaps.wait(dut)
        dut.desc__payload.value = unit.desc_layout.const(fields).as_value().value
        dut.desc__valid.value = 1
        taken = False
        while not taken:
            taken = bool(dut.desc__ready.value)  # it does not depend on valid
            await tick(dut)
        dut.desc__valid.value = 0


async def write_activations(dut: Any, base: int, x: Any, gaps: Gaps) -> None:
    """Write words of activations from ``base`` on, then signal that they are complete."""
    for i, word in enumerate(x):
        await gaps.wait(dut)
        dut.x_wr_en.value = 1
        dut.x_wr_addr.value = base + i
        dut.x_wr_data.value = int.from_bytes(word.tobytes(), "little")
        await tick(dut)
        dut.x_wr_en.value = 0
    dut.x_ready.value = 1
    await tick(dut)
    dut.x_ready.value = 0


async def watch_sums(dut: Any, sum_bits: int, checker: Checker, gaps: Gaps) -> None:
    """Monitor: takes sums, with gaps, and passes (sum, last) to the checker."""
    while True:
        await gaps.wait(dut)
        dut.sums__ready.value = 1
        if dut.sums__valid.value:
            payload = int(dut.sums__payload.value)
            negative = payload >> (sum_bits - 1) & 1
            checker.observe(((payload & ((1 << sum_bits) - 1)) - (negative << sum_bits), payload >> sum_bits))
        await tick(dut)
        dut.sums__ready.value = 0
