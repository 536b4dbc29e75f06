"""The norm unit against its model: every exponent, extremes, gaps, and a start that must be ignored."""

from __future__ import annotations

import re

import numpy as np
import pytest
from amaranth.sim import Simulator

from ternac.hdl.engine.norm import NormUnit
from ternac.program.numerics import norm_exponent
from tests.hdl.yosys import assert_no_multiplier, netlist


def _sums(rng: np.random.Generator, columns: int) -> list[int]:
    """Column sums whose total takes any magnitude below 2**32."""
    total = int(rng.integers(0, 1 << int(rng.integers(0, 33))))
    cuts = sorted(int(cut) for cut in rng.integers(0, total + 1, columns - 1))
    return [b - a for a, b in zip([0, *cuts], [*cuts, total], strict=True)]


@pytest.mark.parametrize(("columns", "tables"), [(1, 1), (2, 2), (5, 3), (12, 2)])
def test_matches_model(columns: int, tables: int) -> None:
    rng = np.random.default_rng(columns)
    table = rng.integers(0, 256, (tables, 256))
    cases = [[0] * columns, [1] + [0] * (columns - 1), [0] * (columns - 1) + [2**32 - 1]]
    cases += [[0] * (columns - 1) + [1 << bit] for bit in range(32)]
    cases += [[0] * (columns - 1) + [(1 << bit) - 1] for bit in range(1, 32)]
    cases += [_sums(rng, columns) for _ in range(60)]
    dut = NormUnit(columns=columns, tables=tables)

    async def bench(ctx) -> None:  # type: ignore[no-untyped-def]
        for address, value in enumerate(table.reshape(-1)):
            ctx.set(dut.wr_en, 1)
            ctx.set(dut.wr_addr, address)
            ctx.set(dut.wr_data, int(value))
            await ctx.tick()
        ctx.set(dut.wr_en, 0)
        held = (0, 0)
        for sums in cases:
            post, which = int(rng.integers(0, 17)), int(rng.integers(0, tables))
            for port, value in zip(dut.sums, sums, strict=True):
                ctx.set(port, value)
            ctx.set(dut.post, post)
            ctx.set(dut.table, which)
            ctx.set(dut.start, 1)
            for cycle in range(1, dut.latency + 1):
                await ctx.tick()
                # Whatever the inputs do now must not matter; half of the time that includes another start.
                ctx.set(dut.start, int(rng.integers(0, 2)) if cycle < dut.latency - 1 else 0)
                for port in dut.sums:
                    ctx.set(port, int(rng.integers(0, 1 << 32)))
                ctx.set(dut.post, int(rng.integers(0, 32)))
                ctx.set(dut.table, int(rng.integers(0, tables)))
                assert ctx.get(dut.done) == (cycle == dut.latency)
                assert ctx.get(dut.busy) == (cycle < dut.latency)
                if cycle < dut.latency:
                    assert (ctx.get(dut.mantissa), ctx.get(dut.shift)) == held
            held = dut.model(sums, table[which], post)
            ctx.set(dut.start, 0)
            for _ in range(int(rng.integers(0, 4))):
                assert (ctx.get(dut.mantissa), ctx.get(dut.shift)) == held
                await ctx.tick()
            assert (ctx.get(dut.mantissa), ctx.get(dut.shift)) == held

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def test_model_is_the_numerics() -> None:
    table = np.arange(256)
    for ss in [0, 1, 2, 3, 4, 63, 64, 255, 256, 4095, 4096, 2**31, 2**32 - 1, 12345678]:
        exponent, index = norm_exponent(ss)
        assert NormUnit.model([ss], table, 3) == (index, 3 + exponent)
    with pytest.raises(ValueError, match="does not fit 32 bits"):
        NormUnit.model([2**31, 2**31], table, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"columns": 0, "tables": 1}, "columns must be 1..256, not 0"),
        ({"columns": 257, "tables": 1}, "columns must be 1..256, not 257"),
        ({"columns": 4, "tables": 17}, "tables must be 1..16, not 17"),
    ],
)
def test_rejects(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        NormUnit(**arguments)


def test_area_and_no_multiplier() -> None:
    small = netlist(NormUnit(columns=2, tables=1), "synth_ice40")
    assert_no_multiplier(small)
    assert small["SB_LUT4"] <= 115
    assert_no_multiplier(netlist(NormUnit(columns=12, tables=2), "synth_ecp5"))
