"""The link controller: one answer for each good frame, none for a bad one, and never a standstill.

The standstill is excluded by a rank, a number made from its registers: in every cycle in which nothing comes
from outside and nothing outside is waited for, the rank falls. As it is finite, the controller always comes
to where it waits for a byte, for room on the line, or for the engine.
"""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from ternac.hdl.link.controller import LinkController
from ternac.link import CRC_BYTES, FRAME_BYTES, HEAD_BYTES, RUN_HEAD, WINDOW, WRITE_HEAD, Command
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

LISTENING: dict[str, str | int] = {"dispatch": "RECEIVE", "receiver": "RECEIVE"}
REQUESTS = ("commit", "write", "read", "run")
PLACE = 10
"""Bits of an address in the frame RAM."""


def controller(start: dict[str, str | int], fault: Fault | None, only: set[str] | None) -> Bench:
    """Claim what holds from one frame to the next; ``start``: past the power-up, or empty for the reset."""
    dut = LinkController(0, bytes(16), bytes(8), window=WINDOW)
    b = Bench(dut, fault=fault, only=only, start=start)
    b.held("rx_held", dut.rx, given=True)
    step = b.inner("frame.step")
    accepted, dropped = b.inner("receiver.done"), b.inner("receiver.damaged")
    answered, offered = b.inner("sender.done"), b.inner("sender.item__valid")
    leaving_full = b.inner("leaving.full")

    # One answer for a frame.
    due = Signal(name="due", init="dispatch" in b.start and b.start["dispatch"] != "RECEIVE")
    with b.m.If(accepted):
        b.m.d.sync += due.eq(1)
    with b.m.Elif(answered):
        b.m.d.sync += due.eq(0)
    b.claim("one_frame_at_a_time", ~accepted | ~due)
    b.claim("one_answer_for_a_frame", ~answered | due)
    b.claim("nothing_unasked", ~offered | due)

    # What a good frame is, from the items that the decoder gives.
    item, comes = b.inner("arriving.o__payload"), b.inner("arriving.full") & b.inner("receiver.receiving")
    end, bad = item[8], item[9]
    length, good = (
        Signal(PLACE, name="length", init=int(b.start.get("frame.received", 0))),
        Signal(name="good"),
    )
    with b.m.If(comes & ~end & (length < FRAME_BYTES)):
        b.m.d.sync += length.eq(length + 1)
    with b.m.If(comes & end):
        b.m.d.sync += good.eq(~bad & (length >= HEAD_BYTES + CRC_BYTES))
    with b.m.If(dropped | answered):
        b.m.d.sync += length.eq(0)
    match_before = b.past(b.inner("crc.match"))
    matched = Signal(name="matched")  # two cycles after the end: the CRC of all of its bytes
    checks = b.state("receiver", "CHECK") & step
    with b.m.If(checks):
        b.m.d.sync += matched.eq(match_before)
    b.claim("none_for_a_bad_one", ~accepted | (good & matched))
    b.claim("a_good_one_is_taken", ~(dropped & good) | ~match_before)

    b.claim("crc_of_all_bytes", ~checks | ~b.inner("crc.busy"))

    # No standstill.
    outside = step & (
        (b.state("receiver", "RECEIVE") & ~b.inner("arriving.full"))
        | (offered & leaving_full)
        | (b.state("run", "START") & dut.engine.busy)
        | (b.state("run", "RUN") & ~dut.engine.done)
        | (b.state("read", "WORD") & ~dut.engine.rd_valid)
    )
    event = comes | dropped | answered
    rank, before = _rank(b, due), Signal(28, name="before")
    started, excused = Signal(name="started"), Signal(name="excused")
    b.m.d.sync += [before.eq(rank), started.eq(1), excused.eq(outside | event)]
    b.claim("no_deadlock", ~started | excused | (rank < before))
    b.claim("back_pressure_is_the_line_s", ~(offered & leaving_full) | dut.tx.valid)
    b.claim("engine_is_heard", ~(b.state("run", "RUN") | b.state("read", "WORD")) | step)
    b.held("tx_held", dut.tx)

    _invariants(b, due, length, good, matched, match_before)
    if not start:
        b.reached("listens", b.state("receiver", "RECEIVE"))
    elif start == LISTENING:
        b.reached("frame_dropped", dropped & (length > HEAD_BYTES))
        b.reached("good_frame", checks & good & match_before)
    else:
        b.reached("frame_answered", answered)
    return b


def _settle(b: Bench) -> Value:
    """Return the cycles until the RAM's outputs are those of its pointer."""
    reading = b.inner("frame.reading")
    return Mux(reading[0], 2, Mux(reading[1], 1, 0))


def _left(b: Bench, of: Value) -> Value:
    """Return the bytes from the pointer to a place, around the RAM."""
    return (of - b.inner("frame.pointer"))[:PLACE]


def _rank(b: Bench, due: Value) -> Value:
    """Return a number that falls while the controller works."""
    request = _left(b, b.inner("frame.received") - CRC_BYTES)
    number = b.inner("registers.head")[56:64]
    cases: list[tuple[Value, int, Value | int, Value | int, Value | int]] = []

    def case(
        holds: Value, phase: int, major: Value | int = 0, middle: Value | int = 0, minor: Value | int = 0
    ) -> None:
        cases.append((holds, phase, major, middle, minor))

    dispatch, receiver, sender = (partial(b.state, part) for part in ("dispatch", "receiver", "sender"))
    summary, count = b.inner("summary.running"), b.inner("dispatch.count")
    case(dispatch("POWER UP"), 15, 15 - count)
    case(receiver("RECEIVE"), 14)
    case(receiver("CHECK"), 13)
    case(receiver("COMPARE"), 12, CRC_BYTES - 1 - b.inner("receiver.count"))
    case(receiver("SEQUENCE"), 11)
    case(dispatch("KIND"), 10)
    case(dispatch("HEAD"), 9, 15 - count)
    case(dispatch("EXECUTE") & summary, 7, 7 - b.inner("summary.count"))
    case(b.state("commit", "LOAD", "STORE"), 8, request, 0, b.state("commit", "STORE"))
    case(b.state("write", "WRITE"), 8, request)
    for at, state in enumerate(("WORD", "READ", "HIGH", "LOW")):
        case(b.state("read", state), 8, 0, number, at)
    case(b.state("run", "TOKEN"), 8, request, number, Mux(b.inner("run.bare"), 6, 1))
    for at, state in enumerate(("RUN", "START", "HIGH", "LOW"), 2):
        case(b.state("run", state), 8, request, number, at)
    case(dispatch("RESPOND"), 6)
    for at, state in enumerate(("STATUS", "SEQ", "TYPE", "OPEN")):
        case(sender(state), 5, 0, 0, at)
    case(sender("PAYLOAD"), 4, _left(b, b.inner("frame.result")))
    case(sender("SUM"), 3, CRC_BYTES - 1 - b.inner("sender.count"), 0, b.inner("crc.busy"))
    case(sender("CLOSE"), 2)
    rank: Value = Const(0, 27)
    for holds, *parts in reversed(cases):
        widths = (4, PLACE, 8, 3)
        fields = [Value.cast(part)[:width] for part, width in zip(parts, widths, strict=True)]
        padded = [
            Cat(field, Const(0, width - len(field))) for field, width in zip(fields, widths, strict=True)
        ]
        rank = Mux(holds, Cat(*reversed(padded)), rank)
    return Cat(_settle(b)[:2], rank)


def _invariants(
    b: Bench, due: Value, length: Value, good: Value, matched: Value, match_before: Value
) -> None:
    """State which part works when, and what the registers are then."""
    dispatch, receiver, sender = (partial(b.state, part) for part in ("dispatch", "receiver", "sender"))
    resting = {request: b.state(request, "WAIT") for request in REQUESTS}
    summary, settle = b.inner("summary.running"), _settle(b)
    at_work = [~waits for waits in resting.values()] + [summary]
    b.invariant("settling", b.inner("frame.still") == b.inner("frame.reading").any())
    b.invariant(
        "states",
        Cat(
            b.inner(f"{part}.fsm_state") < len(b.codes(part))
            for part in ("dispatch", "receiver", "sender", *REQUESTS)
        ).all(),
    )
    b.invariant("receiver_works", dispatch("RECEIVE") == ~receiver("WAIT"))
    b.invariant("sender_works", dispatch("ANSWER") == ~sender("WAIT"))
    b.invariant("request_works", dispatch("EXECUTE") == Cat(*at_work).any())
    pairs = [at_work[i] & at_work[j] for i in range(len(at_work)) for j in range(i)]
    b.invariant("one_request", ~Cat(*pairs).any())
    b.invariant("due_at_work", due == dispatch("KIND", "HEAD", "EXECUTE", "RESPOND", "ANSWER"))
    b.invariant("states_of_codec", ~b.inner("encoder.second") | b.inner("leaving.full"))

    # The frame and its length.
    received, past = b.inner("frame.received"), b.inner("frame.past")
    arrived = ~dispatch("POWER UP") & ~receiver("RECEIVE")
    b.invariant(
        "length",
        dispatch("POWER UP") & (length == 0) & (received == 0) | ~dispatch("POWER UP") & (length == received),
    )
    b.invariant("short", received <= FRAME_BYTES)
    b.invariant("past", ~arrived | (settle == 2) | (past == (received - CRC_BYTES)[:PLACE]))
    b.invariant(
        "at_end", ~arrived | (settle != 0) | (b.inner("frame.at_end") == (b.inner("frame.pointer") == past))
    )
    result = b.inner("frame.pointer") == b.inner("frame.result")
    b.invariant("at_result", ~(dispatch("ANSWER") & (settle == 0)) | (b.inner("frame.at_result") == result))
    b.invariant("checked", ~receiver("COMPARE", "SEQUENCE") | (good & matched))
    b.invariant(
        "check_settles",
        ~receiver("CHECK")
        | (settle != 0)
        | (b.inner("matches", "sync") == (match_before & (length >= HEAD_BYTES + CRC_BYTES))),
    )
    b.invariant("crc_settles", ~receiver("CHECK") | (settle == 2) | ~b.inner("crc.busy"))
    b.invariant(
        "same_is_good",
        ~receiver("CHECK") | (good == (b.inner("receiver.same") & (length >= HEAD_BYTES + CRC_BYTES))),
    )

    # The head and what is counted.
    kind, count = b.inner("dispatch.kind"), b.inner("dispatch.count")
    head = Mux(kind == Command.RUN, RUN_HEAD, WRITE_HEAD)
    known = (kind == Command.RUN) | (kind == Command.WRITE) | (kind == Command.READ)
    b.invariant("head", ~dispatch("HEAD") | (known & (count < head)))
    some, number = b.inner("registers.some"), b.inner("registers.head")[56:64]
    counted = b.state("run", "START", "RUN", "HIGH") | b.state("read", "WORD", "HIGH")
    counted = counted | (b.state("run", "TOKEN") | b.state("read", "READ")) & (settle != 2)
    b.invariant("some", ~counted | (some == number.any()))
    b.invariant("word_wanted", ~b.state("read", "WORD", "LOW") | some | b.state("read", "LOW"))
    b.invariant("word_counts", ~b.state("read", "WORD") | number.any())
    left = _left(b, received - CRC_BYTES)
    b.invariant("commit_left", ~b.state("commit", "LOAD") | (left != 0))
    fed = b.state("run", "START", "RUN", "LOW", "HIGH")
    b.invariant("no_token", ~(fed & b.inner("run.bare")) | (left == 0))
    b.invariant("restart", receiver("COMPARE") | (b.inner("receiver.count") == 0))
    b.invariant("sum_restart", sender("SUM") | (b.inner("sender.count") == 0))
    b.invariant("cycles_counted", ~summary | (b.inner("summary.count") <= 7))


RUNNING: dict[str, str | int] = {
    "dispatch": "EXECUTE", "run": "START", "frame.still": 0, "frame.reading": 0, "registers.some": 0,
    "frame.received": 6, "frame.past": 2, "frame.pointer": 2, "frame.at_end": 1,
}  # fmt: skip
"""A RUN whose tokens are fed."""
ANSWERING: dict[str, str | int] = {
    "dispatch": "ANSWER", "sender": "OPEN", "frame.still": 0, "frame.reading": 0, "frame.result": 384,
    "frame.received": 6, "frame.past": 2,
}  # fmt: skip
"""An answer begins."""

FAULTS = {
    "one_frame_at_a_time": Fault("receiver.done", lambda b: b.state("receiver", "CHECK"), start=LISTENING),
    "one_answer_for_a_frame": Fault("sender.done", lambda b: b.inner("receiver.damaged"), start=LISTENING),
    "nothing_unasked": Fault("sender.item__valid", lambda b: b.inner("receiver.damaged"), start=LISTENING),
    "none_for_a_bad_one": Fault("matches", 1, domain="sync", start=LISTENING),
    "a_good_one_is_taken": Fault("matches", 0, domain="sync", start=LISTENING),
    "crc_of_all_bytes": Fault("crc.busy", 1, start=LISTENING),
    "no_deadlock": Fault("frame.still", 1, start=LISTENING),
    "back_pressure_is_the_line_s": Fault("encoder.o__valid", 0, start=ANSWERING),
    "engine_is_heard": Fault("frame.still", 1, lambda b: b.state("run", "RUN"), start=RUNNING),
    "tx_held": Fault("encoder.o__payload", lambda b: b.dut.tx.ready, start=ANSWERING),
}
PROOFS = [
    Proof(
        f"controller_{name}", f"`LinkController`, {where}", partial(controller, start),
        induction=0 if name == "reset" else 1, bound=bound, planted=40, cover=cover, faults=FAULTS,
        solvers=("yices",),
    )
    for name, where, start, bound, cover in (
        ("listens", "past its power-up", LISTENING, 8, 16),
        ("answers", "from the begin of an answer", ANSWERING, 8, 48),
        ("reset", "from reset through its power-up", {}, 52, 52),
    )
]  # fmt: skip
