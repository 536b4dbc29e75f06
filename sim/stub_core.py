"""A stub of the engine core: the same ports, trivial arithmetic, to test the link alone."""

from __future__ import annotations

from amaranth import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory

from ternac.compile.geometry import Mem
from ternac.hdl.link.ports import EngineSignature


class StubModel:
    """`StubCore` in Python. ``writes`` logs every word as (mem, block, addr, data)."""

    def __init__(self, blocks: int = 4, depth: int = 16) -> None:
        self.blocks, self.depth = blocks, depth
        self.bank = [0] * (blocks * depth)
        self.writes: list[tuple[int, int, int, int]] = []

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """Write one loader word."""
        self.writes.append((mem, block, addr, data))
        if mem == Mem.BANK:
            self.bank[(block % self.blocks) * self.depth + addr % self.depth] = data & 0xFFFF

    def read(self, block: int, addr: int) -> int:
        """Read one bank word."""
        return self.bank[(block % self.blocks) * self.depth + addr % self.depth]

    def step(self, token: int, session_base: int, emit: bool, rng: int) -> tuple[int, int]:
        """Run one token; returns next token and rng. The state is bank word ``session_base`` of block 0."""
        address = session_base % self.depth
        state = (self.bank[address] * 5 + token + 1) & 0xFFFF
        self.bank[address] = state
        return state & 0xFF, (rng + token) & 0xFFFFFFFF if emit else rng


class StubCore(wiring.Component):
    """Ports of the engine core; a step takes ``latency`` cycles and computes :meth:`StubModel.step`.

    Parameters: ``blocks`` and ``depth`` of the bank, powers of two; ``latency`` >= 2; ``slow``: a token that
    takes ``slow_latency`` cycles.
    """

    def __init__(
        self,
        blocks: int = 4,
        depth: int = 16,
        latency: int = 5,
        slow: int | None = None,
        slow_latency: int = 0,
    ) -> None:
        if latency < 2 or blocks & (blocks - 1) or depth & (depth - 1):
            raise ValueError("latency must be at least 2, blocks and depth powers of two")
        self.blocks, self.depth, self.latency = blocks, depth, latency
        self.slow, self.slow_latency = slow, slow_latency
        super().__init__(dict(EngineSignature.flip().members.items()))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.bank = bank = Memory(shape=16, depth=self.blocks * self.depth, init=[])
        write, read = bank.write_port(), bank.read_port()
        address_bits = (self.depth - 1).bit_length()
        block_bits = (self.blocks - 1).bit_length()
        left, state, token = Signal(range(max(self.latency, self.slow_latency) + 1)), Signal(16), Signal(16)
        begun = Signal()
        m.d.comb += [
            self.busy.eq(left != 0),
            read.addr.eq(Cat(self.rd_addr[:address_bits], self.rd_block[:block_bits])),
            write.addr.eq(Cat(self.wr_addr[:address_bits], self.wr_block[:block_bits])),
            write.data.eq(self.wr_data),
            write.en.eq(self.wr_en & (self.wr_mem == Mem.BANK)),
            self.rd_data.eq(read.data),
        ]
        m.d.sync += [self.rd_valid.eq(self.rd_en), self.done.eq(0)]
        with m.If(self.clear):
            m.d.sync += self.cycles.eq(0)
        with m.If(left == 0):
            with m.If(self.start):
                m.d.sync += [left.eq(self.latency), token.eq(self.token), begun.eq(1)]
                if self.slow is not None:
                    with m.If(self.token == self.slow):
                        m.d.sync += left.eq(self.slow_latency)
                m.d.comb += read.addr.eq(self.session_base[:address_bits])
        with m.Else():
            m.d.sync += [left.eq(left - 1), begun.eq(0), self.cycles.eq(self.cycles + 1)]
            with m.If(begun):
                m.d.sync += state.eq(read.data * 5 + token + 1)
            with m.If(left == 1):
                m.d.comb += [
                    write.addr.eq(self.session_base[:address_bits]),
                    write.data.eq(state),
                    write.en.eq(1),
                ]
                m.d.sync += [
                    self.done.eq(1),
                    self.next_token.eq(state[:8]),
                    self.rng_out.eq(self.rng_in + token),
                ]
        return m
