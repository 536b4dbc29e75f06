"""The trit decoder against the table of its encoding, for every code."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Const

from ternac.compile.stream_layout import Encoding
from ternac.hdl.array.decode import TritDecoder
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]


def decoder(encoding: Encoding, fault: Fault | None, only: set[str] | None) -> Bench:
    """Every code is the trits of the table; none is both 0 and negative."""
    dut = TritDecoder(encoding)
    b = Bench(dut, fault=fault, only=only)
    rows = encoding.rows
    table = [[int(trit) for trit in encoding.table[code]] for code in range(256)]
    negative = Array(Const(sum((trit < 0) << g for g, trit in enumerate(trits)), rows) for trits in table)
    nonzero = Array(Const(sum((trit != 0) << g for g, trit in enumerate(trits)), rows) for trits in table)
    legal = Const(1)
    if encoding is Encoding.TWO:  # negative zero, the code 2, is in no program
        legal = Cat(dut.code[2 * g] | ~dut.code[2 * g + 1] for g in range(rows)).all()
    b.claim("negative", ~legal | (dut.neg == negative[dut.code]))
    b.claim("nonzero", ~legal | (dut.nz == nonzero[dut.code]))
    b.reached("mixed", legal & (dut.nz != 0) & (dut.neg != 0) & (dut.nz != dut.neg))
    return b


FAULTS = {
    "negative": Fault("neg", lambda b: b.dut.code[:3] == 7),
    "nonzero": Fault("nz", lambda b: b.dut.code[:3] != 0),
}
PROOFS = [
    Proof(
        f"trits_{encoding.name.lower()}", f"`TritDecoder`, {encoding.rows} trits a byte, all codes",
        partial(decoder, encoding), faults=FAULTS, bound=1, cover=2, quick=True,
    )
    for encoding in (Encoding.TWO, Encoding.FIVE)
]  # fmt: skip
