"""Decoder of streamed weights: every byte, and what it costs."""

from __future__ import annotations

from typing import Any

import pytest
from amaranth.back import rtlil
from amaranth.sim import Simulator

from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.decode import TritDecoder
from ternac.hdl.cells.tech import Technology
from tests.hdl.yosys import netlist, run_yosys


@pytest.mark.parametrize("encoding", Encoding)
def test_every_byte_that_packing_makes(encoding: Encoding) -> None:
    decoder = TritDecoder(encoding)
    negative_zero = [any((code >> 2 * i & 3) == 2 for i in range(4)) for code in range(256)]

    async def bench(ctx: Any) -> None:
        for code in range(256):
            if encoding is Encoding.TWO and negative_zero[code]:
                continue
            ctx.set(decoder.code, code)
            nz, neg = ctx.get(decoder.nz), ctx.get(decoder.neg)
            assert not neg & ~nz
            found = [(nz >> i & 1) - 2 * (neg >> i & 1) for i in range(encoding.rows)]
            assert found == decoder.model(code)

    simulator = Simulator(decoder)
    simulator.add_testbench(bench)
    simulator.run()


@pytest.mark.parametrize(("tech", "synth", "cell"), [
    (Technology.ECP5, "synth_ecp5", "LUT4"),
    (Technology.ICE40, "synth_ice40", "SB_LUT4"),
])  # fmt: skip
def test_at_most_20_lut4_a_byte(tech: Technology, synth: str, cell: str) -> None:
    cells = netlist(TritDecoder(Encoding.FIVE, tech=tech), synth)
    assert set(cells) == {cell}
    assert cells[cell] <= 15


def test_ecp5_form_is_proven_equal() -> None:
    files = {
        f"{name}.il": rtlil.convert(TritDecoder(Encoding.FIVE, tech=tech), name=name, emit_src=False)
        for name, tech in (("gold", Technology.PORTABLE), ("gate", Technology.ECP5))
    }
    files["lut4.v"] = (
        "module LUT4(input A, B, C, D, output Z); parameter [15:0] INIT = 0;\n"
        "wire [15:0] init = INIT; assign Z = init[{D, C, B, A}]; endmodule\n"
    )
    run_yosys(
        "read_rtlil gold.il\nhierarchy -top gold\nproc\nflatten\ndesign -stash gold\n"
        "read_rtlil gate.il\nread_verilog lut4.v\nhierarchy -top gate\nproc\nflatten\ndesign -stash gate\n"
        "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "miter -equiv -flatten gold gate miter\nsat -verify -prove trigger 0 miter\n",
        files,
    )
