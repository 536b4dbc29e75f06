"""The sequencer on instructions whose every bit is drawn, of several contexts: all is issued as they say."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS
from ternac.compile.isa import LAYOUT, WORDS, Addend, Instruction, Lane, MulBy, Opcode, Source
from ternac.hdl.array.dot import array_latency
from ternac.hdl.engine.norm import norm_latency
from ternac.hdl.engine.pass_control import RESULT_OFFSET
from ternac.hdl.engine.ports import BASES, PASS_FIELDS, STREAM_GAP, first_address_bits, word_bits
from ternac.hdl.engine.schedule import schedule
from ternac.hdl.engine.sequencer import Sequencer
from ternac.hdl.engine.side_lane import x_ready
from tests.hdl.sim import simulate
from tests.host.boards import small_program

GEOMETRY = PRESETS["tiny"]
KEPT = (*PASS_FIELDS, *BASES, "x_dst", "tail", "context")
WORD_MASK, ADDRESS_MASK = (1 << word_bits(GEOMETRY)) - 1, (1 << first_address_bits(GEOMETRY)) - 1


def drawn(rng: random.Random, statistics: float) -> Instruction:
    """Return an instruction that the sequencer may meet; what a pass does to values, and where, is random.

    ``statistics``: the share of bank passes that start the norm unit; there are none beside other contexts.
    """
    source = rng.choice((Source.DOT, Source.DOT, Source.BANK, Source.BANK, Source.EMBED))
    is_dot, is_bank = source == Source.DOT, source == Source.BANK
    stat = int(is_bank and rng.random() < statistics)
    to_x = int(not stat and rng.random() < 0.5)
    lane = rng.choice((*Lane,)) if to_x else Lane.DIRECT
    words = rng.choice((1, 2, rng.randrange(1, 9))) if is_dot else rng.randrange(1, 33)
    count = rng.choice((1, 2, 3, rng.randrange(1, 24), rng.randrange(16, 65)))
    if is_dot and rng.random() < 0.05:
        words, count = rng.randrange(9, 33), 2
    if lane != Lane.NORM and rng.random() < 0.03:
        words, count = 1, rng.randrange(65, 513)
    fields = {name: rng.randrange(1 << width) for name, (_, _, width) in LAYOUT.items()}
    fields |= {"to_list": 0, "arg": 0, "to_rows": 0, "mask": 0, "op": 1, "count": count, "words": words}
    fields |= {"stat": stat, "to_x": to_x, "tail": rng.randrange(1, GEOMETRY.columns + 1)}
    fields |= {
        "paced": int(is_bank and rng.random() < 0.3), "barrier": int(rng.random() < 0.2),
        "switch": int(rng.random() < 0.3), "to_logits": int(is_dot and rng.random() < 0.2),
        "stride": rng.randrange(16) if rng.random() < 0.3 else 0,
    }  # fmt: skip
    if source == Source.EMBED:
        fields["rel_a"] = 0
    kinds = {"op": Opcode.VEC, "source": source, "lane": lane, "mul": MulBy(fields["mul"])}
    return Instruction(**{**fields, **kinds, "add": rng.choice((*Addend,))})  # type: ignore[arg-type]


@dataclass
class Start:
    """What a context is started with."""

    token: int
    base: int
    entry: int


@dataclass
class Seen:
    """All that was issued."""

    dots: list[dict[str, int]] = field(default_factory=list)
    elements: list[dict[str, int]] = field(default_factory=list)
    starts: list[tuple[int, Start]] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    """Contexts, as they ended."""
    norms: list[tuple[int, int, int]] = field(default_factory=list)
    """Shift, table and tail of each norm that was started."""
    claims: list[int] = field(default_factory=list)
    logits: list[tuple[int, int]] = field(default_factory=list)
    """Last slot and tail of the logits, at the last element of each pass of them."""
    logits_passes: list[int] = field(default_factory=lambda: [0, 0])
    """How many began, and how many had all words issued."""
    cycles: int = 0


class Around:
    """What is around a sequencer: pipelines, side lane and norm unit, in cycles only."""

    def __init__(self, dut: Sequencer, seen: Seen) -> None:
        self.dut, self.seen, self.cycle, self.count = dut, seen, 0, 0
        self.retire: dict[int, int] = {}
        self.lane: dict[int, int] = {}
        self.streams: list[tuple[int, int]] = []
        self.free, self.norm_at = GEOMETRY.lane_depth, -1

    def look(self, ctx: Any) -> None:
        """Drive the inputs of this cycle and note its outputs; before the clock edge."""
        dut, seen, now = self.dut, self.seen, self.cycle
        ctx.set(dut.room, self.free)
        ctx.set(dut.norm_done, now == self.norm_at)
        if ctx.get(dut.norm_start):
            self.norm_at = now + norm_latency(GEOMETRY.pipelines)
            seen.norms.append(tuple(ctx.get(port) for port in (dut.norm_post, dut.norm_table, dut.norm_tail)))
        ctx.set(dut.retire, now in self.retire)
        ctx.set(dut.retire_index, self.retire.get(now, 0))
        ctx.set(dut.lane_retire, now in self.lane)
        ctx.set(dut.lane_context, self.lane.get(now, 0))
        dot, elem = ctx.get(dut.dot), ctx.get(dut.elem)
        if dot.valid:
            names = ("first", "last", "weight", "word")
            seen.dots.append({"at": now, **{n: int(getattr(dot, n)) for n in names}})
        if elem.valid:
            self._element(ctx, elem)
        if ctx.get(dut.claim):
            seen.claims.append(ctx.get(dut.claim_slots))
            self.free -= seen.claims[-1]
        self.free += sum(first <= now <= last for first, last in self.streams)
        seen.logits_passes[0] += ctx.get(dut.logits_start)
        seen.logits_passes[1] += ctx.get(dut.logits_issued)
        self.cycle += 1

    def _element(self, ctx: Any, elem: Any) -> None:
        own = ctx.get(self.dut.passes)[elem.index]
        now, kept = self.cycle, {name: int(getattr(own, name)) for name in KEPT}
        place = {name: int(getattr(elem, name)) for name in ("first", "last", "a")}
        self.seen.elements.append({"at": now, **place, **kept})
        self.count = 1 if elem.first else self.count + 1
        if not elem.last:
            return
        end = now + RESULT_OFFSET
        assert end - 2 not in self.retire
        self.retire[end - 2] = int(elem.index)
        if own.to_logits:
            self.seen.logits.append((ctx.get(self.dut.logits_last), ctx.get(self.dut.logits_tail)))
        if own.to_x:
            if own.lane == Lane.NORM:
                self.streams.append((end + STREAM_GAP, end + STREAM_GAP + self.count - 1))
                end = self.streams[-1][1]
            assert end + x_ready(GEOMETRY) - 2 not in self.lane
            self.lane[end + x_ready(GEOMETRY) - 2] = kept["context"]


def observe(programs: Sequence[Sequence[Instruction]], tokens: int, rng: random.Random, hold: float) -> Seen:
    """Run ``tokens`` tokens of each program, each in a context of its own, which start when they want to.

    ``hold``: the chance that passes of logits are held back in a cycle.
    """
    dut, seen = Sequencer(GEOMETRY, dot_delay=array_latency(GEOMETRY)), Seen()
    around = Around(dut, seen)
    words = [word for program in programs for inst in program for word in inst.encode()]
    entries = [WORDS * sum(map(len, programs[:k])) for k in range(len(programs))]

    async def bench(ctx: Any) -> None:
        ctx.set(dut.wr_en, 1)
        for address, word in enumerate(words):
            ctx.set(dut.wr_block, address % 2)
            ctx.set(dut.wr_addr, address // 2)
            ctx.set(dut.wr_data, word)
            await ctx.tick()
        ctx.set(dut.wr_en, 0)
        left, last = [tokens] * len(programs), [Start(0, 0, 0)] * len(programs)
        idle = set(range(len(programs)))
        while True:
            for name in ("entry", "token", "session_base"):
                ctx.set(getattr(dut, name), rng.randrange(1 << 16))
            ready = [k for k in idle if left[k]]
            begins = bool(ready) and (len(programs) == 1 or rng.random() < 0.05)
            ctx.set(dut.start, begins)
            if begins:
                k = rng.choice(ready)
                again = int(left[k] < tokens and rng.random() < 0.5)
                new = Start(rng.randrange(1 << 16), rng.randrange(1 << 16), entries[k])
                ctx.set(dut.start_context, k)
                ctx.set(dut.again, again)
                ctx.set(dut.token, new.token)
                if again:
                    new = replace(last[k], token=new.token)
                else:
                    ctx.set(dut.entry, new.entry)
                    ctx.set(dut.session_base, new.base)
                last[k] = new
                left[k] -= 1
                idle.remove(k)
                seen.starts.append((k, new))
            ctx.set(dut.logits_hold, rng.random() < hold)
            if ctx.get(dut.done):
                k = ctx.get(dut.done_context)
                seen.ends.append(k)
                assert k not in idle
                idle.add(k)
                if len(seen.ends) == len(programs) * tokens:
                    seen.cycles = around.cycle
                    return
            around.look(ctx)
            await ctx.tick()
            running = ctx.get(dut.running) | (1 << ctx.get(dut.done_context)) * ctx.get(dut.done)
            assert all(running >> k & 1 == (k not in idle) for k in range(len(programs)))
            assert around.cycle < 60_000, "no HALT"

    simulate(dut, bench)
    return seen


def check(programs: Sequence[Sequence[Instruction]], tokens: int, seen: Seen) -> None:
    """Compare what was issued with the instructions: whole passes, each context's in its order."""
    mine = [[start for k, start in seen.starts if k == context] for context in range(len(programs))]
    order = [
        [(inst, start) for start in starts for inst in program[:-1]]
        for program, starts in zip(programs, mine, strict=True)
    ]
    dots, elements = [*seen.dots], [*seen.elements]
    norms, logits, claims = [], [], []
    while elements:
        context = elements[0]["context"]
        inst, start = order[context].pop(0)
        own, elements = elements[: inst.count], elements[inst.count :]
        if inst.source == Source.DOT:
            words, dots = dots[: inst.count * inst.words], dots[inst.count * inst.words :]
            rows = [word for word in words if word["last"]]
            assert [e["at"] for e in own] == [word["at"] + array_latency(GEOMETRY) for word in rows]
            assert [(w["word"], w["first"], w["last"], w["weight"]) for w in words] == [
                (inst.x_src + w & WORD_MASK, int(w == 0), int(w == inst.words - 1),
                 inst.weight + row * inst.words + w & GEOMETRY.weight_depth - 1)
                for row in range(inst.count) for w in range(inst.words)
            ]  # fmt: skip
        else:
            pace = 4 if inst.paced else 1
            assert [e["at"] - own[0]["at"] for e in own] == [pace * slot for slot in range(inst.count)]
        at = {name: getattr(inst, name) + start.base * getattr(inst, "rel_" + name) for name in "abcd"}
        if inst.source == Source.EMBED:
            at["a"] = start.token << inst.stride
        want = {name: int(getattr(inst, name)) for name in (*PASS_FIELDS, "tail")}
        want |= {name: at[name] & GEOMETRY.bank_depth - 1 for name in BASES}
        want |= {"x_dst": inst.x_dst & WORD_MASK, "context": context}
        for slot, element in enumerate(own):
            place = {"first": int(slot == 0), "last": int(slot == inst.count - 1)}
            got = {name: value for name, value in element.items() if name != "at"}
            assert got == want | place | {"a": at["a"] + slot & ADDRESS_MASK}, inst
        norms += [(inst.shift2, inst.norm_table, inst.tail)] * inst.stat
        logits += [(inst.count - 1 & GEOMETRY.bank_depth - 1, inst.tail)] * inst.to_logits
        claims += [inst.count] * (inst.to_x and inst.lane == Lane.NORM)
    assert not dots and not any(order)
    assert (seen.norms, seen.logits, seen.claims) == (norms, logits, claims)
    assert seen.logits_passes == [len(logits)] * 2
    assert sorted(seen.ends) == sorted(tokens * [*range(len(programs))])


def program(rng: random.Random, length: int, statistics: float = 0.0) -> list[Instruction]:
    """Return random instructions; one that follows a statistics pass waits for its results, as for a norm."""
    made = [drawn(rng, statistics) for _ in range(length)]
    for before, after in itertools.pairwise([*made]):
        if before.stat:
            made[made.index(after)] = replace(after, barrier=1)
    return [*made, Instruction(op=Opcode.HALT)]


@pytest.mark.parametrize("seed", range(3))
def test_any_instructions_of_one_context_are_issued_in_the_cycles_of_the_schedule(seed: int) -> None:
    rng = random.Random(seed)
    programs = [program(rng, 40, statistics=0.3)]
    seen = observe(programs, 1, rng, hold=0)
    check(programs, 1, seen)
    image = compile_program(small_program(), GEOMETRY, contexts=1)
    names = tuple(str(i) for i in range(len(programs[0])))
    drawn_image = replace(image, instructions=tuple(programs[0]), names=names)
    assert seen.cycles == schedule(drawn_image, emit=False).unstalled


@pytest.mark.parametrize("seed", range(3))
def test_any_instructions_of_several_contexts_are_issued_whole_and_in_their_order(seed: int) -> None:
    rng = random.Random(seed)
    programs = [program(rng, 40) for _ in range(GEOMETRY.contexts)]
    check(programs, 3, observe(programs, 3, rng, hold=0.2))
