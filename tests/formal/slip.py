"""SLIP both ways: each alone against the page, and one behind the other."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.stream import Signature
from amaranth.lib.wiring import In, Out, connect, flipped

from ternac.hdl.link.slip import FrameByte, OpenByte, SlipDecoder, SlipEncoder
from ternac.link import END, ESC, ESC_END, ESC_ESC
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]


def encoder(fault: Fault | None, only: set[str] | None) -> Bench:
    """Every item is one wire byte or two, as the page says, and it is taken with its last one."""
    dut = SlipEncoder()
    b = Bench(dut, fault=fault, only=only)
    i, o, item = dut.i, dut.o, dut.i.payload
    b.held("input_held", i, given=True)
    sent = Signal(name="sent")  # the first wire byte of the item is out
    moves = o.valid & o.ready
    two = ~item.end & ((item.data == END) | (item.data == ESC))
    with b.m.If(moves):
        b.m.d.sync += sent.eq(~i.ready)
    first = Mux(item.end, END, Mux(two, ESC, item.data))
    second = Mux(item.data == END, ESC_END, ESC_ESC)
    b.claim("byte", ~o.valid | (o.payload == Mux(sent, second, first)))
    b.claim("nothing_invented", ~o.valid | i.valid)
    b.claim("once", ~i.valid | (i.ready == (o.ready & (sent | ~two))))
    b.claim("held", ~b.past(o.valid & ~o.ready) | (o.valid & (o.payload == b.past(o.payload))))
    b.claim("no_deadlock", ~(i.valid & o.ready) | o.valid)
    b.invariant("second", b.inner("second") == sent)
    b.invariant("second_of_two", ~sent | (i.valid & two))
    b.reached("stuffed", i.valid & i.ready & sent)
    b.reached("end", i.valid & i.ready & item.end & ~sent)
    return b


def decoder(fault: Fault | None, only: set[str] | None) -> Bench:
    """Every wire byte but ESC is one item, as the page says; a wrong stuffing is told at the end."""
    dut = SlipDecoder()
    b = Bench(dut, fault=fault, only=only)
    i, o, item = dut.i, dut.o, dut.o.payload
    b.held("input_held", i, given=True)
    escaped, wrong = Signal(name="escaped"), Signal(name="wrong")  # since the last END
    with b.m.If(i.valid & i.ready):
        b.m.d.sync += escaped.eq((i.payload == ESC) & ~escaped)
        with b.m.If(i.payload == END):
            b.m.d.sync += [escaped.eq(0), wrong.eq(0)]
        with b.m.Elif(escaped & (i.payload != ESC_END) & (i.payload != ESC_ESC)):
            b.m.d.sync += wrong.eq(1)
    end, silent = i.payload == END, (i.payload == ESC) & ~escaped
    byte = Mux(escaped, Mux(i.payload == ESC_END, END, ESC), i.payload)
    b.claim("end", ~o.valid | (item.end == end))
    b.claim("byte", ~(o.valid & ~item.end) | (item.data == byte))
    b.claim("bad", ~(o.valid & item.end) | (item.bad == (wrong | escaped)))
    b.claim("nothing_invented", ~o.valid | (i.valid & ~silent))
    b.claim("nothing_lost", ~(i.valid & i.ready) | silent | (o.valid & o.ready))
    b.claim("once", ~(o.valid & o.ready) | i.ready)
    b.claim("held", ~b.past(o.valid & ~o.ready) | (o.valid & (item.as_value() == b.past(item.as_value()))))
    b.claim("no_deadlock", ~(i.valid & o.ready) | i.ready)
    b.invariant("escape", b.inner("escape") == escaped)
    b.invariant("wrong", b.inner("bad") == wrong)
    b.reached("bad_end", o.valid & o.ready & item.end & item.bad)
    b.reached("good_end", o.valid & o.ready & item.end & ~item.bad)
    b.reached("end_in_frame", o.valid & o.ready & ~item.end & (item.data == END))
    return b


class RoundTrip(wiring.Component):
    """The encoder's wire into the decoder."""

    def __init__(self) -> None:
        super().__init__({"i": In(Signature(OpenByte)), "o": Out(Signature(FrameByte))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.encoder = encoder = SlipEncoder()
        m.submodules.decoder = decoder = SlipDecoder()
        connect(m, flipped(self.i), encoder.i)
        connect(m, encoder.o, decoder.i)
        connect(m, decoder.o, flipped(self.o))
        return m


def round_trip(fault: Fault | None, only: set[str] | None) -> Bench:
    """What goes in comes out, item for item, and never bad."""
    dut = RoundTrip()
    b = Bench(dut, fault=fault, only=only)
    b.held("input_held", dut.i, given=True)
    given, got = dut.i.payload, dut.o.payload
    b.claim(
        "same_item", ~dut.o.valid | ((got.data == Mux(given.end, 0, given.data)) & (got.end == given.end))
    )
    b.claim("never_bad", ~(dut.o.valid & got.end) | ~got.bad)
    b.claim("one_for_one", (dut.i.valid & dut.i.ready) == (dut.o.valid & dut.o.ready))
    second, escape = b.inner("encoder.second"), b.inner("decoder.escape")
    stuffed = ~given.end & ((given.data == END) | (given.data == ESC))
    b.invariant("in_step", second == escape)
    b.invariant("in_item", ~second | (dut.i.valid & stuffed))
    b.invariant("clean", ~b.inner("decoder.bad"))
    b.reached("both_codes", dut.o.valid & dut.o.ready & (got.data == END) & ~got.end)
    return b


PROOFS = [
    Proof(
        "slip_encoder", "`SlipEncoder`", encoder, quick=True, bound=6, cover=5,
        faults={
            "byte": Fault("second", 0),
            "nothing_invented": Fault("o__valid", 1),
            "once": Fault("i__ready", lambda b: b.dut.o.ready),
            "held": Fault("o__payload", lambda b: b.dut.i.payload.data ^ b.dut.o.ready),
            "no_deadlock": Fault("o__valid", 0, lambda b: b.dut.i.payload.end),
        },
    ),
    Proof(
        "slip_decoder", "`SlipDecoder`", decoder, quick=True, bound=6, cover=6,
        faults={
            "end": Fault("is_end", lambda b: b.dut.i.payload[1:] == END >> 1),
            "byte": Fault("is_esc_end", 1),
            "bad": Fault("bad", 0),
            "nothing_invented": Fault("o__valid", 1),
            "nothing_lost": Fault("i__ready", 1),
            "once": Fault("i__ready", 0),
            "held": Fault("o__payload", lambda b: b.dut.i.payload ^ b.dut.o.ready),
            "no_deadlock": Fault("i__ready", 0, lambda b: b.inner("escape")),
        },
    ),
    Proof(
        "slip_round_trip", "`SlipEncoder` into `SlipDecoder`", round_trip, quick=True, bound=6, cover=5,
        faults={
            "same_item": Fault("decoder.is_esc_end", 0),
            "never_bad": Fault("decoder.bad", 1),
            "one_for_one": Fault("encoder.i__ready", lambda b: b.inner("encoder.o__valid")),
        },
    ),
]  # fmt: skip
