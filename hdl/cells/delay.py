"""A value some cycles later."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, ValueLike

__all__ = ["delayed"]


def delayed(
    m: Module, value: ValueLike, cycles: int = 1, *, name: str = "delayed", reset_less: bool = False
) -> Value:
    """``value`` through ``cycles`` registers, as it is with none; of the same shape, 0 at first."""
    late = Value.cast(value)
    for _ in range(cycles):
        register = Signal(late.shape(), name=name, reset_less=reset_less)
        m.d.sync += register.eq(late)
        late = register
    return late
