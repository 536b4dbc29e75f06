"""AXI4-Lite slave: bus accesses become register accesses of one cycle."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Member, Out

from ternac.hdl.axi.registers import OKAY, SLVERR

__all__ = ["AxiLiteSlave", "lite_port"]


def lite_port(prefix: str, address_bits: int) -> dict[str, Member]:
    """An AXI4-Lite slave port of 32 bits as flat members."""
    members = {
        "awaddr": In(address_bits), "awprot": In(3), "awvalid": In(1), "awready": Out(1),
        "wdata": In(32), "wstrb": In(4), "wvalid": In(1), "wready": Out(1),
        "bresp": Out(2), "bvalid": Out(1), "bready": In(1),
        "araddr": In(address_bits), "arprot": In(3), "arvalid": In(1), "arready": Out(1),
        "rdata": Out(32), "rresp": Out(2), "rvalid": Out(1), "rready": In(1),
    }  # fmt: skip
    return {f"{prefix}_{name}": member for name, member in members.items()}


class AxiLiteSlave(wiring.Component):
    """``s_axi_*`` on one side, registers on the other.

    A write of less than all four bytes is an error and
    writes nothing. One access of each kind is answered before the next is taken.

    Members
    -------
    s_axi_* : lite_port
        AXI4-Lite slave.
    wr_en : Out(1)
        Pulse: a write.
    wr_word : Out(address)
        Its address in words.
    wr_data : Out(32)
        The word.
    wr_error : In(1)
        In the same cycle: there is no such register.
    rd_en : Out(1)
        Pulse: a read.
    rd_word : Out(address)
        Its address in words.
    rd_data : In(32)
        In the same cycle: the word.
    rd_error : In(1)
        In the same cycle: there is no such register.
    """

    def __init__(self, address_bits: int) -> None:
        if not 3 <= address_bits <= 32:
            raise ValueError(f"address_bits must be 3 to 32, not {address_bits}")
        words = address_bits - 2
        super().__init__({
            **lite_port("s_axi", address_bits),
            "wr_en": Out(1), "wr_word": Out(words), "wr_data": Out(32), "wr_error": In(1),
            "rd_en": Out(1), "rd_word": Out(words), "rd_data": In(32), "rd_error": In(1),
        })  # fmt: skip

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        write, whole = self.s_axi_awready, self.s_axi_wstrb.all()
        m.d.comb += [
            write.eq(self.s_axi_awvalid & self.s_axi_wvalid & ~self.s_axi_bvalid),
            self.s_axi_wready.eq(write),
            self.wr_en.eq(write & whole),
            self.wr_word.eq(self.s_axi_awaddr[2:]),
            self.wr_data.eq(self.s_axi_wdata),
            self.s_axi_arready.eq(~self.s_axi_rvalid),
            self.rd_en.eq(self.s_axi_arvalid & self.s_axi_arready),
            self.rd_word.eq(self.s_axi_araddr[2:]),
        ]
        with m.If(self.s_axi_bready):
            m.d.sync += self.s_axi_bvalid.eq(0)
        with m.If(write):
            m.d.sync += [
                self.s_axi_bvalid.eq(1),
                self.s_axi_bresp.eq(Mux(whole & ~self.wr_error, OKAY, SLVERR)),
            ]
        with m.If(self.s_axi_rready):
            m.d.sync += self.s_axi_rvalid.eq(0)
        with m.If(self.rd_en):
            m.d.sync += [
                self.s_axi_rvalid.eq(1),
                self.s_axi_rdata.eq(self.rd_data),
                self.s_axi_rresp.eq(Mux(self.rd_error, SLVERR, OKAY)),
            ]
        return m
