"""Driver and monitor of the whole engine: what the link controller does, cycle by cycle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Mem
from ternac.compile.image import Image, RowSymbol, Symbol
from ternac.compile.layout import from_slots, row_values
from ternac.link import READ_ROWS
from ternac.run.sampling import Sampling
from ternac.sim.cocotb.common import tick

__all__ = ["BankMonitor", "EngineDriver", "Step"]

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Step:
    """Answer of the engine to one token."""

    next_token: int
    rng: int
    cycles: int


class EngineDriver:
    """Driver: loads an image and runs tokens through the ports of `EngineCore`."""

    INPUTS = (
        "wr_en wr_mem wr_block wr_addr wr_data rd_en rd_block rd_addr "
        "start start_context again hold_done entry token session_base emit clear greedy inv_m inv_s "
        "top_k rng_in"
    ).split()

    def __init__(self, dut: Any, image: Image, limit: int = 1_000_000) -> None:
        self.dut, self.image, self.limit = dut, image, limit

    async def load(self) -> None:
        """Load all memories, one word per cycle, and zeros for the state of every session slot."""
        image = self.image
        for mem, words in image.memories.items():
            for block in range(words.shape[0]):
                for address in range(words.shape[1]):
                    await self._write(mem, block, address, int(words[block, address]))
        first = image.state_base
        for block in range(image.geometry.columns):
            for address in range(first, first + image.sessions * image.state_slots):
                await self._write(Mem.BANK, block, address, 0)
        self.dut.wr_en.value = 0
        for _ in range(4):  # the write path is a pipeline
            await tick(self.dut)

    async def _write(self, mem: Mem, block: int, address: int, word: int) -> None:
        dut = self.dut
        dut.wr_en.value, dut.wr_mem.value, dut.wr_block.value = 1, int(mem), block
        dut.wr_addr.value, dut.wr_data.value = address, word
        await tick(dut)

    async def step(
        self, token: int, slot: int, *, emit: bool, sampling: Sampling, rng: int, context: int = 0
    ) -> Step:
        """One token in session slot ``slot``, run by ``context``; AssertionError if the engine does not
        finish.
        """
        dut = self.dut
        dut.start_context.value, dut.entry.value = context, self.image.entries[context]
        dut.token.value, dut.session_base.value = token, self.image.session_base(slot)
        dut.emit.value, dut.greedy.value = int(emit), int(sampling.greedy)
        dut.inv_m.value, dut.inv_s.value, dut.top_k.value = sampling.m, sampling.s, sampling.top_k
        dut.rng_in.value = rng
        dut.start.value = dut.clear.value = 1
        for _ in range(self.limit):
            await tick(dut)
            dut.start.value = dut.clear.value = 0
            if dut.done.value:
                break
        else:
            raise AssertionError(f"the engine did not finish token {token} within {self.limit} cycles")
        answer = Step(int(dut.next_token.value), int(dut.rng_out.value), int(dut.cycles.value))
        await tick(dut)
        assert not dut.busy.value, "the engine is busy after done"
        return answer


class BankMonitor:
    """Monitor: reads vectors out of the banks."""

    def __init__(self, dut: Any, image: Image) -> None:
        self.dut, self.image = dut, image

    async def values(self) -> dict[str, Ints]:
        """Return every value that is intact after a token, by name."""
        return {name: await self._vector(symbol, 0) for name, symbol in self.image.symbols.items()}

    async def states(self, slot: int) -> dict[str, Ints]:
        """Return the state of session slot ``slot``, by name."""
        base = self.image.session_base(slot)
        found = {name: await self._vector(symbol, base) for name, symbol in self.image.states.items()}
        return found | {name: await self._rows(symbol, base) for name, symbol in self.image.rows.items()}

    async def _rows(self, symbol: RowSymbol, base: int) -> Ints:
        """Return a session's memory as [rows, width]."""
        g, start = self.image.geometry, symbol.address + (base << self.image.row_shift)
        words = np.zeros((g.columns, symbol.rows << symbol.step), np.uint32)
        for column in range(g.columns):
            for at in range(words.shape[1]):
                words[column, at] = await self._read(READ_ROWS + column, start + at)
        return row_values(words, symbol.width, g, symbol.step).astype(np.int32)

    async def _vector(self, symbol: Symbol, base: int) -> Ints:
        g = self.image.geometry
        words = np.zeros((g.columns, symbol.slots(g)), np.uint32)
        for column in range(g.columns):
            for slot in range(words.shape[1]):
                words[column, slot] = await self._read(column, symbol.address + base + slot)
        return from_slots(words, symbol.length, symbol.parts)

    async def _read(self, block: int, address: int) -> int:
        dut = self.dut
        dut.rd_block.value, dut.rd_addr.value, dut.rd_en.value = block, address, 1
        for _ in range(16):
            await tick(dut)
            dut.rd_en.value = 0
            if dut.rd_valid.value:
                return int(dut.rd_data.value)
        raise AssertionError(f"no answer to a read of bank {block}, word {address}")
