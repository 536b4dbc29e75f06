"""Duplicates of a register: equal everywhere, and still there after synthesis on ECP5."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.registers import duplicate_register
from ternac.hdl.cells.tech import Technology
from tests.hdl.sim import simulate
from tests.hdl.yosys import netlist


class _Copies(wiring.Component):
    def __init__(self, copies: int, tech: Technology) -> None:
        self.copies, self.tech = copies, tech
        super().__init__({"value": In(5), "all": Out(5 * copies)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.all.eq(Cat(*duplicate_register(m, self.value, self.copies, self.tech)))
        return m


def test_copies_follow_by_a_cycle() -> None:
    dut = _Copies(3, Technology.PORTABLE)

    async def bench(ctx: Any) -> None:
        assert ctx.get(dut.all) == 0
        for value in (21, 6, 31):
            ctx.set(dut.value, value)
            await ctx.tick()
            assert ctx.get(dut.all) == value * (1 | 1 << 5 | 1 << 10)

    simulate(dut, bench)


def test_synthesis_keeps_every_copy_on_ecp5() -> None:
    assert netlist(_Copies(3, Technology.ECP5), "synth_ecp5")["TRELLIS_FF"] == 15
    assert netlist(_Copies(3, Technology.PORTABLE), "synth_ecp5")["TRELLIS_FF"] == 5


def test_at_least_one_copy() -> None:
    assert netlist(_Copies(1, Technology.ECP5), "synth_ecp5")["TRELLIS_FF"] == 5
