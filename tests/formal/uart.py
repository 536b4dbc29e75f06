"""Bytes from one UART to another over a wire, also at rates apart: each once, in order, unchanged."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.hdl.link.ports import ByteStream
from ternac.hdl.link.uart import UartRx, UartTx
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

FRAME = 10
"""Bits of a byte on the wire."""
LATE = 3
"""Cycles from the sender's start bit to the receiver's first one: two to synchronise, one to see it."""


class Wire(wiring.Component):
    """A sender and a receiver; their rates may differ."""

    def __init__(self, clock_hz: int, sent: int, received: int) -> None:
        self.sender, self.receiver = UartTx(clock_hz, sent), UartRx(clock_hz, received)
        super().__init__({"i": In(ByteStream), "o": Out(ByteStream)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.tx, m.submodules.rx = tx, rx = self.sender, self.receiver
        connect(m, flipped(self.i), tx.i)
        connect(m, rx.o, flipped(self.o))
        m.d.comb += rx.rx.eq(tx.tx)
        return m


def ages(bits: int, increment: int, phase: int) -> list[tuple[int, int, int]]:
    """Return phase, tick and bits left in each cycle of a byte, after one that stands for rest."""
    tick, left, found = 0, FRAME, [(0, 0, 0)]
    while left:
        found.append((phase, tick, left))
        left -= tick
        phase += increment
        tick, phase = phase >> bits, phase % (1 << bits)
    return found


def look(table: list[int], index: Value) -> Value:
    """Return the entry of a table of constants."""
    width = max(table).bit_length() or 1
    return Array(Const(entry, width) for entry in table)[index]


def wire(rates: tuple[int, int, int], fault: Fault | None, only: set[str] | None) -> Bench:
    """One byte after the other, with any pause between them; the taker has until the next one comes."""
    dut = Wire(*rates)
    b = Bench(dut, fault=fault, only=only)
    tx, rx = dut.sender, dut.receiver
    sends = ages(tx.phase_bits, tx.increment, tx.increment)
    takes = ages(rx.phase_bits, rx.increment, (1 << rx.phase_bits - 1) + 2 * rx.increment - 1)
    last_sent, last_taken = len(sends) - 1, len(takes) - 1
    b.held("input_held", dut.i, given=True)

    # Cycles since the byte was taken, at the sender and at the receiver, and the byte there.
    age, late = Signal(range(last_sent + 2), name="age"), Signal(range(last_taken + 2), name="late")
    byte, copy = Signal(8, name="byte"), Signal(8, name="copy")
    with b.m.If(age == 0):
        with b.m.If(dut.i.valid):
            b.m.d.sync += [age.eq(1), byte.eq(dut.i.payload)]
    with b.m.Else():
        b.m.d.sync += age.eq(Mux(age == last_sent, 0, age + 1))
    with b.m.If(age == LATE):
        b.m.d.sync += [late.eq(1), copy.eq(byte)]
    with b.m.Elif(late != 0):
        b.m.d.sync += late.eq(Mux(late == last_taken, 0, late + 1))
    arrives, arrived = b.past(late == last_taken), b.past(copy)
    waits = dut.o.valid & ~dut.o.ready
    b.given("taken_in_time", ~((late == last_taken) & waits))

    b.claim("ready_at_rest", dut.i.ready == (age == 0))
    b.claim("arrives_unchanged", ~arrives | (dut.o.valid & (dut.o.payload == arrived)))
    b.claim("nothing_invented", ~dut.o.valid | b.past(waits) | arrives)
    b.claim("held", ~b.past(waits) | (dut.o.valid & (dut.o.payload == b.past(dut.o.payload))))

    # What both are in each cycle of a byte.
    levels = Cat(Const(0, 1), byte, Const(1, 1))

    def level(of: Value) -> Value:
        return levels.bit_select(look([FRAME - left if left else FRAME - 1 for _, _, left in sends], of), 1)

    left, taken = b.inner("tx.left"), b.inner("rx.left")
    for name, ghost, table in (("tx", age, sends), ("rx", late, takes)):
        b.invariant(f"{name}_left", b.inner(f"{name}.left") == look([left for _, _, left in table], ghost))
        for place, part in enumerate(("phase", "tick")):
            value = look([entry[place] for entry in table], ghost)
            b.invariant(f"{name}_{part}", (ghost == 0) | (b.inner(f"{name}.{part}") == value))
    line = b.inner("tx.tx")
    before = b.past(line, init=1)
    second = b.past(before, init=1)
    b.invariant("ages", (age <= last_sent) & (late <= last_taken))
    b.invariant("level", line == level(age))
    b.invariant("level_before", before == Mux(age >= 2, level(age - 1), 1))
    b.invariant("level_second", second == Mux(age >= 3, level(age - 2), 1))
    b.invariant("stage_0", b.inner("rx.synchronizer.stage0") == before)
    b.invariant("stage_1", b.inner("rx.synchronizer.stage1") == second)
    rest = Cat(byte, Const(-1, FRAME + 1)) >> (FRAME - left)[:4]
    b.invariant("to_send", (age == 0) | (b.inner("tx.shift") == rest[:9]))
    follows = Mux(age > LATE, Mux(age - LATE <= last_taken, age - LATE, 0), 0)
    tail = (late != 0) & (late >= last_sent + 1 - LATE)
    b.invariant("in_step", Mux(age > LATE, late == follows, (late == 0) | tail))
    b.invariant("no_tail_left", ~((age > 0) & (age <= LATE) & tail) | (late == age + last_sent + 1 - LATE))
    b.invariant("same_byte", ~((age > LATE) & (late != 0)) | (copy == byte))
    samples = Cat(Const(0, 1), copy)
    for count in range(1, FRAME):
        got = b.inner("rx.shift")[max(0, 8 - count) :]
        wanted = samples[:count] if count < 9 else copy
        b.invariant(f"sampled_{count}", (taken != FRAME - count) | (late == 0) | (got == wanted))
    b.reached("a_byte", arrives)
    return b


FAULTS = {
    "ready_at_rest": Fault("tx.i__ready", lambda b: b.inner("tx.left") < 2),
    "arrives_unchanged": Fault("rx.o__payload", lambda b: b.inner("rx.shift") >> 1),
    "nothing_invented": Fault("rx.o__valid", 1, lambda b: b.inner("rx.left") == 9),
    "held": Fault("rx.o__valid", 0, lambda b: b.inner("rx.left") == 0),
}
RATES = {
    "": (48_000_000, 12_000_000, 12_000_000, "4 cycles a bit"),
    "_slow": (25_000_000, 2_940_000, 3_000_000, "8.3 cycles a bit, the sender 2% slow"),
    "_fast": (25_000_000, 3_060_000, 3_000_000, "8.3 cycles a bit, the sender 2% fast"),
}
"""Clock, rates of sender and receiver."""
PROOFS = [
    Proof(
        f"uart{name}", f"`UartTx` into `UartRx`, {words}", partial(wire, (clock, sent, received)),
        bound=6, planted=100, cover=100, faults=FAULTS,
    )
    for name, (clock, sent, received, words) in RATES.items()
]  # fmt: skip
