"""Registers: delay lines, duplicates for readers that lie far apart, and a register in a stream."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, ShapeLike, Signal, Value, ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ternac.hdl.cells.tech import Technology

__all__ = ["StreamRegister", "delay", "duplicate_register"]


def delay(
    m: Module, value: ValueLike, cycles: int = 1, *, name: str = "delayed", reset_less: bool = False
) -> Value:
    """Delay ``value`` by ``cycles`` clocks (0: unchanged). The registers reset to 0."""
    late = Value.cast(value)
    for _ in range(cycles):
        register = Signal(late.shape(), name=name, reset_less=reset_less)
        m.d.sync += register.eq(late)
        late = register
    return late


def duplicate_register(
    m: Module, value: ValueLike, copies: int, tech: Technology, name: str = "copy"
) -> list[Value]:
    """Register ``value`` ``copies`` times (at least once), one register for each group of readers.

    Synthesis would merge equal registers; on ECP5 all but the first are therefore instantiated. They have no
    reset and start at 0.
    """
    value = Value.cast(value)
    found: list[Value] = []
    for i in range(max(1, copies)):
        copy = Signal(len(value), name=f"{name}_{i}", reset_less=True)
        found.append(copy)
        if not i or tech is not Technology.ECP5:
            m.d.sync += copy.eq(value)
            continue
        for bit in range(len(value)):
            m.submodules[f"{name}_{i}_{bit}"] = Instance(
                "TRELLIS_FF", p_GSR="DISABLED", p_CEMUX="1", p_CLKMUX="CLK", p_LSRMUX="LSR",
                p_REGSET="RESET", p_SRMODE="LSR_OVER_CE",
                i_CLK=ClockSignal(), i_DI=value[bit], o_Q=copy[bit],
            )  # fmt: skip
    return found


class StreamRegister(wiring.Component):
    """A stream through one register: ``o`` shows in the next cycle what ``i`` transfers.

    Parameters
    ----------
    shape : of the payload.
    cut : False: a transfer every cycle, ``i.ready`` follows ``o.ready`` in the same cycle.  True: a transfer
        at most every other cycle, and no path from one side to the other within a cycle.

    Members
    -------
    i : In(stream.Signature(shape))
        The stream to register.
    o : Out(stream.Signature(shape))
        The stream a cycle later.
    """

    def __init__(self, shape: ShapeLike, *, cut: bool = False) -> None:
        self.cut = cut
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full = Signal(name="full")
        m.d.comb += [self.o.valid.eq(full), self.i.ready.eq(~full | (0 if self.cut else self.o.ready))]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [full.eq(1), self.o.payload.eq(self.i.payload)]
        return m
