"""The text of emitted Verilog: proven equal to its RTLIL, lint-clean, always the same, memories inferred."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from amaranth.back import rtlil

from ternac.compile.geometry import PRESETS, preset
from ternac.errors import BuildFailed
from ternac.hdl.axi.lite import AxiLiteSlave
from ternac.hdl.cells.memory import BlockRam
from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.hdl.cells.requant import Requant
from ternac.hdl.emit.tops import TOPS, design, ports_of, stream_unit
from ternac.hdl.emit.verilog import MEMORY_STYLE, Emitted, emit, rewrite, tidy
from ternac.hdl.emit.waivers import REASONS, control_file, count, waivers
from ternac.hdl.engine.argmax import Argmax
from ternac.hdl.engine.draw import Draw
from ternac.hdl.link.slip import SlipDecoder
from ternac.sim.emitted import lint
from tests.hdl.yosys import run_yosys

PARTS: dict[str, Any] = {
    "requant": lambda: Requant(26, addend=True),
    "multiply": ShiftAddMultiplier,
    "argmax": lambda: Argmax(columns=4, slots=8),
    "draw": lambda: Draw(elements=4),
    "slip": SlipDecoder,
    "axi_lite": lambda: AxiLiteSlave(7),
    "memory": lambda: BlockRam(8, 16),
}
"""Components with the operators that engines have; of larger ones the testbenches tell."""


def equivalent(component: Any, edit: Any = lambda text: text) -> None:
    """Prove the emitted text of a component equal to its RTLIL; AssertionError if yosys does not."""
    gold = rtlil.convert(component, name="gold", ports=ports_of(component), emit_src=False)
    gate = edit(rewrite(gold.replace("\\gold", "\\gate"), "gate").text)
    side = "proc\nflatten\nmemory_map\nopt_clean\n"
    run_yosys(
        f"read_rtlil gold.il\nhierarchy -top gold\n{side}design -stash gold\n"
        f"read_verilog gate.v\nhierarchy -top gate\n{side}design -stash gate\n"
        "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "equiv_make gold gate equiv\nhierarchy -top equiv\nequiv_simple -undef\nequiv_induct -undef\n"
        "equiv_status -assert\n",
        {"gold.il": gold, "gate.v": gate},
    )


QUICK = ("requant", "slip", "axi_lite", "memory")


@pytest.mark.parametrize(
    "part", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in PARTS]
)
def test_text_is_proven_equal_to_the_design(part: str) -> None:
    equivalent(PARTS[part]())


def test_the_proof_finds_one_changed_operator() -> None:
    with pytest.raises(AssertionError):
        equivalent(PARTS["requant"](), lambda text: re.sub(r" \+ ", " - ", text, count=1))


@pytest.fixture(scope="module")
def stream() -> Emitted:
    return emit(stream_unit(64), "ternac_stream")


def test_text_is_the_same_every_time(stream: Emitted) -> None:
    assert emit(stream_unit(64), "ternac_stream") == stream
    assert not re.search(r"/tmp|yosys|Yosys|20\d\d-", stream.text)


def test_nothing_multiplies_or_latches(stream: Emitted) -> None:
    """Selecting a part by an index is a product in RTLIL; it leaves none."""
    assert not re.search(r" \* ", stream.text)
    assert not any(kind in stream.cells for kind in ("$mul", "$dlatch", "$pmux", "$shiftx"))


def test_a_design_that_multiplies_is_refused() -> None:
    text = (
        "module \\top\n  wire width 4 input 0 \\a\n  wire width 4 input 1 \\b\n  wire width 8 output 2 \\y\n"
        "  cell $mul \\p\n    parameter \\A_SIGNED 0\n    parameter \\B_SIGNED 0\n    parameter \\A_WIDTH 4\n"
        "    parameter \\B_WIDTH 4\n    parameter \\Y_WIDTH 8\n    connect \\A \\a\n    connect \\B \\b\n"
        "    connect \\Y \\y\n  end\nend\n"
    )
    with pytest.raises(BuildFailed, match=r"would have \$mul"):
        rewrite(text, "top")


def test_a_declaration_in_an_unknown_form_is_refused() -> None:
    head = "/* made */\n\nmodule m(q);\n"
    assert "initial q = 2'h1;" in tidy(head + "  reg [1:0] q = 2'h1;\nendmodule\n")
    with pytest.raises(BuildFailed, match="form that is not known"):
        tidy(head + "  reg [1:0] q = 2'h1 + 1;\nendmodule\n")


def test_large_memories_are_marked_for_block_ram_and_small_ones_are_not() -> None:
    for depth, marked in ((16, False), (1024, True)):
        text = emit(BlockRam(8, depth), "ram").text
        assert (MEMORY_STYLE in text) == marked
        assert f"< {depth};" in text  # a loop, not a line a word


@pytest.fixture
def written(stream: Emitted, tmp_path: Path) -> Path:
    (tmp_path / "ternac_stream.v").write_text("`default_nettype none\n" + stream.text)
    (tmp_path / "w.vlt").write_text(control_file("ternac_stream.v", waivers(stream.unread)))
    return tmp_path


def test_lint_is_clean_but_for_listed_reasons(stream: Emitted, written: Path) -> None:
    found = lint(written, "ternac_stream", "w.vlt", waivers(stream.unread))
    assert found.clean and not found.beyond
    assert set(found.waived) == {reason.key for reason in REASONS}
    assert found.waived["unread_bits"] > 0


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ("  wire planted;\n  assign planted = clk;\n", "UNUSEDSIGNAL"),
        ("  wire [3:0] planted;\n  assign planted = 8'h12;\n", "WIDTHTRUNC"),
        ("  reg planted = 1'b0;\n  always @(posedge clk) planted <= ~planted;\n", "PROCASSINIT"),
    ],
)  # fmt: skip
def test_a_planted_warning_is_found(stream: Emitted, written: Path, planted: str, rule: str) -> None:
    source = written / "ternac_stream.v"
    source.write_text(source.read_text().replace("\nendmodule", f"\n{planted}endmodule", 1))
    found = lint(written, "ternac_stream", "w.vlt", waivers(stream.unread))
    assert not found.clean
    assert [text.partition(":")[0] for text in found.beyond].count(rule) >= 1


def test_a_warning_without_a_reason_is_counted_apart() -> None:
    log = (
        "%Warning-UNUSEDSIGNAL: a.v:1:2: Bits of signal are not used: 'wr'[3]\n"
        "%Warning-UNUSEDSIGNAL: a.v:1:2: Signal is not used: 'known'\n"
        "%Warning-UNUSEDSIGNAL: a.v:1:2: Signal is not used: 'planted'\n"
    )
    numbers, beyond = count(log, waivers(["known"]))
    assert numbers["unread_bits"] == 1 and numbers["unread_ports"] == 1
    assert beyond == ["UNUSEDSIGNAL: Signal is not used: 'planted'"]


def xilinx(text: str, top: str) -> dict[str, int]:
    """Return cells by kind after ``check -assert`` and ``synth_xilinx``; AssertionError for a latch."""
    out = run_yosys(
        f"read_verilog top.v\nhierarchy -check -top {top}\nproc\ncheck -assert\n"
        "select -assert-none t:$dlatch\n"
        f"design -reset\nread_verilog top.v\nsynth_xilinx -flatten -top {top}\ncheck -assert\n"
        "tee -q -o stat.json stat -json\n",
        {"top.v": text},
        ("stat.json",),
    )
    modules = json.loads(out["stat.json"])["modules"]
    cells: dict[str, int] = {}
    for module in modules.values():
        for kind, number in module.get("num_cells_by_type", {}).items():
            cells[kind] = cells.get(kind, 0) + number
    return cells


@pytest.mark.slow
def test_a_synthesizer_infers_block_ram_and_no_dsp() -> None:
    component = design(TOPS["core"], preset("tiny"))
    cells = xilinx(emit(component, "ternac_core").text, "ternac_core")
    assert sum(number for kind, number in cells.items() if kind.startswith("RAMB")) >= 20
    assert not any(kind.startswith(("DSP", "LD")) for kind in cells)
    assert any(kind.startswith("LUT") for kind in cells)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, geometry in PRESETS.items() if not geometry.has_sdram])
def test_every_preset_is_lint_clean(name: str, tmp_path: Path) -> None:
    emitted = emit(design(TOPS["core"], preset(name)), "ternac_core")
    (tmp_path / "ternac_core.v").write_text("`default_nettype none\n" + emitted.text)
    (tmp_path / "w.vlt").write_text(control_file("ternac_core.v", waivers(emitted.unread)))
    found = lint(tmp_path, "ternac_core", "w.vlt", waivers(emitted.unread))
    assert found.clean and not found.beyond
