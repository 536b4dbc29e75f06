"""Power-up from SPI flash: a stub engine behind the real controller, a flash model on the pins."""

from __future__ import annotations

import random

import pytest
from amaranth.sim import Simulator, SimulatorContext

from ternac.compile.geometry import Mem
from ternac.compile.loading import write_payload
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.spiflash import FlashBoot
from ternac.hdl.link.top import LinkedEngine, UartEngine
from ternac.hdl.link.uart import UartTx
from ternac.link import Command, Frame, Identity, SlipDecoder
from ternac.sim.stub_core import StubCore
from tests.hdl.link.link_bench import line_bytes

OFFSET = 0x012345
HASH = b"programme-hash!!"


def image(*, hash_=HASH):
    frames = [
        (Command.HELLO, b""),
        (Command.COMMIT, bytes(16)),
        (Command.WRITE, write_payload(Mem.BANK, 1, 2, [0xC0DB, 0xFFFF], 2)),
        (Command.COMMIT, hash_),
    ]
    return b"".join(Frame(kind, i, payload).wire() for i, (kind, payload) in enumerate(frames))


def play(flash: bytes, limit=30_000):
    """Boot from ``flash``; returns (loaded, bank words 2 and 3 of block 1 written, HELLO's program hash)."""
    core = StubCore()
    link = LinkController(1_000_000, bytes(16), bytes(8))
    dut = UartEngine(LinkedEngine(core, link), 250_000, OFFSET)
    writes, sent = [], []

    async def chip(ctx: SimulatorContext) -> None:
        """READ and WAKE in SPI mode 0; awake only after WAKE has been clocked in and deselected."""
        awake = False
        while True:
            await ctx.posedge(dut.flash_cs)
            command = []
            while ctx.get(dut.flash_cs):
                clk, cs = await ctx.changed(dut.flash_clk, dut.flash_cs)
                if not cs:
                    break
                if clk:
                    command.append(ctx.get(dut.flash_copi))
                if not clk and awake and len(command) >= 32:
                    head = int("".join(map(str, command[:32])), 2)
                    assert head == 0x03 << 24 | OFFSET
                    position = len(command) - 32
                    at = OFFSET + position // 8
                    byte = flash[at] if at < len(flash) else 0xFF
                    ctx.set(dut.flash_cipo, byte >> (7 - position % 8) & 1)
            if command == [1, 0, 1, 0, 1, 0, 1, 1]:
                awake = True

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(limit):
            _, _, enable, *word = await ctx.tick().sample(
                core.wr_en, core.wr_block, core.wr_addr, core.wr_data
            )
            if enable:
                writes.append((word[0], word[1], word[2] & 0xFFFF))
            assert ctx.get(dut.tx) == 1, "answers to the flash must not reach the UART"
            if not ctx.get(dut.flash_cs) and dut.boot is not None and ctx.get(dut.boot.done):
                break
        await ctx.tick().repeat(300)
        for level in [1, *UartTx.model(Frame(Command.HELLO, 9).wire()), *[1] * 700]:
            ctx.set(dut.rx, level)
            for _ in range(4):
                await ctx.tick()
                sent.append(ctx.get(dut.tx))

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.add_testbench(chip, background=True)
    simulator.run()
    answer = SlipDecoder().feed(line_bytes(sent, 4))
    frame = Frame.decode(answer[0])
    assert frame is not None
    assert (frame.kind, frame.seq, frame.payload[0]) == (0x81, 9, 0)
    return writes, Identity.decode(frame.payload[1:]).program_hash


WRITTEN = [(1, 2, 0xC0DB), (1, 3, 0xFFFF)]


def test_good_image():
    assert play(bytes(OFFSET) + image() + b"\xff" * 3) == (WRITTEN, HASH)


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x00" * 8, b"\xc0\xff"], ids=["end", "erased", "zeros", "c0"]
)
def test_nothing_there(content):
    assert play(bytes(OFFSET) + content) == ([], bytes(16))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_image_leaves_the_engine_empty(seed):
    rng = random.Random(seed)
    data = bytearray(image())
    data[rng.randrange(1, len(data) - 1)] ^= 1 << rng.randrange(8)
    _, program = play(bytes(OFFSET) + bytes(data))
    assert program == bytes(16)


@pytest.mark.parametrize("opened", [False, True])
def test_a_refused_frame_ends_the_boot(opened):
    """Refused for what it says, or for want of HELLO."""
    refused = Frame(Command.WRITE, 1, b"\x07\x00\x00\x00\x01\x02").wire()
    hello = Frame(Command.HELLO, 0).wire() if opened else b""
    assert play(bytes(OFFSET) + hello + refused + image()) == ([], bytes(16))


def test_an_image_without_hello_loads_nothing():
    hello = Frame(Command.HELLO, 0).wire()
    assert image().startswith(hello)
    assert play(bytes(OFFSET) + image()[len(hello) :]) == ([], bytes(16))


def test_model_and_arguments():
    assert FlashBoot.model(b"ab" + image(), 2) == image()
    assert FlashBoot.model(b"\xff", 0) == FlashBoot.model(b"", 5) == b""
    with pytest.raises(ValueError, match="24 bits"):
        FlashBoot(1, 1 << 24)
