"""A memory behind an AXI4 read port, as a component under test sees it: latency, pauses, contents."""

from __future__ import annotations

import random
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt


class MemoryBus:
    """Answers the ``m_axi`` port of ``dut`` from ``memory``, in order, at most a beat a cycle.

    ``latency`` from an address to its first beat; ``pauses`` of all cycles have no beat; addresses wait in as
    many. Call `drive` once in every cycle, before the edge.
    """

    def __init__(
        self,
        dut: Any,
        memory: npt.NDArray[np.uint8],
        rng: random.Random,
        *,
        latency: tuple[int, int] = (20, 20),
        pauses: float = 0.0,
        prefix: str = "m_axi",
    ) -> None:
        self.dut, self.memory, self.rng, self.prefix = dut, memory, rng, prefix
        self.latency, self.pauses = latency, pauses
        self.flight: deque[tuple[int, bool, int]] = deque()
        self.cycle = self.beats = 0
        self.asked: list[tuple[int, int]] = []
        self.shown: int | None = None

    def port(self, name: str) -> Any:
        return getattr(self.dut, f"{self.prefix}_{name}")

    def drive(self, ctx: Any) -> None:
        """Take an address and give a beat, if it is their time."""
        size = len(self.port("rdata")) // 8
        due = bool(self.flight) and self.flight[0][2] <= self.cycle and self.rng.random() >= self.pauses
        ctx.set(self.port("rvalid"), due)
        if due:
            address, last, _ = self.flight[0]
            ctx.set(
                self.port("rdata"), int.from_bytes(self.memory[address : address + size].tobytes(), "little")
            )
            ctx.set(self.port("rlast"), last)
            assert ctx.get(self.port("rready"))
            self.flight.popleft()
            self.beats += 1
        ready = self.rng.random() >= self.pauses
        ctx.set(self.port("arready"), ready)
        if ctx.get(self.port("arvalid")):
            address = ctx.get(self.port("araddr"))
            assert self.shown in (None, address), "an address that is shown stays"
            self.shown = address
            if ready:
                self.shown = None
                beats = ctx.get(self.port("arlen")) + 1
                assert address // 4096 == (address + beats * size - 1) // 4096
                assert address + beats * size <= len(self.memory)
                self.asked.append((address, beats))
                due_at = self.cycle + self.rng.randint(*self.latency)
                self.flight += [(address + i * size, i == beats - 1, due_at) for i in range(beats)]
        else:
            assert self.shown is None
        self.cycle += 1
