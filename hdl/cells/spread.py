"""Copies of a register, for readers that lie far apart."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Instance, Module, Signal, Value, ValueLike

from ternac.hdl.cells.tech import Technology

__all__ = ["spread"]


def spread(m: Module, value: ValueLike, copies: int, tech: Technology, name: str = "spread") -> list[Value]:
    """``copies`` (at least 1) registers that follow ``value`` by a cycle, all equal.

    Synthesis would merge equal registers; on ECP5 all but the first are therefore instantiated. They have no
    reset and are 0 at first.
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
