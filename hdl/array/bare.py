"""The bare array: dot units and their trees, nothing else, so that a lane's cost can be measured."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.array.dot import DotControl, DotUnit
from ternac.hdl.cells.tech import Technology

__all__ = ["FEED_DEPTH", "FEED_WIDTH", "BareArray"]

FEED_WIDTH = 36
FEED_DEPTH = 512


class BareArray(wiring.Component):
    """``columns`` dot units of ``lanes`` lanes in lockstep, their shared flags and activation registers.

    What is in fabric: the dot units with their trees and accumulators, one ``DotControl``, one register of 8
    bits per lane that all columns share, through which the activations arrive, and unless ``direct`` one
    register of 2 bits per weight, which keeps the way from a block RAM out of the adders' path. Each of them
    counts.

    With ``fed`` (ECP5), weights and activations come out of block RAM and the sums go into block RAM, so that
    nothing is optimised away and nothing outside the array takes a lookup table or a flip-flop: the
    addresses are pins. Without, ``x``, ``nz``, ``neg`` and ``sums`` are ports, for synthesis alone.

    Lane ``j`` of chain ``q`` is activation ``q * chain + j``, and its weight in column ``c`` is bit
    ``(q * chain + j) * columns + c`` of ``nz`` and ``neg``.

    Members
    -------
    en : In(1)
        A word, see `DotControl`.
    first : In(1)
        It is a row's first.
    last : In(1)
        It is a row's last.
    valid : Out(1)
        The sums of a row are there.
    address : In(9)
        ``fed``: the word of the block RAMs.
    write : In(1)
        ``fed``: write it.
    datum : In(1)
        ``fed``: what is written.
    probe : Out(1)
        ``fed``: one bit of a sum.
    x : In(8 * lanes)
        Not ``fed``: the activations.
    nz : In(columns * lanes)
        Not ``fed``: the weights that are not 0.
    neg : In(columns * lanes)
        Not ``fed``: those that are -1.
    sums : Out(columns * acc_bits)
        Not ``fed``: the sums.
    """

    def __init__(
        self, columns: int, lanes: int, chain: int, k_max: int, *,
        fold: int = 1, radix: int = 2, tech: Technology = Technology.PORTABLE, fed: bool = False,
        direct: bool = False,
    ) -> None:  # fmt: skip
        if columns < 1:
            raise ValueError(f"columns must be at least 1, not {columns}")
        self.columns, self.lanes, self.chain, self.fed, self.direct = columns, lanes, chain, fed, direct
        self.control = DotControl(lanes, chain, fold, radix)
        self.units = [DotUnit(lanes, chain, k_max, fold=fold, radix=radix, tech=tech) for _ in range(columns)]
        ports: dict[str, Any] = {"en": In(1), "first": In(1), "last": In(1), "valid": Out(1)}
        if fed:
            ports |= {"address": In(9), "write": In(1), "datum": In(1), "probe": Out(1)}
        else:
            macs = columns * lanes
            ports |= {"x": In(8 * lanes), "nz": In(macs), "neg": In(macs)}
            ports |= {"sums": Out(columns * self.units[0].acc_bits)}
        super().__init__(ports)

    @property
    def macs(self) -> int:
        """Multiply-accumulates per cycle."""
        return self.columns * self.lanes

    @property
    def feed_blocks(self) -> int:
        """Block RAMs that stand around a ``fed`` array."""
        sums = self.columns * self.units[0].acc_bits
        return sum(-(-bits // FEED_WIDTH) for bits in (8 * self.lanes, 2 * self.macs, sums))

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.control = self.control
        m.d.comb += [getattr(self.control, name).eq(getattr(self, name)) for name in ("en", "first", "last")]
        m.d.comb += self.valid.eq(self.control.valid)
        if self.fed:
            x = self._source(m, "x", 8 * self.lanes)
            trits = self._source(m, "w", 2 * self.macs)
            nz, neg = Signal(self.macs, name="nz"), Signal(self.macs, name="neg")
            m.d.comb += [nz.eq(trits[0::2]), neg.eq(trits[1::2])]
        else:
            x, nz, neg = self.x, self.nz, self.neg
        held = _register(m, "activations", x)
        if not self.direct:
            nz, neg = _register(m, "nz_held", nz), _register(m, "neg_held", neg)
        # chain by chain, so that a block RAM feeds lanes that belong together (hdl/netlist/floorplan.py)
        chains = range(self.lanes // self.chain)
        for column, unit in enumerate(self.units):
            m.submodules[f"dot_{column}"] = unit
            m.d.comb += [unit.acc_en.eq(self.control.acc_en), unit.acc_first.eq(self.control.acc_first)]
            for j in range(self.chain):
                mine = [(q * self.chain + j) * self.columns + column for q in chains]
                m.d.comb += [
                    unit.nz[j].eq(Cat(nz[lane] for lane in mine)),
                    unit.neg[j].eq(Cat(neg[lane] for lane in mine)),
                    *(unit.x[j][q].eq(held.word_select(q * self.chain + j, 8)) for q in chains),
                ]
        sums = Cat(unit.acc for unit in self.units)
        if self.fed:
            self._sink(m, sums)
        else:
            m.d.comb += self.sums.eq(sums)
        return m

    def _source(self, m: Module, name: str, bits: int) -> Signal:
        """``bits`` read from block RAM through its output register; the contents come from a pin."""
        datum = self.datum.replicate(FEED_WIDTH)
        words = [self._block(m, f"{name}_{low}", datum) for low in range(0, bits, FEED_WIDTH)]
        all_bits = Signal(bits, name=f"{name}_words")
        m.d.comb += all_bits.eq(Cat(*words))
        return all_bits

    def _sink(self, m: Module, sums: Value) -> None:
        """Write ``sums`` to block RAM; a bit of it can be read."""
        padded = Signal(len(sums) + FEED_WIDTH, name="padded")
        m.d.comb += padded.eq(sums)
        read = [
            self._block(m, f"sum_{low}", padded[low : low + FEED_WIDTH])
            for low in range(0, len(sums), FEED_WIDTH)
        ]
        m.d.comb += self.probe.eq(read[0][0])

    def _block(self, m: Module, name: str, data: Value) -> Value:
        word = Signal(FEED_WIDTH, name=f"{name}_word")
        ports: dict[str, Any] = {
            "p_DATA_WIDTH_W": FEED_WIDTH, "p_DATA_WIDTH_R": FEED_WIDTH, "p_REGMODE": "OUTREG",
            "p_GSR": "DISABLED", "i_CLKW": ClockSignal(), "i_CLKR": ClockSignal(),
            "i_CEW": self.write, "i_CER": Const(1), "i_OCER": Const(1), "i_RST": Const(0), "a_keep": True,
        }  # fmt: skip
        read_address = Cat(Const(0, 5), self.address)
        ports |= {f"i_BE{bit}": Const(1) for bit in range(4)}
        ports |= {f"i_CS{side}{bit}": Const(0) for side in "WR" for bit in range(3)}
        ports |= {f"i_ADW{bit}": self.address[bit] for bit in range(9)}
        ports |= {f"i_ADR{bit}": read_address[bit] for bit in range(14)}
        ports |= {f"i_DI{bit}": data[bit] for bit in range(FEED_WIDTH)}
        ports |= {f"o_DO{bit}": word[bit] for bit in range(FEED_WIDTH)}
        m.submodules[f"feed_{name}"] = Instance("PDPW16KD", **ports)
        return word


def _register(m: Module, name: str, value: Signal) -> Signal:
    held = Signal(len(value), name=name, reset_less=True)
    m.d.sync += held.eq(value)
    return held
