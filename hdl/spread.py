"""Registers in several copies, one for each part of the chip: synthesis would merge them into one."""

from __future__ import annotations

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, Value

from ternac.hdl.tech import Technology

__all__ = ["registered"]


def registered(m: Module, tech: Technology, name: str, value: Value, copies: int) -> list[Signal]:
    """``value`` a cycle later, in ``copies`` registers without reset.

    On ECP5 they are instances, which no pass merges.
    """
    found = []
    for k in range(copies):
        later = Signal(len(value), name=f"{name}_{k}", reset_less=True)
        found.append(later)
        if tech is not Technology.ECP5 or copies == 1:
            m.d.sync += later.eq(value)
            continue
        for bit in range(len(value)):
            m.submodules[f"{name}_{k}_{bit}"] = Instance(
                "TRELLIS_FF",
                p_GSR="DISABLED", p_CEMUX="1", p_CLKMUX="CLK", p_LSRMUX="LSR", p_REGSET="RESET",
                p_SRMODE="LSR_OVER_CE",
                i_CLK=ClockSignal(), i_LSR=Const(0), i_DI=value[bit], o_Q=later[bit],
            )  # fmt: skip
    return found
