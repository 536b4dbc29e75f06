"""The memory model on the controller's pins, for Amaranth's simulator."""

from __future__ import annotations

from collections import deque
from typing import Any

from amaranth.sim import Simulator

from ternac.compile.sdram import SdramChip
from ternac.hdl.sdram.controller import PAD_DELAY
from ternac.sim.sdram_model import SdramFault, SdramModel


class Pads:
    """Feeds a model with a `SdramPins` interface: call ``cycle`` once in each cycle, after all else."""

    def __init__(self, pins: Any, model: SdramModel) -> None:
        self.pins, self.model = pins, model
        self.fault: SdramFault | None = None
        self.next_word = 0
        self.late: deque[int | None] = deque([None] * (PAD_DELAY - 1))

    def cycle(self, ctx: Any) -> None:
        """The cycle's pins to the chip's next edge; what the chip sent PAD_DELAY cycles ago to ``dq_i``."""
        p = self.pins
        names = ("cke", "cs", "ras", "cas", "we", "ba", "a", "dqm")
        values = {name: ctx.get(getattr(p, name)) for name in names}
        dq = ctx.get(p.dq_o) if ctx.get(p.dq_oe) else None
        self.late.append(self.model.clock(**values, dq=dq))
        word = self.late.popleft()
        self.next_word = 0xDEAD if word is None else word

    async def run(self, ctx: Any) -> None:
        """As a process of its own, until a rule is broken."""
        while self.fault is None:
            try:
                self.cycle(ctx)
            except SdramFault as fault:
                self.fault = fault
            await ctx.tick()
            ctx.set(self.pins.dq_i, self.next_word)


def simulate_with_sdram(
    component: Any, pins: Any, chip: SdramChip, clock_hz: int, bench: Any, model: SdramModel | None = None
) -> SdramModel:
    """Run ``bench(ctx)`` beside a memory model, whose fault is raised; returns the model."""
    model = model or SdramModel(chip, 1e9 / clock_hz)
    simulator = Simulator(component)
    simulator.add_clock(1 / clock_hz)
    pads = Pads(pins, model)
    simulator.add_testbench(pads.run, background=True)  # first, so that `bench` sees the words in their cycle
    simulator.add_testbench(bench)
    simulator.run()
    if pads.fault is not None:
        raise pads.fault
    return model
