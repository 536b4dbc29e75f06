"""The sequencer alone: order and spacing of what it issues, against schedule and image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.isa import Lane, Opcode, Source
from ternac.hdl.array.dot import array_latency
from ternac.hdl.engine.issue import IN_LANE_BITS, LaneArbiter, most_in_lane
from ternac.hdl.engine.norm import norm_latency
from ternac.hdl.engine.pass_control import RESULT_OFFSET
from ternac.hdl.engine.ports import BASES, PASS_FIELDS, STREAM_GAP
from ternac.hdl.engine.schedule import schedule
from ternac.hdl.engine.sequencer import Sequencer
from ternac.hdl.engine.side_lane import x_ready
from ternac.program.random import random_program

KEPT = (*PASS_FIELDS, *BASES)


def observe(image: Image, token: int, base: int) -> tuple[list[dict[str, int]], list[dict[str, int]], int]:
    """Everything issued for one token: dot words, elements, and the cycle of ``done``."""
    g = image.geometry
    dut = Sequencer(g, dot_delay=array_latency(g))
    latency = norm_latency(g.pipelines)
    dots: list[dict[str, int]] = []
    elems: list[dict[str, int]] = []
    finished = 0

    async def bench(ctx: SimulatorContext) -> None:
        nonlocal finished
        ctx.set(dut.wr_en, 1)
        for block, words in enumerate(image.memories[Mem.PROGRAM]):
            for address, word in enumerate(words):
                ctx.set(dut.wr_block, block)
                ctx.set(dut.wr_addr, address)
                ctx.set(dut.wr_data, int(word))
                await ctx.tick()
        ctx.set(dut.wr_en, 0)
        ctx.set(dut.token, token)
        ctx.set(dut.session_base, base)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        norm_at, count = -1, 0
        retire: dict[int, int] = {}
        lane_retire: set[int] = set()
        ctx.set(dut.room, g.lane_depth)
        if g.streams:
            ctx.set(dut.dot_ready, 1)
        for cycle in range(1, 1_000_000):
            ctx.set(dut.norm_done, cycle == norm_at)
            if ctx.get(dut.norm_start):
                norm_at = cycle + latency
            ctx.set(dut.retire, cycle in retire)
            ctx.set(dut.retire_index, retire.get(cycle, 0))
            ctx.set(dut.lane_retire, cycle in lane_retire)
            dot, elem = ctx.get(dut.dot), ctx.get(dut.elem)
            if dot.valid:
                dots.append(
                    {
                        "at": cycle,
                        **{n: int(getattr(dot, n)) for n in ("first", "last", "weight", "word")},
                    }
                )
            if elem.valid:
                turn = int(elem.turn) if g.share > 1 else 0
                own = ctx.get(dut.passes)[elem.index]
                count = count + 1 if not elem.first else 1
                seen = {n: int(getattr(elem, n)) for n in ("first", "last", "a")}
                elems.append({"at": cycle, "turn": turn, **seen, **{n: int(getattr(own, n)) for n in KEPT}})
                if elem.last and turn == g.share - 1:
                    retire[cycle + RESULT_OFFSET - 2] = elem.index
                    if g.lane_depth and own.to_x:
                        stream = STREAM_GAP + count - 1 if own.lane == Lane.NORM else 0
                        lane_retire.add(cycle + RESULT_OFFSET + stream + x_ready(g) - 2)
            if ctx.get(dut.done):
                finished = cycle
                return
            await ctx.tick()
        raise AssertionError("no HALT")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return dots, elems, finished


@pytest.mark.parametrize("geometry", [*PRESETS.values()], ids=lambda g: g.name)
@pytest.mark.parametrize("seed", range(3))
def test_every_pass_is_issued_whole_in_order_and_on_time(geometry: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng, layers=1 + seed % 2)
    image = compile_program(program, geometry, contexts=1)
    token, base = int(rng.integers(program.vocab)), image.session_base(image.sessions - 1)
    dots, elems, finished = observe(image, token, base)
    plan = schedule(image, emit=False)
    assert finished == plan.unstalled
    assert plan.exact or plan.stream > plan.unstalled
    bank = (1 << (geometry.bank_depth - 1).bit_length()) - 1
    for inst, time in zip(image.instructions, plan.passes, strict=True):
        if inst.op == Opcode.HALT:
            break
        if inst.source == Source.DOT:
            mine, dots = dots[: inst.count * inst.words], dots[inst.count * inst.words :]
            assert [d["at"] for d in mine] == list(range(time.start + 1, time.start + 1 + len(mine)))
            assert [d["weight"] for d in mine] == list(range(inst.weight, inst.weight + len(mine)))
            assert [(d["word"], d["first"], d["last"]) for d in mine] == [
                (inst.x_src + w, int(w == 0), int(w == inst.words - 1))
                for _ in range(inst.count)
                for w in range(inst.words)
            ]
            last_words = [d["at"] for d in mine if d["last"]]
        share = geometry.share
        own, elems = elems[: inst.count * share], elems[inst.count * share :]
        if inst.source == Source.DOT:
            delay = array_latency(geometry)
            assert [e["at"] for e in own] == [t + delay + turn for t in last_words for turn in range(share)]
        start = {n: getattr(inst, n) + base * getattr(inst, "rel_" + n) for n in "abcd"}
        if inst.source == Source.EMBED:
            start["a"] = token << inst.stride
        for i, e in enumerate(own):
            slot, turn = divmod(i, share)
            assert (e["turn"], e["first"], e["last"]) == (turn, int(i == 0), int(slot == inst.count - 1))
            assert e["a"] == start["a"] + slot
            assert all(e[n] == start[n] & bank for n in BASES)
            assert all(e[n] == int(getattr(inst, n)) for n in PASS_FIELDS)
    assert not dots and not elems


def test_bad_parameters() -> None:
    with pytest.raises(ValueError, match="dot_delay must be at least 3, not 2"):
        Sequencer(PRESETS["tiny"], dot_delay=2)


def test_an_engine_that_could_not_count_its_passes_in_the_side_lane_is_refused() -> None:
    for g in PRESETS.values():
        if g.lane_depth:
            assert most_in_lane(g, dot_delay=array_latency(g)) < 1 << IN_LANE_BITS
            LaneArbiter(g, dot_delay=array_latency(g))
    tiny = PRESETS["tiny"]
    with pytest.raises(
        ValueError, match="8 passes can be in the lane with a delay of 21 cycles, 7 are counted"
    ):
        LaneArbiter(tiny, dot_delay=21)
    with pytest.raises(ValueError, match="128 slots of the lane hold 8 vectors, 4 may wait"):
        LaneArbiter(replace(tiny, lane_depth=128), dot_delay=6)
