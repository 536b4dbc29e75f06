"""A cocotb testbench of your own on one component, held to the component's ``model()``.

``python own_bench.py [verilator|icarus]``. The simulator imports this file again for the test in it.
"""

import random
import sys

import cocotb
from cocotb.triggers import FallingEdge

from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.sim.cocotb.common import start_clock
from ternac.sim.cocotb.runner import run


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def products_are_exact(dut):
    await start_clock(dut, ("a", "b"))
    for _ in range(100):
        a, b = random.randrange(-(1 << 16), 1 << 16), random.randrange(-256, 256)
        dut.a.value, dut.b.value = a, b  # held, so that the one cycle between b and a does not matter
        for _ in range(ShiftAddMultiplier.B_LEAD + ShiftAddMultiplier.LATENCY + 1):
            await FallingEdge(dut.clk)
        assert dut.p.value.to_signed() == a * b


if __name__ == "__main__":
    result = run(ShiftAddMultiplier, "own_bench", simulator=(*sys.argv[1:], "verilator")[0])
    print(result.failures() if not result.ok else f"passed; Verilog: {result.verilog}")
    sys.exit(not result.ok)
