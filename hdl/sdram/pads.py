"""The pads of an ECP5 board's SDRAM: a register in each, and the chip's clock half a cycle behind them.

Everything leaves the FPGA through a pad register at the rising edge of ``sync``. The chip's clock leaves
through an ODDRX1F that puts out 0 then 1, so it rises at the falling edge of ``sync``: address, command and
data have half a cycle before it and half a cycle after it. What the chip sends for its edge n + 1 begins an
access time after its edge n and ends an output hold time after its edge n + 1; it is taken at the falling
edge of ``sync`` that makes edge n + 1, a whole period after the one that made n: clock to pad, access time
(6 ns) and pad to register must fit into a period. A register at the rising edge follows.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import ClockDomain, ClockSignal, Const, Elaboratable, Instance, Module, Signal
from amaranth.lib import io

__all__ = ["SdramPads"]


class SdramPads(Elaboratable):
    """Puts a `SdramPins` interface on the pins of ``port``, the board's resource requested with ``dir="-"``.

    Commands take a cycle to the pins, words read two cycles: `ternac.hdl.sdram.controller.PAD_DELAY`.
    ``clock``: the domain whose falling edges the chip's clock follows, if not ``sync``.
    """

    def __init__(self, port: Any, pins: Any, clock: str = "sync") -> None:
        self.port, self.pins, self.clock = port, pins, clock

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        port, pins = self.port, self.pins
        m.submodules.clk = clock = io.DDRBuffer("o", port.clk, o_domain=self.clock)
        m.d.comb += [clock.o[0].eq(0), clock.o[1].eq(1)]
        for name, value in (
            ("clk_en", pins.cke), ("cs", pins.cs), ("ras", pins.ras), ("cas", pins.cas), ("we", pins.we),
            ("dqm", pins.dqm), ("ba", pins.ba), ("a", pins.a),
        ):  # fmt: skip
            m.submodules[name] = buffer = io.FFBuffer("o", getattr(port, name))
            m.d.comb += buffer.o.eq(value)
        m.domains.sample = ClockDomain(clk_edge="neg", reset_less=True, local=True)
        m.d.comb += ClockSignal("sample").eq(ClockSignal("sync"))
        for bit in range(len(pins.dq_o)):
            sent, silent, seen = (Signal(name=f"{name}_{bit}") for name in ("sent", "silent", "seen"))
            for name, source, pad in (("data", pins.dq_o[bit], sent), ("off", ~pins.dq_oe, silent)):
                m.submodules[f"{name}_{bit}"] = Instance(
                    "OFS1P3DX", i_SCLK=ClockSignal(), i_SP=Const(1), i_CD=Const(0), i_D=source, o_Q=pad
                )
            m.submodules[f"dq_{bit}"] = Instance("BB", i_I=sent, i_T=silent, o_O=seen, io_B=port.dq.io[bit])
            taken = Signal(name=f"taken_{bit}")
            m.d["sample"] += taken.eq(seen)
            m.d.sync += pins.dq_i[bit].eq(taken)
        return m
