"""Block RAM: behaviour of every form that can be simulated; initial contents against yosys' mapping."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil, verilog

from ternac import sim
from ternac.hdl.cells.memory import BlockRam, MemoryBank, PairedRam
from ternac.hdl.cells.tech import Technology
from ternac.sim.netlist import models_of
from tests.hdl.sim import simulate
from tests.hdl.yosys import netlist, run_icarus, run_yosys


@pytest.mark.parametrize(("storage", "depth"), [("block", 37), ("distributed", 16), ("spram", 64)])
def test_reads_follow_writes(storage: str, depth: int) -> None:
    rng = random.Random(depth)
    init = [] if storage == "spram" else [rng.randrange(1 << 12) for _ in range(depth // 2)]
    ram = BlockRam(12, depth, storage=storage, init=init)
    writes = [(rng.random() < 0.5, rng.randrange(depth), rng.randrange(1 << 12)) for _ in range(500)]
    reads = [rng.choice([a for a in range(depth) if not (en and a == at)]) for en, at, _ in writes]
    expected = ram.model(writes, reads)

    async def bench(ctx: Any) -> None:
        for t in range(len(writes) + ram.LATENCY):
            if t < len(writes):
                enable, address, value = writes[t]
                ctx.set(ram.wr_en, enable)
                ctx.set(ram.wr_addr, address)
                ctx.set(ram.wr_data, value)
                ctx.set(ram.rd_addr, reads[t])
            if t >= ram.LATENCY and not (storage == "spram" and writes[t - ram.LATENCY][0]):
                assert ctx.get(ram.rd_data) == expected[t - ram.LATENCY]
            await ctx.tick()

    simulate(ram, bench)


def _ecp5_cell(ram: BlockRam | PairedRam) -> tuple[dict[str, Any], dict[str, str]]:
    """The one DP16KD of ``ram`` after synthesis: parameters, and the top-level port bit or constant at each
    pin.
    """
    text = rtlil.convert(ram, name="top", emit_src=False)
    script = "read_rtlil top.il\nsynth_ecp5 -top top -nolutram -json top.json\n"
    top = json.loads(run_yosys(script, {"top.il": text}, ("top.json",))["top.json"])["modules"]["top"]
    (cell,) = [c for c in top["cells"].values() if c["type"] == "DP16KD"]
    ports = {bit: f"{name}{i}" for name, port in top["ports"].items() for i, bit in enumerate(port["bits"])}
    pins = {pin: bits[0] for pin, bits in cell["connections"].items()}
    return cell["parameters"], {pin: ports.get(bit, str(bit)) for pin, bit in pins.items()}


# The memory that yosys infers from the portable form must carry the same initial contents.
@pytest.mark.parametrize(("depth", "width"), [(1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)])
def test_ecp5_contents_are_placed_as_yosys_places_them(depth: int, width: int) -> None:
    rng = random.Random(width)
    init = [rng.randrange(1 << width) for _ in range(depth)]
    ours, pins = _ecp5_cell(BlockRam(width, depth, tech=Technology.ECP5, init=init))
    yosys, inferred = _ecp5_cell(BlockRam(width, depth, init=init))
    for name in [f"INITVAL_{i:02X}" for i in range(64)] + ["DATA_WIDTH_A", "DATA_WIDTH_B"]:
        assert int(ours[name], 2) == int(yosys[name], 2), name
    assert ours["REGMODE_B"].strip() == "OUTREG"
    low = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    for bit in range(low, 14):
        assert pins[f"ADA{bit}"] == f"wr_addr{bit - low}"
        assert pins[f"ADB{bit}"] == inferred[f"ADB{bit}"] == f"rd_addr{bit - low}"
    assert all(pins[f"DOB{bit}"] == f"rd_data{bit}" for bit in range(width))
    assert all(pins[f"DIA{bit}"] == f"wr_data{bit}" for bit in range(width))
    assert pins["WEA"] == "wr_en0"


# Yosys' simulation models of the iCE40 cells, run by Icarus, against the reference.
@pytest.mark.icarus
@pytest.mark.parametrize(("width", "depth", "storage"), [
    (16, 256, "block"), (10, 200, "block"), (16, 512, "block"), (8, 1024, "block"), (3, 2048, "block"),
    (20, 16384, "spram"), (8, 3072, "deep"),
])  # fmt: skip
def test_ice40_cells_behave(width: int, depth: int, storage: str) -> None:
    rng = random.Random(width * depth)
    init = [rng.randrange(1 << width) for _ in range(depth)] if storage == "block" else []
    ram: BlockRam | MemoryBank
    if storage == "deep":
        ram = MemoryBank(width, depth, tech=Technology.ICE40)
    else:
        ram = BlockRam(width, depth, tech=Technology.ICE40, storage=storage, init=init)
    places = [0, 1, depth - 1, depth // 2, *rng.sample(range(depth), 60)]
    writes = [(True, a, rng.randrange(1 << width)) for a in places]
    reads = [rng.choice([b for b in places if b != a]) for _, a, _ in writes]
    writes += [(rng.random() < 0.3, rng.choice(places[:30]), rng.randrange(1 << width)) for _ in range(200)]
    reads += [rng.choice(places[30:]) if i % 2 else rng.randrange(depth) for i in range(200)]
    expected = BlockRam(width, depth, init=init).model(writes, reads)
    pairs = list(zip(writes, reads, strict=True))
    known = [not (en and (storage == "spram" or a == r)) for (en, a, _), r in pairs]
    if storage != "block":
        written: set[int] = set()
        for i, ((en, a, _), r) in enumerate(pairs):
            known[i] &= r in written
            written |= {a} if en else set()
    edge = '#1 clk=1;#1 clk=0;$display("%b",rd_data);'
    lines = [
        f"wr_en={int(en)};wr_addr={a};wr_data={v};rd_addr={r};{edge}"
        for (en, a, v), r in [*pairs, *[((False, 0, 0), 0)] * 2]
    ]
    bits = (depth - 1).bit_length() - 1
    bench = (
        f"module bench; reg clk=0, rst=0, wr_en; reg [{bits}:0] wr_addr, rd_addr;"
        f"reg [{width - 1}:0] wr_data; wire [{width - 1}:0] rd_data;"
        "top t(.clk(clk), .rst(rst), .wr_en(wr_en), .wr_addr(wr_addr), .wr_data(wr_data),"
        ".rd_addr(rd_addr), .rd_data(rd_data)); initial begin\n" + "\n".join(lines) + "\nend endmodule\n"
    )
    top = verilog.convert(ram, name="top", emit_src=False)
    rows = run_icarus({"top.v": top, "bench.v": bench}, "ice40/cells_sim.v").split()[1:]
    assert sum(known) > 60
    for row, value, sure in zip(rows, expected, known, strict=False):
        assert not sure or (set(row) <= {"0", "1"} and int(row, 2) == value)


def _gowin_cell(ram: BlockRam) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """The one block RAM of ``ram`` after synthesis: parameters, and port bits or constants at each pin."""
    text = rtlil.convert(ram, name="top", emit_src=False)
    script = "read_rtlil top.il\nsynth_gowin -top top -noiopads -nolutram -json top.json\n"
    top = json.loads(run_yosys(script, {"top.il": text}, ("top.json",))["top.json"])["modules"]["top"]
    (cell,) = [c for c in top["cells"].values() if c["type"] in ("SDPB", "SDPX9B", "DPB", "DPX9B")]
    ports = {bit: f"{name}{i}" for name, port in top["ports"].items() for i, bit in enumerate(port["bits"])}
    fixed = {
        bit: {"VCC": "1", "GND": "0"}[c["type"]]
        for c in top["cells"].values()
        if c["type"] in ("VCC", "GND")
        for bit in next(iter(c["connections"].values()))
    }
    pins = {
        pin: [ports.get(bit, fixed.get(bit, str(bit))) for bit in bits]
        for pin, bits in cell["connections"].items()
    }
    return {"type": cell["type"], **cell["parameters"]}, pins


# Yosys infers a cell with two whole ports, for reads that meet writes; words lie in it as in ours.
@pytest.mark.parametrize(("depth", "width"), [(1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)])
def test_gowin_contents_are_placed_as_yosys_places_them(depth: int, width: int) -> None:
    rng = random.Random(width)
    init = [rng.randrange(1 << width) for _ in range(depth)]
    ours, pins = _gowin_cell(BlockRam(width, depth, tech=Technology.GOWIN, init=init))
    yosys, inferred = _gowin_cell(BlockRam(width, depth, init=init))
    assert (ours["type"], yosys["type"]) == (("SDPX9B", "DPX9B") if width >= 9 else ("SDPB", "DPB"))
    for name in [f"INIT_RAM_{i:02X}" for i in range(64)] + ["BIT_WIDTH_0", "BIT_WIDTH_1"]:
        assert int(ours[name], 2) == int(yosys[name].replace("x", "0"), 2), name
    low = {18: 4, 9: 3, 4: 2, 2: 1, 1: 0}[width]
    assert pins["ADB"][low:] == inferred["ADB"][low:] == [f"rd_addr{i}" for i in range(14 - low)]
    assert pins["ADA"][low:] == [f"wr_addr{i}" for i in range(14 - low)]
    assert width != 18 or pins["ADA"][:4] == ["1", "1", "0", "0"]  # both bytes are written
    assert pins["DI"][:width] == [f"wr_data{i}" for i in range(width)]
    assert pins["CEA"] == ["wr_en0"]


@pytest.mark.icarus
@pytest.mark.parametrize(("width", "depth"), [(36, 512), (18, 1024), (9, 2048), (4, 4096), (1, 16384)])
def test_gowin_cells_behave(width: int, depth: int) -> None:
    """On a model of the cell: initial contents, then reads of what was written."""
    _cells_behave(width, depth, Technology.GOWIN, Technology.GOWIN, "synth_gowin -noiopads -nolutram")


def test_slices_map_bits_and_words_to_cells() -> None:
    ram = BlockRam(40, 1000, tech=Technology.ECP5, memory="weight", block=5)
    assert [(s.instance, s.first_bit, s.bits, s.cell_bits) for s in ram.slices] == [
        ("bram_weight_5_0", 0, 18, 18),
        ("bram_weight_5_18", 18, 18, 18),
        ("bram_weight_5_36", 36, 4, 18),
    ]
    assert ram.slices[1].units([(1 << 18) * 0x2A5C3])[:3] == [0x1C3, 0x152, 0]
    cells = netlist(ram, "synth_ecp5")
    assert cells == {"DP16KD": 3, **{k: v for k, v in cells.items() if k == "$scopeinfo"}}
    assert BlockRam(8, 4096, tech=Technology.ECP5).slices[1].units([0x10, 0x20, 0x30])[:2] == [0x21, 0x3]
    assert BlockRam(8, 16).slices == ()


def test_special_forms() -> None:
    spram = netlist(BlockRam(20, 16384, tech=Technology.ICE40, storage="spram"), "synth_ice40")
    assert spram["SB_SPRAM256KA"] == 2
    assert "SB_RAM40_4K" not in spram
    assert netlist(BlockRam(16, 512, tech=Technology.ICE40), "synth_ice40")["SB_RAM40_4K"] == 2
    small = netlist(BlockRam(16, 32, tech=Technology.ECP5, storage="distributed"), "synth_ecp5")
    assert small["TRELLIS_DPR16X4"] == 8
    assert "DP16KD" not in small


@pytest.mark.parametrize(("arguments", "text"), [
    ({"width": 0, "depth": 4}, "width must be at least 1, not 0"),
    ({"width": 4, "depth": 1}, "depth must be at least 2, not 1"),
    ({"width": 4, "depth": 4, "storage": "flash"},
     "storage must be one of block, distributed, spram, not 'flash'"),
    ({"width": 4, "depth": 4, "init": [0] * 5}, "5 initial words exceed depth 4"),
    ({"width": 4, "depth": 4, "init": [16]}, "an initial word does not fit 4 bits"),
    ({"width": 4, "depth": 4, "init": [1], "storage": "spram"}, "single-port RAM cannot be initialized"),
    ({"width": 4, "depth": 16385, "storage": "spram"},
     "single-port RAM holds at most 16384 words, not 16385"),
    ({"width": 4, "depth": 16385, "tech": Technology.ECP5},
     "a block RAM of ecp5 holds at most 16384 words, not 16385"),
    ({"width": 4, "depth": 2049, "tech": Technology.ICE40},
     "a block RAM of ice40 holds at most 2048 words, not 2049"),
])  # fmt: skip
def test_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        BlockRam(**arguments)


def test_paired_blocks_are_read_together() -> None:
    """Both blocks at one address, one written at a time."""
    ram = PairedRam(9, 16)
    rng = random.Random(1)
    words = [[rng.randrange(512) for _ in range(16)] for _ in range(2)]

    async def bench(ctx: Any) -> None:
        ctx.set(ram.wr_en, 1)
        for half in range(2):
            for address in range(16):
                ctx.set(ram.wr_half, half)
                ctx.set(ram.addr, address)
                ctx.set(ram.wr_data, words[half][address])
                await ctx.tick()
        ctx.set(ram.wr_half, 0)
        ctx.set(ram.wr_en, 0)
        for address in range(16):
            ctx.set(ram.addr, address)
            await ctx.tick().repeat(ram.LATENCY)
            assert [ctx.get(port) for port in ram.rd_data] == [words[0][address], words[1][address]]

    simulate(ram, bench)


def test_paired_blocks_are_the_halves_of_one_ecp5_cell() -> None:
    """Port B always reads the upper half; and the cell map."""
    ram = PairedRam(18, 512, tech=Technology.ECP5, memory="WEIGHT", block=6)
    cell, pins = _ecp5_cell(ram)
    assert {cell[name].strip() for name in ("REGMODE_A", "REGMODE_B")} == {"OUTREG"}
    assert [pins[f"ADB{bit}"] for bit in range(4, 13)] == [f"addr{bit}" for bit in range(9)]
    assert [pins[f"ADA{bit}"] for bit in range(4, 14)] == [*(f"addr{bit}" for bit in range(9)), "wr_half0"]
    assert pins["ADB13"] == "1" and pins["WEB"] == "0"
    assert [pins[f"AD{port}{bit}"] for port in "AB" for bit in range(4)] == ["1", "1", "0", "0"] * 2
    assert pins["WEA"] == "wr_en0"
    assert [(s.block, s.first_word, s.instance) for s in ram.slices] == [
        (6, 0, "bram_WEIGHT_6p_0"), (7, 512, "bram_WEIGHT_6p_0"),
    ]  # fmt: skip


@pytest.mark.icarus
def test_paired_cell_behaves() -> None:
    """The ECP5 form on a model of the cell: port A writes and reads, both ports through an output
    register.
    """
    ram = PairedRam(18, 512, tech=Technology.ECP5)
    rng = random.Random(4)
    places = rng.sample(range(512), 40)
    words = {(half, a): rng.randrange(1 << 18) for half in range(2) for a in places}
    edge = "#1 clk=1;#1 clk=0;"
    lines = [f"wr_en=1;wr_half={h};addr={a};wr_data={w};{edge}" for (h, a), w in words.items()]
    lines += [f'wr_en=0;wr_half=0;addr={a};{edge}{edge}$display("%d %d",low,high);' for a in places]
    bench = (
        "module bench; reg clk=0, rst=0, wr_en, wr_half; reg [8:0] addr;"
        "reg [17:0] wr_data; wire [17:0] low, high;"
        "top t(.clk(clk), .rst(rst), .wr_en(wr_en), .wr_half(wr_half), .addr(addr),"
        ".wr_data(wr_data), .rd_data__0(low), .rd_data__1(high));"
        "initial begin\n" + "\n".join(lines) + "\nend endmodule\n"
    )
    files = {"top.v": verilog.convert(ram, name="top", emit_src=False), "bench.v": bench, "cell.v": _dp16kd()}
    rows = [tuple(map(int, row.split())) for row in run_icarus(files, "ice40/cells_sim.v").splitlines()]
    assert rows == [(words[0, a], words[1, a]) for a in places]


def _dp16kd() -> str:
    """The model of the cell that post-synthesis simulation uses."""
    return (Path(sim.__file__).parent / "dp16kd.v").read_text()


@pytest.mark.icarus
@pytest.mark.parametrize(("width", "depth"), [(36, 512), (18, 1024), (9, 2048), (4, 4096), (1, 16384)])
@pytest.mark.parametrize("tech", [Technology.ECP5, Technology.PORTABLE], ids=["instantiated", "inferred"])
def test_ecp5_cells_behave(width: int, depth: int, tech: Technology) -> None:
    """The model of the cell, as we and as yosys use it: initial contents, then reads of what was written."""
    _cells_behave(width, depth, tech, Technology.ECP5, "synth_ecp5 -nolutram")


def _cells_behave(width: int, depth: int, tech: Technology, family: Technology, synth: str) -> None:
    """Run the form ``tech`` of a memory, mapped to a family's cells, on their models."""
    rng = random.Random(width)
    init = [rng.randrange(1 << width) for _ in range(depth)]
    ram = BlockRam(width, depth, tech=tech, init=init)
    text = rtlil.convert(ram, name="top", emit_src=False)
    script = f"read_rtlil top.il\n{synth} -top top\nwrite_verilog -noattr top.v\n"
    mapped = run_yosys(script, {"top.il": text}, ("top.v",))["top.v"]
    assert "DP16KD" in mapped or "SDP" in mapped
    places = [0, 1, depth - 1, *rng.sample(range(depth), 40)]
    writes = [(rng.random() < 0.5, rng.choice(places), rng.randrange(1 << width)) for _ in range(300)]
    reads = [rng.choice([b for b in places if b != a]) for _, a, _ in writes]
    expected = ram.model(writes, reads)
    lines = [
        f"wr_en={int(en)};wr_addr={a};wr_data={width}'d{v};rd_addr={r};#1 clk=1;#1 clk=0;"
        '$display("%b",rd_data);'
        for (en, a, v), r in zip(writes, reads, strict=True)
    ]
    bench = (
        f"module bench; reg clk=0, rst=0, wr_en; reg [{(depth - 1).bit_length() - 1}:0] wr_addr, rd_addr;"
        f"reg [{width - 1}:0] wr_data; wire [{width - 1}:0] rd_data;"
        "top t(.clk(clk), .rst(rst), .wr_en(wr_en), .wr_addr(wr_addr), .wr_data(wr_data),"
        ".rd_addr(rd_addr), .rd_data(rd_data)); initial begin\n" + "\n".join(lines) + "\nend endmodule\n"
    )
    cells = {"DP16KD", "LUT4", "TRELLIS_FF", "PFUMX", "L6MUX21"}
    if family is Technology.GOWIN:
        cells = set(re.findall(r"^  (\w+) (?:#\(|\\?\S+ \()", mapped, re.M)) - {"module"}
    files = {"top.v": mapped, "bench.v": bench, "models.v": models_of(cells, family)}
    rows = run_icarus(files, "ice40/cells_sim.v").split()[1:]
    assert [int(row, 2) for row in rows] == expected[: len(rows)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"width": 19, "depth": 8}, "width must be 1 to 18"),
        ({"width": 18, "depth": 513}, "depth must be 2 to 512"),
        ({"width": 18, "depth": 8, "block": 1}, "even block"),
    ],
)
def test_pairs_that_are_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PairedRam(**arguments)
