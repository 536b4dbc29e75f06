"""The contexts of an engine: no done without a start, one for each, and none that waits for ever."""

from __future__ import annotations

from functools import partial

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value
from amaranth.utils import ceil_log2

from ternac.compile.geometry import PRESETS, Geometry
from ternac.hdl.engine.contexts import DONE_GAP, Contexts
from ternac.hdl.engine.sequencer import Turns
from ternac.hdl.link.ports import turnaround
from tests.formal.bench import Bench, Fault
from tests.formal.prove import Proof

__all__ = ["PROOFS"]


def _sum(bits: list[Value]) -> Value:
    total: Value = Const(0, 1)
    for bit in bits:
        total = total + bit
    return total


def contexts(geometry: Geometry, fault: Fault | None, only: set[str] | None) -> Bench:
    """Start to done of each context. A token takes at least as long as a done of each context.

    Cycles in which a done is held are not those of a context that starves.
    """
    dut = Contexts(geometry)
    b = Bench(dut, fault=fault, only=only)
    many = range(geometry.contexts)
    longest = DONE_GAP * geometry.contexts
    at_once = not turnaround(geometry)
    context, done_context = dut.start_context, dut.done_context
    b.given("a_context_that_is_there", context < geometry.contexts)
    halts = [dut.halted & (dut.halted_context == k) for k in many]
    # The sampler works for the context of the last row of logits.
    whose = Signal(2, name="whose")
    with b.m.If(dut.row_valid):
        b.m.d.sync += whose.eq(dut.row_context)
    samples = [dut.sampled & (whose == k) for k in many]
    b.given("a_row_is_of_a_context", dut.row_context < geometry.contexts)
    b.given("no_row_while_it_samples", ~(dut.row_valid & dut.sampled))

    opened, ended, chosen, wants = (
        [Signal(name=f"{name}_{k}") for k in many] for name in ("open", "ended", "chosen", "wants")
    )
    ages = [Signal(range(longest + 1), name=f"age_{k}") for k in many]
    waits = [Signal(range(longest + 2), name=f"waits_{k}") for k in many]
    ready = [ended[k] & (chosen[k] | ~wants[k]) for k in many]
    closes = [dut.done & (done_context == k) for k in many]
    for k in many:
        starts = dut.start & (context == k) & (~opened[k] | (closes[k] if at_once else 0))
        with b.m.If(starts):
            b.m.d.sync += [opened[k].eq(1), wants[k].eq(dut.emit), ages[k].eq(0)]
        with b.m.Elif(closes[k]):
            b.m.d.sync += opened[k].eq(0)
        with b.m.Elif(ages[k] < longest):
            b.m.d.sync += ages[k].eq(ages[k] + 1)
        for flag, pulse in ((ended[k], halts[k]), (chosen[k], samples[k])):
            with b.m.If(closes[k]):
                b.m.d.sync += flag.eq(0)
            with b.m.Elif(pulse):
                b.m.d.sync += flag.eq(1)
        b.m.d.sync += waits[k].eq(Mux(ready[k] & ~closes[k], waits[k] + ~dut.hold_done, 0))
        b.given(f"it_halts_once_{k}", ~halts[k] | (opened[k] & ~ended[k] & (ages[k] >= longest - 1)))
        b.given(
            f"one_token_{k}", ~samples[k] | (opened[k] & wants[k] & ~chosen[k] & (ages[k] >= longest - 1))
        )
        if not at_once:
            b.given(f"no_start_with_its_done_{k}", ~(dut.start & (context == k) & closes[k]))

    def of(signals: list[Signal], index: Value) -> Value:
        return Array(signals)[index]

    pause = b.inner("pause")
    b.claim("none_while_held", ~(dut.done & dut.hold_done))
    b.claim("no_done_without_start", ~dut.done | of(opened, done_context))
    b.claim("done_when_ended", ~dut.done | of(ended, done_context))
    b.claim("done_with_its_token", ~dut.done | of(chosen, done_context) | ~of(wants, done_context))
    b.claim("busy_while_open", dut.busy == Cat(opened).any())
    b.claim(
        "begins_when_closed",
        dut.begin == (dut.start & (~of(opened, context) | (of(closes, context) if at_once else 0))),
    )
    b.claim("no_context_starves", Cat(wait < longest for wait in waits).all())
    watched, token = b.constant(2, "watched"), Signal(16, name="token")
    with b.m.If(dut.sampled & (whose == watched)):
        b.m.d.sync += token.eq(dut.sampled_token)
    mine = dut.done & (done_context == watched)
    b.claim("its_own_token", ~(mine & of(wants, watched)) | (dut.next_token == token))
    if geometry.contexts > 1:
        since = Signal(range(DONE_GAP), init=DONE_GAP - 1, name="since")
        b.m.d.sync += since.eq(Mux(dut.done, 0, Mux(since == DONE_GAP - 1, since, since + 1)))
        b.claim("gap_of_dones", ~dut.done | (since == DONE_GAP - 1))
        b.invariant("gap", since + pause == DONE_GAP - 1)

    # Nobody closes twice while another one waits: closed[k][j]: j closed since k is ready.
    closed = [[Signal(name=f"closed_{k}_{j}") for j in many] for k in many]
    for k in many:
        for j in many:
            if j != k:
                b.m.d.sync += closed[k][j].eq((closed[k][j] | closes[j]) & ready[k] & ~closes[k])
                waited = ~opened[j] | (ages[j] < waits[k])
                b.invariant(f"closed_before_{k}_{j}", ~closed[k][j] | waited)
        b.given(
            f"held_before_any_is_done_{k}", ~(dut.hold_done & Cat(closed[k][j] for j in many if j != k).any())
        )
        others = [closed[k][j] for j in many if j != k]
        bound = DONE_GAP - 1 + DONE_GAP * _sum(others) if others else Const(0)
        b.invariant(f"wait_{k}", ~ready[k] & (waits[k] == 0) | (waits[k] + pause <= bound))
        b.invariant(f"ready_ages_{k}", ~ready[k] | (opened[k] & (ages[k] >= longest)))
        b.invariant(f"ended_open_{k}", ~(ended[k] | chosen[k]) | opened[k])
        b.invariant(f"own_token_{k}", ~(chosen[k] & (watched == k)) | (b.inner(f"chosen_{k}") == token))
        for name, ghost in (("opened", opened), ("halted", ended), ("sampled", chosen)):
            b.invariant(f"{name}_{k}", b.inner(name)[k] == ghost[k])
        b.invariant(f"emits_{k}", ~opened[k] | (b.inner("emits")[k] == wants[k]))
    b.invariant("who_samples", b.inner("sampling") == whose)
    b.reached("done", dut.done)
    if geometry.contexts > 1:
        b.reached("all_open", Cat(opened).all())
        b.reached("one_waits_for_another", dut.done & (Cat(ready) == 0b11))
    return b


def turns(geometry: Geometry, fault: Fault | None, only: set[str] | None) -> Bench:
    """Every running context gets its turn after at most one of each of the others."""
    dut = Turns(geometry)
    b = Bench(dut, fault=fault, only=only)
    many, current = range(geometry.contexts), dut.current
    runs = dut.running.bit_select(current, 1)
    b.given("a_start_is_of_one_that_rests", ~dut.start | ~dut.running.bit_select(dut.start_context, 1))
    b.given("who_runs_hands_on", ~(dut.leave | dut.switch) | runs)
    b.given("not_both", ~(dut.leave & dut.switch))
    running = Signal(geometry.contexts, name="should_run")
    for k in many:
        with b.m.If(dut.start & (dut.start_context == k)):
            b.m.d.sync += running[k].eq(1)
        with b.m.Elif(dut.leave & (current == k)):
            b.m.d.sync += running[k].eq(0)
    b.claim("runs_from_start_to_end", dut.running == running)
    b.claim("one_turn", dut.fetching == current)
    b.claim(
        "a_running_one_has_it", ~(b.past(dut.running.any()) & dut.running.any()) | runs | b.past(dut.leave)
    )
    k = b.constant(ceil_log2(geometry.contexts), "watched")
    passed = Signal(3, name="passed")  # turns that the watched one waits
    mine = running.bit_select(k, 1)
    moves = dut.switch | dut.leave
    with b.m.If(~mine | (current == k)):
        b.m.d.sync += passed.eq(0)
    with b.m.Elif(moves):
        b.m.d.sync += passed.eq(passed + 1)
    b.claim("no_context_starves", passed < geometry.contexts)
    distance = (k - current)[: ceil_log2(geometry.contexts)]
    b.invariant("round", ~mine | (distance == 0) | (passed + distance < geometry.contexts))
    b.reached("waits", mine & (passed == geometry.contexts - 1))
    b.reached("its_turn", mine & (current == k) & dut.running.all())
    return b


NEAR, FAR = PRESETS["tiny"], PRESETS["ecp5-25f"]
"""Three contexts that a done may start again at once, and four whose start comes cycles later."""
PROOFS = [
    *(
        Proof(
            f"contexts_{geometry.contexts}",
            f"`Contexts`, {geometry.contexts}; a token takes {DONE_GAP * geometry.contexts} cycles or more",
            partial(contexts, geometry), bound=12, planted=2 * DONE_GAP * geometry.contexts + 8, cover=50,
            solvers=("yices", "z3") if geometry is NEAR else ("yices",),
            faults={
                "none_while_held": Fault("done", lambda b: b.dut.hold_done),
                "no_done_without_start": Fault("done", lambda b: b.dut.start),
                "done_when_ended": Fault("halted", 7),
                "done_with_its_token": Fault("sampled", 7),
                "busy_while_open": Fault("busy", 0),
                "begins_when_closed": Fault("begin", lambda b: b.dut.start),
                "no_context_starves": Fault("pause", DONE_GAP - 1),
                "its_own_token": Fault("next_token", lambda b: b.inner("chosen_0")),
                "gap_of_dones": Fault("pause", 0),
            },
        )
        for geometry in (NEAR, FAR)
    ),
    Proof(
        "turns", f"`Turns` of {FAR.contexts} contexts", partial(turns, FAR), bound=10, cover=12, quick=True,
        faults={
            "runs_from_start_to_end": Fault("running", 0, lambda b: b.dut.switch),
            "one_turn": Fault("turn_1", 0),
            "a_running_one_has_it": Fault("turn_next", lambda b: b.inner("turn_0")),
            "no_context_starves": Fault("turn_next", 0, lambda b: b.dut.running[0]),
        },
    ),
]  # fmt: skip
