"""Driver and monitor of a dot unit with its control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.array.dot import DotControl, DotUnit
from ternac.sim.cocotb.common import Checker, tick

__all__ = ["DotDesign", "DotDriver", "Word", "watch"]


class DotDesign(wiring.Component):
    """A `DotUnit` and its `DotControl`, ports as theirs; ``k_max`` is ``lanes * words``."""

    def __init__(self, *, lanes: int, chain: int, words: int) -> None:
        self.unit, self.control = DotUnit(lanes, chain, lanes * words), DotControl(lanes, chain)
        self.latency = self.unit.latency
        super().__init__(
            {
                "x": In(data.ArrayLayout(signed(8), lanes // chain)).array(chain),
                "nz": In(lanes // chain).array(chain),
                "neg": In(lanes // chain).array(chain),
                "en": In(1),
                "first": In(1),
                "last": In(1),
                "valid": Out(1),
                "acc": Out(signed(self.unit.acc_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit, control = self.unit, self.control
        m.submodules.unit, m.submodules.control = unit, control
        m.d.comb += [
            unit.acc_en.eq(control.acc_en),
            unit.acc_first.eq(control.acc_first),
            control.en.eq(self.en),
            control.first.eq(self.first),
            control.last.eq(self.last),
            self.valid.eq(control.valid),
            self.acc.eq(unit.acc),
        ]
        for port in ("x", "nz", "neg"):
            pairs = zip(getattr(unit, port), getattr(self, port), strict=True)
            m.d.comb += [inner.eq(outer) for inner, outer in pairs]
        return m


@dataclass(frozen=True)
class Word:
    """One word of a row: ``x`` int8 and ``trits`` per lane."""

    x: Sequence[int]
    trits: Sequence[int]
    first: bool
    last: bool


class DotDriver:
    """Driver: feeds words, stage j of a word j cycles after its stage 0; None is a bubble."""

    def __init__(self, dut: Any, lanes: int, chain: int) -> None:
        self.dut, self.lanes, self.chain = dut, lanes, chain
        self._flight: list[Word | None] = [None] * chain

    @staticmethod
    def inputs(chain: int) -> list[str]:
        """Return the names of the design's inputs."""
        return ["en", "first", "last", *(f"{port}__{j}" for port in ("x", "nz", "neg") for j in range(chain))]

    async def send(self, word: Word | None) -> None:
        """Drive one cycle."""
        dut = self.dut
        self._flight = [word, *self._flight[:-1]]
        dut.en.value = int(word is not None)
        dut.first.value = int(word is not None and word.first)
        dut.last.value = int(word is not None and word.last)
        for j, now in enumerate(self._flight):
            lanes = range(j, self.lanes, self.chain)
            x = nz = neg = 0
            for q, lane in enumerate(lanes):
                if now is not None:
                    x |= (now.x[lane] & 0xFF) << (8 * q)
                    nz |= (now.trits[lane] != 0) << q
                    neg |= (now.trits[lane] < 0) << q
            getattr(dut, f"x__{j}").value = x
            getattr(dut, f"nz__{j}").value = nz
            getattr(dut, f"neg__{j}").value = neg
        await tick(dut)


async def watch(dut: Any, checker: Checker) -> None:
    """Monitor: reports every finished sum."""
    while True:
        await tick(dut)
        if dut.valid.value:
            checker.observe(dut.acc.value.to_signed())
