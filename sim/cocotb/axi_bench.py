"""AXI top level on cocotbext-axi's masters and memory: register map, frames both ways, streamed products.

Settings: what `ternac.sim.cocotb.benches.axi_top` makes the design from.
"""

from __future__ import annotations

import logging
import random
from typing import Any

import cocotb
import numpy as np
from cocotb.triggers import with_timeout
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiResp, AxiStreamBus, AxiStreamSink, AxiStreamSource

from ternac import link as protocol
from ternac.compile.geometry import Mem
from ternac.compile.stream_layout import Encoding, matrix_words, pack_matrix
from ternac.hdl.axi.registers import ID, MAP_VERSION, MAP_WORDS, chosen, register
from ternac.hdl.link.controller import LinkController
from ternac.sim.cocotb.common import generator, settings, start_clock
from ternac.sim.cocotb.stream_agents import Ram, pauses

FAULTS = {part.name: 1 << part.low for part in register("FAULTS").fields}


class Scene:
    """Masters on the two slaves' ports, a sink and a memory; ``level`` 0..3 is how often they pause."""

    def __init__(self, dut: Any, rng: random.Random, level: int) -> None:
        self.dut, self.rng, self.level = dut, rng, level
        logging.getLogger("cocotb.dut").setLevel("WARNING")

    async def begin(self) -> None:
        """Start the clock, reset, start the agents."""
        dut, rng, level = self.dut, self.rng, self.level
        await start_clock(dut, INPUTS)
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.clk, dut.rst)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.clk, dut.rst)
        self.ram = Ram(dut, 1 << 16, lambda: rng.randint(1, 20))
        if level:
            for agent in (
                self.source,
                self.sink,
                self.ram.r_channel,
                self.lite.write_if.aw_channel,
                self.lite.write_if.w_channel,
                self.lite.write_if.b_channel,
                self.lite.read_if.ar_channel,
                self.lite.read_if.r_channel,
            ):
                agent.set_pause_generator(pauses(rng, level))

    async def read(self, name: str) -> int:
        """Read a register."""
        answer = await self.lite.read(register(name).offset, 4)
        assert answer.resp == AxiResp.OKAY, name
        return int.from_bytes(answer.data, "little")

    async def write(self, name: str, value: int) -> None:
        """Write a register."""
        answer = await self.lite.write(register(name).offset, (value & 0xFFFFFFFF).to_bytes(4, "little"))
        assert answer.resp == AxiResp.OKAY, name

    async def ask(self, data: bytes, streamed: bool) -> bytes:
        """Send bytes and return the answer's wire bytes, over the streams or over IN and OUT."""
        if streamed:
            await self.source.send(data)
            return bytes((await with_timeout(self.sink.recv(), 100, "us")).tdata)
        for byte in data:
            await self.write("IN", byte)
        answer = bytearray()
        while answer[1:].count(protocol.END) == 0:
            value = await self.read("OUT")
            if value >> 8:
                answer.append(value & 0xFF)
        return bytes(answer)


INPUTS = (
    "s_axi_awaddr",
    "s_axi_awprot",
    "s_axi_awvalid",
    "s_axi_wdata",
    "s_axi_wstrb",
    "s_axi_wvalid",
    "s_axi_bready",
    "s_axi_araddr",
    "s_axi_arprot",
    "s_axi_arvalid",
    "s_axi_rready",
    "s_axis_tdata",
    "s_axis_tvalid",
    "s_axis_tlast",
    "m_axis_tready",
    "m_axi_arready",
    "m_axi_rid",
    "m_axi_rdata",
    "m_axi_rresp",
    "m_axi_rlast",
    "m_axi_rvalid",
)


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def the_map_is_the_table(dut: Any) -> None:
    """Every word of the map answers as the table says; other addresses answer with an error."""
    scene = Scene(dut, generator(), 0)
    await scene.begin()
    table = {each.offset: each for each in chosen(stream=True, rows=False)}
    for offset in range(0, 4 * MAP_WORDS, 4):
        each = table.get(offset)
        good = each is not None and each.access.readable
        answer = await scene.lite.read(offset, 4)
        assert answer.resp == (AxiResp.OKAY if good else AxiResp.SLVERR), hex(offset)
        good = each is not None and each.access.writable
        answer = await scene.lite.write(offset, bytes(4))
        assert answer.resp == (AxiResp.OKAY if good else AxiResp.SLVERR), hex(offset)
    answer = await scene.lite.write(register("MV_ROWS").offset, b"\1")
    assert answer.resp == AxiResp.SLVERR
    assert await scene.read("MV_ROWS") == 0
    await scene.write("MV_ROWS", 0x12345678)
    assert await scene.read("MV_ROWS") == 0x12345678
    assert await scene.read("ID") == ID
    port = settings()["port_bits"] // 8
    assert await scene.read("VERSION") == MAP_VERSION | protocol.VERSION << 8 | 1 << 16 | port << 24
    for i in range(4):
        assert await scene.read(f"BITSTREAM_ID_{i}") == int.from_bytes(range(4 * i, 4 * i + 4), "little")


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(streamed=[False, True], level=[0, 2])
async def frames_are_answered(dut: Any, streamed: bool, level: int) -> None:
    """The link's frames over registers and over streams: the same bytes as on a UART."""
    scene = Scene(dut, generator(level), level)
    await scene.begin()
    await scene.write("CONTROL", int(streamed))
    seq = 0

    async def request(kind: int, payload: bytes) -> bytes:
        nonlocal seq
        seq += 1
        wire = await scene.ask(protocol.Frame(kind, seq, payload).wire(), streamed)
        (raw,) = protocol.SlipDecoder(protocol.FRAME_BYTES).feed(wire)
        frame = protocol.Frame.decode(raw)
        assert frame is not None
        assert frame.kind == kind | protocol.ANSWER and frame.seq == seq
        assert frame.payload[0] == protocol.Status.OK
        return frame.payload[1:]

    controller = LinkController(0, bytes(range(16)), bytes(range(8)))
    controller._MustUse__silence = True
    assert await request(protocol.Command.HELLO, b"") == controller.identity.encode()
    for block in range(3):
        words = bytes(scene.rng.randrange(256) for _ in range(10))
        head = bytes((Mem.BANK, block, 2, 0))
        await request(protocol.Command.WRITE, head + words)
        assert await request(protocol.Command.READ, bytes((5, block, 2, 0))) == words
    assert not await scene.read("FAULTS")
    if not streamed:
        for byte in b"\xc0damaged\xc0":
            await scene.write("IN", byte)
        while not (await scene.read("STATUS")) & 1:
            pass
        assert await scene.read("FAULTS") == FAULTS["FRAME"]
        assert not await scene.read("OUT")
        await scene.write("CONTROL", 1)
        await scene.write("IN", 0)
        assert await scene.read("FAULTS") == FAULTS["FRAME"] | FAULTS["OVERRUN"]
        await scene.write("FAULTS", FAULTS["FRAME"])
        assert await scene.read("FAULTS") == FAULTS["OVERRUN"]


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(level=[0, 2])
async def products_through_registers(dut: Any, level: int) -> None:
    """A matrix from the AXI4 memory, activations and sums by registers, against NumPy."""
    scene = Scene(dut, generator(level), level)
    await scene.begin()
    given = settings()
    encoding, size = Encoding(given["encoding"]), given["port_bits"] // 8
    rng = np.random.default_rng(scene.rng.randrange(1 << 30))
    await scene.write("CONTROL", 2)
    for rows, columns, base in ((7, 3 * size, 0), (12, 2 * size - 3, 5)):
        trits = rng.integers(-1, 2, (rows, columns)).astype(np.int8)
        words = -(-columns // size)
        x = np.zeros(words * size, np.int8)
        x[:columns] = rng.integers(-128, 128, columns)
        address = 4096 - size * 2 + 8192 * base
        scene.ram.write(address, pack_matrix(trits, size, encoding).tobytes())
        for name, value in {
            "MV_ADDRESS": address,
            "MV_BEATS": matrix_words(rows, columns, size, encoding),
            "MV_ROWS": rows,
            "MV_SHAPE": words | base << 16,
            "MV_START": 1,
            "X_ADDRESS": base,
        }.items():
            await scene.write(name, value)
        for at in range(0, words * size, 4):
            await scene.write("X_DATA", int.from_bytes(x[at : at + 4].tobytes(), "little"))
        assert not dut.irq.value
        await scene.write("X_READY", 0)
        for row, expected in enumerate(trits.astype(int) @ x[:columns].astype(int)):
            status = 0
            while not status & 2:
                status = await scene.read("MV_STATUS")
            assert dut.irq.value
            assert bool(status & 4) == (row == rows - 1)
            assert await scene.read("SUM") == int(expected) & 0xFFFFFFFF
    assert not await scene.read("FAULTS")
    assert not await scene.read("SUM")
    assert await scene.read("FAULTS") == FAULTS["UNDERRUN"]
