"""Adders for devices of six-input lookup tables with two outputs (AMD): two gated lanes, or three numbers, in
one table per bit.

A bit of a CARRY4 gives ``S ^ carry`` and passes the carry on where S is 1; where S is 0 the new carry is DI.
A LUT6_2 has two outputs: O6 is any function of six inputs, O5 the half of it where I5 is 0. So a bit whose O6
is the exclusive or of two addends and whose O5 is one of them is a full adder with logic in front:

* two lanes: O5 is the first lane's product bit, a function of three inputs, and with nz of the second lane
  as I5, O6 falls back to O5 where that lane is 0;
* three numbers: O6 adds three bits and the majority of the place below, O5 is the majority of this place,
  which the place above takes as an input and as its DI.
"""

from __future__ import annotations

from collections.abc import Callable

from amaranth.hdl import Cat, Const, Instance, Module, Signal, Value, signed

__all__ = ["Lane", "add_lanes", "add_three"]

Lane = tuple[Value, Value, Value]
"""Activation, nz, negative."""


def _table(upper: Callable[..., int], lower: Callable[..., int]) -> Const:
    """INIT of a LUT6_2: ``upper(I0, .., I4)`` where I5 is 1, ``lower(I0, .., I4)`` where it is 0."""
    init = 0
    for row in range(32):
        inputs = [row >> bit & 1 for bit in range(5)]
        init |= lower(*inputs) << row | upper(*inputs) << row + 32
    return Const(init, 64)


_LANES = _table(
    lambda x, nz, neg, y, flip: (x ^ neg) & nz ^ y ^ flip,
    lambda x, nz, neg, y, flip: (x ^ neg) & nz,
)
_THREE = _table(
    lambda a, b, c, below, _: a ^ b ^ c ^ below,
    lambda a, b, c, below, _: a & b | a & c | b & c,
)


def add_lanes(m: Module, name: str, first: Lane, second: Lane) -> Value:
    """``(x ^ neg) & nz`` of two lanes added, signed, one bit wider than x; combinational."""
    (x, nz, neg), (y, keep, flip) = first, second
    width = max(len(x), len(y)) + 1
    total, own = Signal(width, name=f"{name}_s"), Signal(width, name=f"{name}_di")
    for bit in range(width):
        m.submodules[f"{name}_lut_{bit}"] = Instance(
            "LUT6_2", p_INIT=_LANES, i_I0=x[min(bit, len(x) - 1)], i_I1=nz, i_I2=neg,
            i_I3=y[min(bit, len(y) - 1)], i_I4=flip, i_I5=keep, o_O6=total[bit], o_O5=own[bit],
        )  # fmt: skip
    return _carry(m, name, total, own)


def add_three(m: Module, name: str, width: int, a: Value, b: Value, c: Value) -> Value:
    """``a + b + c`` as ``width`` bits, signed, combinational; each is sign-extended."""
    total, above = Signal(width, name=f"{name}_s"), Signal(width, name=f"{name}_majority")
    below = Cat(Const(0, 1), above[:-1])
    for bit in range(width):
        ports = {f"i_I{i}": value[min(bit, len(value) - 1)] for i, value in enumerate((a, b, c))}
        m.submodules[f"{name}_lut_{bit}"] = Instance(
            "LUT6_2", p_INIT=_THREE, **ports, i_I3=below[bit], i_I4=Const(0), i_I5=Const(1),
            o_O6=total[bit], o_O5=above[bit],
        )  # fmt: skip
    return _carry(m, name, total, below)


def _carry(m: Module, name: str, select: Value, data: Value) -> Value:
    """Carry chain over tables' outputs: ``select`` where the carry passes, ``data`` the carry otherwise."""
    width = len(select)
    total = Signal(signed(width), name=f"{name}_sum")
    carry: Value = Const(0, 1)
    for low in range(0, width, 4):
        out, carries = Signal(4, name=f"{name}_o_{low}"), Signal(4, name=f"{name}_co_{low}")
        m.submodules[f"{name}_carry_{low}"] = Instance(
            "CARRY4", i_CI=carry, i_CYINIT=Const(0), i_S=Cat(select[low : low + 4], Const(0, 4))[:4],
            i_DI=Cat(data[low : low + 4], Const(0, 4))[:4], o_O=out, o_CO=carries,
        )  # fmt: skip
        m.d.comb += total[low : low + 4].eq(out[: min(4, width - low)])
        carry = carries[3]
    return total
