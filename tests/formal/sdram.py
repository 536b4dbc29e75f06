"""The weight store in SDRAM: the loader's words into it, and eight words for each burst that is read."""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import wiring

from ternac.compile.geometry import PRESETS
from ternac.compile.sdram import BURST, NOMINAL_HZ, ULX3S_CHIP
from ternac.hdl.sdram.controller import SdramController
from ternac.hdl.sdram.store import READ_FIFO, WRITE_FIFO, SdramStore
from tests.formal.bench import Bench, Fault
from tests.formal.line_buffer import fifo_word
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

DENSE = PRESETS["ulx3s-85f-dense"]


class AnyController(wiring.Component):
    """The ports of the controller, its outputs free: what it promises is assumed, and proven of it apart."""

    def __init__(self) -> None:
        super().__init__(SdramController(ULX3S_CHIP, NOMINAL_HZ).signature)

    def elaborate(self, platform: object) -> Module:
        return Module()


def reads(fault: Fault | None, only: set[str] | None) -> Bench:
    """No word that was asked for is lost, none older than a restart comes out; not which words."""
    dut = SdramStore(DENSE, ULX3S_CHIP, NOMINAL_HZ)
    dut.controller = chip = AnyController()
    b = Bench(dut, fault=fault, only=only)
    b.leave_open(chip)

    # What the controller promises.
    owed, stale = Signal(range(READ_FIFO + BURST + 1), name="owed"), Signal(name="should_be_stale")
    b.m.d.sync += owed.eq(owed + (chip.asked << 3) - chip.valid)
    with b.m.If(chip.restart):
        b.m.d.sync += stale.eq(1)
    with b.m.Elif(chip.flush):
        b.m.d.sync += stale.eq(0)
    b.given("stale", chip.stale == stale)
    b.given("flushes_when_quiet", ~chip.flush | (stale & (owed == 0) & ~chip.restart))
    b.given("asks_for_room", ~chip.asked | (chip.room & ~stale & ~chip.restart))
    b.given("gives_what_is_owed", ~chip.valid | (owed != 0))

    old, begin = b.inner("old"), b.inner("begin")
    there, level = b.inner("reads.r_rdy"), b.inner("reads.inner_level")
    b.claim("nothing_lost", ~(chip.valid & ~old) | (level < READ_FIFO - 1))
    b.claim("none_older_than_a_restart", ~dut.o.valid | ~(dut.restart | begin | stale))
    b.claim("no_deadlock", old | ~there | b.inner("taken") | dut.o.valid)
    b.invariant("free", (b.inner("free") + level + there + owed == READ_FIFO) | stale | begin)
    b.invariant("empty_while_old", ~(stale | begin) | (level + there == 0))
    b.invariant("owed", owed <= READ_FIFO)
    b.invariant("shifts_on", there | (level < READ_FIFO - 1))
    b.reached("asks", chip.asked)
    b.reached("gives", b.inner("taken"))
    return b


def writes(fault: Fault | None, only: set[str] | None) -> Bench:
    """Every word of the loader goes to the controller, in order."""
    dut = SdramStore(DENSE, ULX3S_CHIP, NOMINAL_HZ)
    dut.controller = chip = AnyController()
    b = Bench(dut, fault=fault, only=only)
    b.leave_open(chip)
    loader = SimpleNamespace(valid=dut.wr_en, ready=Const(1, 1), payload=Cat(dut.wr_address, dut.wr_word))
    there, stored = b.inner("writes.r_rdy"), b.inner("writes.inner_level")
    watch = b.watch(loader, chip.write, there + stored, 9)
    b.given("no_more_than_may_wait", ~dut.wr_en | (stored < WRITE_FIFO - 1))
    b.held("held", chip.write)
    sleeps = b.past((watch.inside != 0) & ~chip.write.valid)
    b.claim("no_deadlock", ~sleeps | chip.write.valid)
    b.claim("read_after_write", ~chip.restart | (watch.inside == 0))
    word = fifo_word(b, "writes", WRITE_FIFO - 1, (watch.ahead - there)[:8])
    here = watch.marked
    item = Cat(chip.write.payload.address, chip.write.payload.word)
    b.invariant("offered", ~(here & there & (watch.ahead == 0)) | (item == watch.item))
    b.invariant("stored", ~(here & (watch.ahead >= there)) | (word == watch.item))
    b.reached("restart", chip.restart)
    return b


def controller(fault: Fault | None, only: set[str] | None) -> Bench:
    """Eight words for each burst that is asked for, and a flush when none is owed."""
    dut = SdramController(ULX3S_CHIP, NOMINAL_HZ)
    b = Bench(dut, fault=fault, only=only, start={"": "CLOSED", "ready": 1, "pause": 0})
    pipe = len(b.inner("first"))
    owed = Signal(range(4 * BURST), name="owed")
    b.m.d.sync += owed.eq(owed + (dut.asked << 3) - dut.valid)
    stale = Signal(name="should_be_stale")
    with b.m.If(dut.restart):
        b.m.d.sync += stale.eq(1)
    with b.m.Elif(dut.flush):
        b.m.d.sync += stale.eq(0)
    last = pipe + BURST
    since = Signal(range(last + 1), init=last, name="since_ask")
    b.m.d.sync += since.eq(Mux(dut.asked, 0, Mux(since == last, last, since + 1)))
    b.claim("bursts_apart", ~dut.asked | (since >= BURST - 1))
    b.claim("gives_what_is_owed", ~dut.valid | (owed != 0))
    b.claim("gives_all_in_time", (since != last) | (owed == 0))
    b.claim("asks_for_room", ~dut.asked | (dut.room & ~stale & ~dut.restart))
    b.claim("flushes_when_quiet", ~dut.flush | (stale & (owed == 0) & ~dut.restart & ~dut.asked))
    b.claim("stale", dut.stale == stale)
    b.claim("no_write_between", ~dut.write.ready | (owed == 0))

    first, left, beat = b.inner("first"), b.inner("left"), b.inner("beat")
    expected = Mux(since < pipe, (Const(1, pipe) << since)[:pipe], 0)
    b.invariant("on_way", first == expected)
    b.invariant("owed", owed == left + Mux(since < pipe, BURST, 0))
    b.invariant("since", since <= last)
    tail = Mux(since < pipe, pipe - 1 - since, last - 1 - since)
    b.invariant("left", Mux(since == last, left == 0, (left <= tail.as_unsigned()) & (left < BURST)))
    reads = b.inner("fsm_state") == b.codes("")["READ"]
    b.invariant("in_burst", (since >= BURST - 1) | (reads & (beat == since + 1) & (b.inner("pause") == 0)))
    b.invariant("quiet_to_write", (b.inner("fsm_state") != b.codes("")["WRITE"]) | (owed == 0))
    b.invariant("between", (since < BURST - 1) | ~reads | (beat == 0))
    b.reached("a_write", dut.write.ready)
    b.reached("a_word", dut.valid)
    return b


PROOFS = [
    Proof(
        "sdram_store_reads",
        "`SdramStore`, how many words are read ahead",
        reads,
        bound=8,
        planted=12,
        cover=12,
        faults={
            "nothing_lost": Fault("reads.inner_level", READ_FIFO - 1),
            "none_older_than_a_restart": Fault("o__valid", 1, lambda b: b.dut.restart),
            "no_deadlock": Fault("taken", 0),
        },
    ),
    Proof(
        "sdram_store_writes",
        "`SdramStore`, the loader's words",
        writes,
        bound=8,
        cover=12,
        solvers=("yices",),
        faults={
            "nothing_invented": Fault("writes.r_rdy", 1),
            "in_order_unchanged": Fault("writes.consume", 0),
            "held": Fault("writes.r_rdy", 0, lambda b: b.inner("writes.r_rdy")),
            "no_deadlock": Fault("writes.r_rdy", 0),
            "read_after_write": Fault("loaded", 0),  # a word of the restart's cycle was not seen
        },
    ),
    Proof(
        "sdram_controller",
        "`SdramController`, past its power-up: what the store relies on",
        controller,
        bound=12,
        planted=24,
        cover=20,
        faults={
            "bursts_apart": Fault("beat", 0),
            "gives_what_is_owed": Fault("left", 1),
            "gives_all_in_time": Fault("left", 0),
            "asks_for_room": Fault("more", lambda b: b.inner("reading")),
            "flushes_when_quiet": Fault("flush", lambda b: b.inner("stale")),
            "stale": Fault("stale", 0),
            "no_write_between": Fault("write__ready", lambda b: b.dut.valid),
        },
    ),
]
