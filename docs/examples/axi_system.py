"""The AXI block in a simulated system: a bus master asks the engine over registers who it is.

``python axi_system.py [verilator|icarus]``. The same block as Verilog files: ``ternac emit --top axi``.
"""

import sys

import cocotb
from cocotbext.axi import AxiLiteBus, AxiLiteMaster

from ternac import link
from ternac.compile.geometry import preset
from ternac.hdl.axi.registers import register
from ternac.hdl.axi.top import AxiTop
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine
from ternac.sim.cocotb.common import start_clock
from ternac.sim.cocotb.runner import run

ENGINE = preset("tiny")


def block():
    return AxiTop(LinkedEngine(EngineCore(ENGINE), LinkController(0, bytes(16), ENGINE.hash)))


@cocotb.test(timeout_time=2, timeout_unit="ms")
async def the_engine_says_who_it_is(dut):
    await start_clock(dut, ("s_axis_tvalid", "m_axis_tready"))
    master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    for byte in link.Frame(link.Command.HELLO, 1, b"").wire():
        await master.write_dword(register("IN").offset, byte)
    answer = bytearray()
    while answer[1:].count(link.END) == 0:
        value = await master.read_dword(register("OUT").offset)
        answer += bytes([value & 0xFF] if value >> 8 else [])
    (frame,) = link.SlipDecoder(link.FRAME_BYTES).feed(bytes(answer))
    assert link.Identity.decode(link.Frame.decode(frame).payload[1:]).geometry_hash == ENGINE.hash


if __name__ == "__main__":
    result = run(block, "axi_system", simulator=(*sys.argv[1:], "verilator")[0])
    sys.exit(result.failures() if not result.ok else None)
