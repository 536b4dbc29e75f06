"""Driver and monitor of the sampler."""

from __future__ import annotations

from typing import Any

from ternac.run.sampling import Sampling
from ternac.sim.cocotb.common import Checker, Gaps, tick

__all__ = ["SamplerDriver", "watch"]


class SamplerDriver:
    """Driver: feeds logits row by row and asks for a token."""

    def __init__(self, dut: Any, columns: int, vocab: int, gaps: Gaps) -> None:
        self.dut, self.columns, self.gaps = dut, columns, gaps
        self.rows = -(-vocab // columns)
        self.tail = vocab - columns * (self.rows - 1)

    @staticmethod
    def inputs(columns: int) -> list[str]:
        """Return the names of the design's inputs."""
        names = "row_valid row_slot last_slot tail start greedy inv_m inv_s top_k rng_in"
        return [*names.split(), *(f"row__{column}" for column in range(columns))]

    async def send(self, logits: list[int]) -> None:
        """Send all rows in order, with noise beyond the vocabulary."""
        dut = self.dut
        dut.last_slot.value, dut.tail.value = self.rows - 1, self.tail
        for slot in range(self.rows):
            await self.gaps.wait(dut)
            for column in range(self.columns):
                index = slot * self.columns + column
                value = logits[index] if index < len(logits) else self.gaps.rng.randrange(-32768, 32768)
                getattr(dut, f"row__{column}").value = value
            dut.row_slot.value = slot
            dut.row_valid.value = 1
            await tick(dut)
            dut.row_valid.value = 0

    async def choose(self, sampling: Sampling, rng: int) -> int:
        """Start, wait for ``done`` and return the cycles it took."""
        dut = self.dut
        dut.greedy.value, dut.top_k.value, dut.rng_in.value = int(sampling.greedy), sampling.top_k, rng
        dut.inv_m.value, dut.inv_s.value = sampling.m, sampling.s
        dut.start.value = 1
        cycles = 0
        while not dut.done.value or cycles == 0:
            await tick(dut)
            dut.start.value = 0
            cycles += 1
        return cycles


async def watch(dut: Any, checker: Checker) -> None:
    """Monitor: reports (next token, generator) of every ``done``."""
    while True:
        await tick(dut)
        if dut.done.value:
            checker.observe((int(dut.next_token.value), int(dut.rng_out.value)))
