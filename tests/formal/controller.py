"""The link controller: one answer for each good frame, none for a bad one, and never a standstill.

The standstill is excluded by a rank, a number made from its registers: in every cycle in which nothing comes
from outside and nothing outside is waited for, the rank falls. As it is finite, the controller always comes
to where it waits for a byte, for room on the line, or for the engine.
"""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from ternac.hdl.link.controller import LinkController
from ternac.link import (
    CRC_BYTES,
    FRAME_BYTES,
    HEAD_BYTES,
    RUN_HEAD,
    WINDOW,
    WRITE_HEAD,
    Command,
    Status,
)
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

LISTENING: dict[str, str | int] = {"dispatch": "RECEIVE", "receiver": "RECEIVE"}
REQUESTS = ("commit", "write", "read", "run")
PLACE = 10
"""Bits of an address in the frame RAM."""
WATCHDOG = 8
"""Cycles for a token; in a proof as few as show the same."""
COMPARED = HEAD_BYTES - 1 + CRC_BYTES
"""Bytes that tell a frame from others: its sequence number and its CRC."""


def controller(start: dict[str, str | int], fault: Fault | None, only: set[str] | None) -> Bench:
    """Claim what holds from one frame to the next; ``start``: past the power-up, or empty for the reset."""
    dut = LinkController(0, bytes(16), bytes(8), window=WINDOW, watchdog=WATCHDOG)
    b = Bench(dut, fault=fault, only=only, start=start)
    b.held("rx_held", dut.rx, given=True)
    step = b.inner("frame.step")
    accepted, dropped = b.inner("receiver.done"), b.inner("receiver.damaged")
    answered, offered = b.inner("sender.done"), b.inner("sender.item__valid")
    leaving_full, stuck = b.inner("leaving.full"), b.inner("dispatch.stuck")

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
    with b.m.If(comes & ~end & (length <= FRAME_BYTES)):
        b.m.d.sync += length.eq(length + 1)
    with b.m.If(comes & end):
        b.m.d.sync += good.eq(~bad & (length >= HEAD_BYTES + CRC_BYTES) & (length <= FRAME_BYTES))
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
        | (b.state("run", "START") & dut.engine.busy & ~stuck)
        | (b.state("run", "RUN") & ~dut.engine.done & ~stuck)
        | (b.state("read", "WORD") & ~dut.engine.rd_valid & ~stuck)
    )
    event = comes | dropped | answered
    rank, before = _rank(b, due), Signal(28, name="before")
    started, excused = Signal(name="started"), Signal(name="excused")
    b.m.d.sync += [before.eq(rank), started.eq(1), excused.eq(outside | event)]
    b.claim("no_deadlock", ~started | excused | (rank < before))
    b.claim("back_pressure_is_the_line_s", ~(offered & leaving_full) | dut.tx.valid)
    b.claim("engine_is_heard", ~(b.state("run", "RUN") | b.state("read", "WORD")) | step | stuck)
    b.held("tx_held", dut.tx)

    _invariants(b, due, length, good, matched, match_before)
    _order(b, due)
    _watchdog(b)
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
    case(receiver("KIND"), 12)
    fresh = b.inner("receiver.fresh")
    case(receiver("COMPARE"), 11, Mux(fresh, 0, COMPARED) + COMPARED - 1 - b.inner("receiver.count"))
    case(dispatch("KIND"), 10)
    case(dispatch("HEAD"), 9, 15 - count)
    works = dispatch("EXECUTE")
    case(works & summary, 7, 7 - b.inner("summary.count"))
    case(works & b.state("commit", "LOAD", "STORE"), 8, request, 0, b.state("commit", "STORE"))
    case(works & b.state("write", "WRITE"), 8, request)
    for at, state in enumerate(("WORD", "READ", "HIGH", "LOW")):
        case(works & b.state("read", state), 8, 0, number, at)
    case(works & b.state("run", "TOKEN"), 8, request, number, Mux(b.inner("run.bare"), 6, 1))
    for at, state in enumerate(("RUN", "START", "HIGH", "LOW"), 2):
        case(works & b.state("run", state), 8, request, number, at)
    case(dispatch("RESPOND"), 6)
    case(sender("OPEN"), 5, HEAD_BYTES + 1)
    case(sender("HEAD"), 5, HEAD_BYTES - b.inner("sender.count"))
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
    summary, settle, stuck = b.inner("summary.running"), _settle(b), b.inner("dispatch.stuck")
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
    b.invariant("request_works", stuck | (dispatch("EXECUTE") == Cat(*at_work).any()))
    b.invariant("stuck_is_no_work", ~stuck | ~dispatch("EXECUTE", "HEAD"))
    pairs = [at_work[i] & at_work[j] for i in range(len(at_work)) for j in range(i)]
    b.invariant("one_request", ~Cat(*pairs).any())
    b.invariant("due_at_work", due == dispatch("KIND", "HEAD", "EXECUTE", "RESPOND", "ANSWER"))
    b.invariant("states_of_codec", ~b.inner("encoder.second") | b.inner("leaving.full"))

    # The frame and its length.
    received, past = b.inner("frame.received"), b.inner("frame.past")
    arrived = ~dispatch("POWER UP") & ~receiver("RECEIVE")
    long, over = length > FRAME_BYTES, b.inner("receiver.over")
    b.invariant("length", received == Mux(long, FRAME_BYTES, length))
    b.invariant("nothing_at_first", ~dispatch("POWER UP") | (length == 0))
    b.invariant("over", over == (long & receiver("RECEIVE")))
    b.invariant("longest", length <= FRAME_BYTES + 1)
    b.invariant("long_is_checked", ~long | receiver("RECEIVE", "CHECK"))
    b.invariant("long_is_not_good", ~(long & receiver("CHECK")) | ~good)
    b.invariant("short", received <= FRAME_BYTES)
    b.invariant("past", ~arrived | (settle == 2) | (past == (received - CRC_BYTES)[:PLACE]))
    b.invariant(
        "at_end", ~arrived | (settle != 0) | (b.inner("frame.at_end") == (b.inner("frame.pointer") == past))
    )
    result = b.inner("frame.pointer") == b.inner("frame.result")
    b.invariant("at_result", ~(dispatch("ANSWER") & (settle == 0)) | (b.inner("frame.at_result") == result))
    b.invariant("checked", ~receiver("KIND", "COMPARE") | (good & matched))
    b.invariant(
        "check_settles",
        ~receiver("CHECK")
        | (settle != 0)
        | (b.inner("matches", "sync") == (match_before & (received >= HEAD_BYTES + CRC_BYTES))),
    )
    b.invariant("crc_settles", ~receiver("CHECK") | (settle == 2) | ~b.inner("crc.busy"))
    b.invariant(
        "same_is_good",
        ~receiver("CHECK") | (good == (b.inner("receiver.same") & (received >= HEAD_BYTES + CRC_BYTES))),
    )

    # The head and what is counted.
    kind, count = b.inner("dispatch.kind"), b.inner("dispatch.count")
    head = Mux(kind == Command.RUN, RUN_HEAD, WRITE_HEAD)
    known = (kind == Command.RUN) | (kind == Command.WRITE) | (kind == Command.READ)
    b.invariant("head", ~dispatch("HEAD") | (known & (count < head)))
    some, number = b.inner("registers.some"), b.inner("registers.head")[56:64]
    counted = b.state("run", "START", "RUN", "HIGH") | b.state("read", "WORD", "HIGH")
    counted = counted & ~stuck | ~stuck & (b.state("run", "TOKEN") | b.state("read", "READ")) & (settle != 2)
    b.invariant("some", ~counted | (some == number.any()))
    b.invariant("word_wanted", stuck | ~b.state("read", "WORD", "LOW") | some | b.state("read", "LOW"))
    b.invariant("word_counts", stuck | ~b.state("read", "WORD") | number.any())
    left = _left(b, received - CRC_BYTES)
    b.invariant("commit_left", stuck | ~b.state("commit", "LOAD") | (left != 0))
    fed = b.state("run", "START", "RUN", "LOW", "HIGH") & ~stuck
    b.invariant("no_token", ~(fed & b.inner("run.bare")) | (left == 0))
    b.invariant("restart", receiver("COMPARE") | (b.inner("receiver.count") == 0))
    b.invariant("compares", b.inner("receiver.count") < COMPARED)
    b.invariant("sum_restart", sender("HEAD", "SUM") | (b.inner("sender.count") == 0))
    b.invariant("cycles_counted", ~summary | (b.inner("summary.count") <= 7))


def _order(b: Bench, due: Value) -> None:
    """Claim which frames are executed, how the others are answered, and that those change nothing.

    What the frame says stands in the RAM; ``last`` and the others follow what docs/link.md says.
    """
    dispatch, receiver, sender = (partial(b.state, part) for part in ("dispatch", "receiver", "sender"))
    settle, accepted = _settle(b), b.inner("receiver.done")
    fresh, stuck, answered = b.inner("receiver.fresh"), b.inner("dispatch.stuck"), b.inner("sender.done")
    crc_at = b.inner("frame.received") - CRC_BYTES
    kind = b.word("frame.ram", 0)
    here = Cat(
        *(b.word("frame.ram", 1 + i) for i in range(HEAD_BYTES - 1)),
        *(b.word("frame.ram", (crc_at + i)[:PLACE]) for i in range(CRC_BYTES)),
    )
    number, hello = here[:16], kind == Command.HELLO

    # What is executed, and what is answered once more.
    first = {name: int(b.start.get(name, 0)) for name in ("receiver.fresh", "dispatch.refused")}
    last, closes = Signal(8 * COMPARED, name="last_one"), Signal(name="closes")
    opened = Signal(name="open", init=int(b.start.get("dispatch.opened", 0)))
    executes = Signal(name="executes", init=first["receiver.fresh"])
    refused = Signal(name="refused_it", init=first["dispatch.refused"])
    again = Signal(name="again", init=not any(first.values()))
    kind_was = Signal(8, name="kind_was", init=int(b.start.get("dispatch.kind", 0)))
    following = (number == (last[:16] + 1)[:16]) & opened & ~stuck
    once_more = here == last
    with b.m.If(accepted):
        b.m.d.sync += [
            executes.eq(hello | following),
            again.eq(~hello & ~following & once_more),
            refused.eq(~hello & ~following & ~once_more),
            closes.eq(0),
            kind_was.eq(kind),
        ]
        with b.m.If(hello | following):
            b.m.d.sync += last.eq(here)
    hash_byte = b.inner("commit.load") & b.inner("frame.byte").any()
    with b.m.If(hash_byte):
        b.m.d.sync += closes.eq(1)
    was_hello, was_run = kind_was == Command.HELLO, kind_was == Command.RUN
    with b.m.If(answered):
        b.m.d.sync += [opened.eq((opened | was_hello & executes) & ~closes), closes.eq(0)]
    b.claim("executed_is_hello_or_the_next", ~accepted | (fresh == (hello | following)))
    b.claim(
        "the_last_one_is_known", ~b.past(accepted & ~fresh) | (b.inner("receiver.same") == b.past(once_more))
    )
    engine = b.dut.engine
    works = (
        engine.start | engine.rd_en | b.inner("commit.store") | b.inner("run.store") | b.inner("read.store")
    )
    works = works | b.inner("write.load")
    b.claim("nothing_else_is_executed", ~works | (due & executes & ~stuck))
    b.claim("writes_are_executed", ~engine.wr_en | (due & executes))

    # What is answered.
    first_status = b.start.get("dispatch.executed", int(Status.NOT_OPEN))
    status, kept = Signal(3, name="last_status", init=first_status), b.inner("dispatch.executed")
    says = sender("HEAD") & (b.inner("sender.count") == HEAD_BYTES) & b.inner("sender.item__valid")
    said = b.inner("sender.item__payload")[:8]
    reason = Mux(stuck, Status.STUCK, Mux(opened, Status.OUT_OF_ORDER, Status.NOT_OPEN))
    with b.m.If(says & executes):
        b.m.d.sync += status.eq(said)
    b.claim("refused_says_why", ~(says & refused) | (said == reason))
    b.claim("again_as_it_was", ~(says & again) | (said == Mux(stuck, Status.STUCK, status)))
    sends = sender("PAYLOAD") & b.inner("sender.item__valid")
    b.claim("no_payload_with_an_error", ~sends | (b.inner("dispatch.status") == Status.OK))
    stores = b.inner("frame.store") | b.inner("frame.place")
    b.claim("its_answer_is_kept", ~stores | (due & executes))

    # What a RUN may follow: the request before was a RUN, answered with OK.
    ran = Signal(name="should_follow")
    with b.m.If(answered & executes):
        b.m.d.sync += ran.eq(was_run & (b.inner("dispatch.status") == Status.OK))
    follows = b.state("run", "TOKEN") & b.inner("run.following") & b.inner("run.step")
    b.claim("follows_a_run", ~(follows & (b.inner("run.load") | b.inner("run.keep"))) | ran)

    # The register turns a byte with each that it is compared with; so its bytes are those of the RAM.
    register, count = b.inner("receiver.last"), b.inner("receiver.count")
    comparing = receiver("COMPARE")
    turned = [Cat(last[8 * i :], last[: 8 * i]) for i in range(COMPARED)]
    taken = [Cat(last[8 * i :], here[: 8 * i]) for i in range(COMPARED)]
    for i in range(COMPARED):
        at = comparing & (count == i)
        b.invariant(f"turned_{i}", ~at | (register == Mux(fresh, taken[i], turned[i])))
        same = here[: 8 * i] == last[: 8 * i]
        b.invariant(f"same_{i}", ~at | fresh | (b.inner("receiver.same") == same))
        place = 1 + i if i < HEAD_BYTES - 1 else (crc_at + i - (HEAD_BYTES - 1))[:PLACE]
        b.invariant(f"points_{i}", ~at | (b.inner("frame.pointer") == place))
    b.invariant("whole", comparing | (register == last))
    low = last[:8] + 1
    b.invariant("low", ~(comparing & (count == 1)) | (b.inner("receiver.following") == (here[:8] == low[:8])))
    b.invariant(
        "carry",
        ~(comparing & (count == 1) & b.inner("receiver.following")) | (b.inner("receiver.carry") == low[8]),
    )
    b.invariant(
        "next",
        ~(comparing & (count > 1) & ~fresh)
        | (b.inner("receiver.following") == (number == (last[:16] + 1)[:16])),
    )
    b.invariant("points", ~receiver("KIND") | (b.inner("frame.pointer") == 0))
    b.invariant("hello", ~comparing | (b.inner("receiver.hello") == hello))
    b.invariant("first_pass", ~receiver("KIND") | ~fresh & b.inner("receiver.same"))
    b.invariant("fresh", ~(comparing & fresh) | hello | following)
    read, byte = b.read_data("frame.ram"), b.inner("frame.byte")
    at_pointer = b.word("frame.ram", b.inner("frame.pointer"))
    reads = receiver("KIND", "COMPARE") | dispatch("KIND")
    b.invariant("read", ~reads | (settle != 1) | (read == at_pointer))
    b.invariant("byte", ~reads | (settle != 0) | (byte == at_pointer))

    # Flags of the dispatcher.
    b.invariant("one_way", ~due | ((executes + again + refused) == 1))
    b.invariant("fresh_executes", ~due | (fresh == executes))
    b.invariant("same_again", ~(due & ~fresh) | (b.inner("receiver.same") == again))
    after = dispatch("RESPOND", "ANSWER")
    b.invariant("closes", ~closes | (due & executes & ~was_hello))
    hello_now = due & executes & was_hello & ~dispatch("KIND")
    b.invariant("opened", b.inner("dispatch.opened") == ((opened | hello_now) & ~(due & closes)))
    b.invariant(
        "refused",
        ~after
        | (b.inner("dispatch.refused") == (~executes & (stuck | refused) | executes & stuck & ~was_hello)),
    )
    b.invariant("kind", ~dispatch("KIND") | (b.inner("frame.pointer") == 0) & (kind_was == kind))
    in_work = dispatch("HEAD", "EXECUTE")
    started = {"commit": Command.COMMIT, "write": Command.WRITE, "read": Command.READ, "run": Command.RUN}
    known = Cat(kind_was == command for command in started.values()).any()
    b.invariant("kind_is_kept", ~in_work | known & (b.inner("dispatch.kind") == kind_was[:3]))
    for part, command in started.items():
        b.invariant(f"{part}_is_asked", stuck | b.state(part, "WAIT") | (kind_was == command) & executes)
    b.invariant("summary_is_asked", stuck | ~b.inner("summary.running") | was_run & executes)
    b.invariant("work_is_asked", ~in_work | executes & ~b.inner("dispatch.refused"))
    b.invariant("stuck_says_hello", ~(dispatch("KIND") & executes & stuck) | was_hello)
    b.invariant("kept", stuck | due & executes & ~sender("PAYLOAD", "SUM", "CLOSE") | (kept == status))
    b.invariant("no_payload", ~sender("PAYLOAD") | (b.inner("dispatch.status") == Status.OK))
    b.invariant("wrote", ~b.inner("write.wr_en") | due & executes)
    b.invariant("in_order", ~in_work | (b.inner("in_order", "sync") == ran))
    good = was_run & (b.inner("dispatch.status") == Status.OK)
    b.invariant("ran", b.inner("ran") == Mux(in_work, 0, Mux(after & executes, good, ran)))


def _watchdog(b: Bench) -> None:
    """Claim that a token is not waited for longer than twice the watchdog's time, if the engine counts."""
    engine, stuck, waits = b.dut.engine, b.inner("dispatch.stuck"), b.state("run", "RUN")
    count = engine.cycles[: WATCHDOG.bit_length() - 1]
    b.given("the_engine_counts", ~b.past(waits) | (count == (b.past(count) + 1)[: len(count)]))
    done = b.state("run", "LOW", "HIGH") | b.inner("summary.running")
    b.given("it_rests_then", ~b.past(done) | (engine.cycles == b.past(engine.cycles)))
    waited = Signal(range(2 * WATCHDOG + 2), name="waited")
    b.m.d.sync += waited.eq(Mux(waits & ~engine.done & ~stuck, waited + 1, 0))
    b.claim("waits_for_no_token_too_long", stuck | (waited <= 2 * WATCHDOG))
    once, before = b.inner("once"), b.inner("before")
    b.invariant("no_summary_when_stuck", ~stuck | ~b.inner("summary.running"))
    b.invariant("not_given_up_when_done", ~done | stuck | ~once | (before == count[len(count) - 1]))
    b.invariant("seen", (waited == 0) | (before == (count - 1)[len(count) - 1]))
    since = (count - WATCHDOG // 2 - 1)[: len(count)]  # cycles since the one after the bit rose
    b.invariant("rose", stuck | (waited == 0) | (waited <= since + 1 + Mux(once, WATCHDOG, 0)))


RUNNING: dict[str, str | int] = {
    "dispatch": "EXECUTE", "run": "START", "frame.still": 0, "frame.reading": 0, "registers.some": 0,
    "frame.received": 7, "frame.past": 3, "frame.pointer": 3, "frame.at_end": 1, "receiver.fresh": 1,
}  # fmt: skip
"""A RUN whose tokens are fed."""
ANSWERING: dict[str, str | int] = {
    "dispatch": "ANSWER", "sender": "OPEN", "frame.still": 0, "frame.reading": 0, "frame.result": 384,
    "frame.received": 7, "frame.past": 3, "receiver.fresh": 1, "dispatch.executed": 0,
}  # fmt: skip
"""An answer begins."""
COMPARED_ALL: dict[str, str | int] = {
    **LISTENING, "receiver": "COMPARE", "receiver.count": COMPARED - 1, "receiver.same": 1,
    "dispatch.opened": 1, "frame.still": 1, "frame.reading": 1, "frame.received": 7, "frame.past": 3,
    "frame.pointer": 6,
}  # fmt: skip
"""The last byte of a frame of zeros, once more that with which the registers begin, is compared."""
STALE: dict[str, str | int] = {
    "dispatch": "KIND", "frame.still": 0, "frame.reading": 0, "frame.byte": int(Command.COMMIT),
    "frame.received": 23, "frame.past": 19, "dispatch.refused": 1,
}  # fmt: skip
"""A COMMIT is to be refused."""
FOLLOWING: dict[str, str | int] = {
    **RUNNING, "frame.still": 1, "frame.reading": 1, "run": "TOKEN", "run.bare": 1, "run.chose": 1,
    "registers.some": 1, "registers.head": 1 << 70 | 1 << 56,
}  # fmt: skip
"""A RUN that follows, though the request before was none."""

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
    "executed_is_hello_or_the_next": Fault("receiver.following", 1, start=COMPARED_ALL),
    "the_last_one_is_known": Fault("receiver.same", 0, start=COMPARED_ALL),
    "nothing_else_is_executed": Fault("is_fresh", 1, start=STALE),
    "writes_are_executed": Fault("write.wr_en", 1, start=LISTENING),
    "refused_says_why": Fault(
        "dispatch.status", Status.NOT_LOADED, start={**ANSWERING, "receiver.fresh": 0, "dispatch.refused": 1}
    ),
    "again_as_it_was": Fault(
        "dispatch.executed", Status.NOT_LOADED, start={**ANSWERING, "receiver.fresh": 0}
    ),
    "no_payload_with_an_error": Fault(
        "dispatch.status",
        Status.STUCK,
        lambda b: b.state("sender", "PAYLOAD"),
        start={**ANSWERING, "frame.result": 386},
    ),
    "its_answer_is_kept": Fault("is_fresh", 1, start=STALE),
    "follows_a_run": Fault("in_order", 1, domain="sync", start=FOLLOWING),
    "waits_for_no_token_too_long": Fault("once", 0, start=RUNNING),
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
