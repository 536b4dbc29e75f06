"""The whole engine in Amaranth's simulator: small programs, every surviving value, state and cycle count."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.image import Image
from ternac.compile.isa import LAYOUT, WORDS, Lane, Opcode, Source
from ternac.compile.layout import from_slots, row_values
from ternac.hdl.engine.core import EngineCore
from ternac.hdl.engine.schedule import interleaved, schedule
from ternac.link import READ_ROWS
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.run.numpy_executor import NumpyExecutor

Context = SimulatorContext


async def load(ctx: Context, dut: EngineCore, image: Image) -> None:
    ctx.set(dut.wr_en, 1)
    for mem, words in image.memories.items():
        for block, address in np.argwhere(words):  # the memories, and with them all states, begin as zeros
            ctx.set(dut.wr_mem, int(mem))
            ctx.set(dut.wr_block, int(block))
            ctx.set(dut.wr_addr, int(address))
            ctx.set(dut.wr_data, int(words[block, address]))
            await ctx.tick()
    ctx.set(dut.wr_en, 0)


async def step(ctx: Context, dut: EngineCore, token: int, base: int, emit: int) -> tuple[int, int]:
    """Run one token; returns next token and cycles."""
    ctx.set(dut.token, token)
    ctx.set(dut.session_base, base)
    ctx.set(dut.emit, emit)
    ctx.set(dut.clear, 1)
    await ctx.tick()
    ctx.set(dut.clear, 0)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    for _ in range(5_000):
        if ctx.get(dut.done):
            break
        await ctx.tick()
    else:
        raise AssertionError("the engine does not finish")
    chosen, cycles = ctx.get(dut.next_token), ctx.get(dut.cycles)
    await ctx.tick()
    return chosen, cycles


async def read(ctx: Context, dut: EngineCore, image: Image, address: int, length: int) -> np.ndarray:
    return from_slots(await words_of(ctx, dut, address, image.geometry.slots(length)), length)


async def state_of(ctx: Context, dut: EngineCore, image: Image, name: str, base: int) -> np.ndarray:
    """A state [1, length], or a memory's rows [1, rows, width]."""
    if name in image.states:
        symbol = image.states[name]
        words = await words_of(ctx, dut, symbol.address + base, symbol.slots(image.geometry))
        return from_slots(words, symbol.length, symbol.parts)[None]
    place = image.rows[name]
    start, count = place.address + (base << image.row_shift), place.rows << place.step
    words = await words_of(ctx, dut, start, count, READ_ROWS)
    return row_values(words, place.width, image.geometry, place.step)[None]


async def words_of(ctx: Context, dut: EngineCore, address: int, count: int, memory: int = 0) -> np.ndarray:
    words = np.zeros((dut.geometry.columns, count), np.uint32)
    for block in range(len(words)):
        for slot in range(count):
            ctx.set(dut.rd_block, block | memory)
            ctx.set(dut.rd_addr, address + slot)
            ctx.set(dut.rd_en, 1)
            await ctx.tick()
            ctx.set(dut.rd_en, 0)
            for _ in range(20):
                if ctx.get(dut.rd_valid):
                    break
                await ctx.tick()
            else:
                raise AssertionError("no answer from the read port")
            words[block, slot] = ctx.get(dut.rd_data)
    return words


def run(program: Program, geometry: Geometry, seed: int, tokens: int = 3) -> None:
    """Tokens in random session slots; compare with NumPy after each."""
    image = compile_program(program, geometry, contexts=1)
    dut = EngineCore(geometry)
    rng = np.random.default_rng(seed)
    executor = NumpyExecutor(program)
    states = [executor.open() for _ in range(min(2, image.sessions))]

    async def bench(ctx: Context) -> None:
        ctx.set(dut.greedy, 1)
        await load(ctx, dut, image)
        for _ in range(tokens):
            slot, token = int(rng.integers(len(states))), int(rng.integers(program.vocab))
            emit = int(rng.integers(2))
            trace: dict[str, np.ndarray] = {}
            logits = executor.step(states[slot], np.array([token]), trace=trace)[0]
            base = image.session_base(slot)
            chosen, cycles = await step(ctx, dut, token, base, emit)
            for name, symbol in image.symbols.items():
                got = await read(ctx, dut, image, symbol.address, symbol.length)
                assert np.array_equal(got, trace[name][0]), name
            for name, words in executor.state_dict(states[slot]).items():
                assert np.array_equal(await state_of(ctx, dut, image, name, base), words), name
            assert not emit or chosen == int(np.argmax(logits))
            assert cycles == schedule(image, emit=bool(emit)).cycles

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


SMALL = replace(
    PRESETS["tiny"], name="small", columns=2, lanes=4, chain=2, bank_depth=256, weight_depth=512,
    bias_depth=128, embed_depth=256, program_depth=512, logit_slots=8, x_depth=16, tables=2, norm_tables=1,
)  # fmt: skip
WIDE = replace(SMALL, name="wide", columns=3, lanes=9, chain=3, weight_block_bits=18, x_depth=8)


FOLDED = replace(SMALL, name="folded", columns=3, lanes=18, chain=3, fold=2, radix=3, weight_ram="paired",
                 weight_block_bits=18)  # fmt: skip
CODED = replace(WIDE, name="coded", weight_code="five")
CODED_PAIRS = replace(FOLDED, name="coded pairs", weight_code="five")
PLAIN = replace(SMALL, name="plain", contexts=1, lane_depth=0)
SHARED = replace(PLAIN, name="shared", columns=4, lanes=4, share=2, embed_block_bits=16, logit_slots=4)


CODED_SHARED = replace(SHARED, name="coded shared", weight_code="five")


@pytest.mark.parametrize(
    "geometry",
    [SMALL, WIDE, FOLDED, CODED, CODED_PAIRS, PLAIN, SHARED, CODED_SHARED],
    ids=[
        "2x4", "3x9", "3x18 folded", "3x9 coded", "3x18 coded", "2x4 without lane", "4x4 by 2",
        "4x4 by 2 coded",
    ],
)  # fmt: skip
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_random_programs(geometry: Geometry, seed: int) -> None:
    rng = np.random.default_rng(seed)
    d, m, vocab = (int(rng.integers(3, 10)) for _ in range(3))
    run(random_program(rng, d, m, 1, vocab), geometry, seed)


@pytest.mark.parametrize("geometry", [SMALL, WIDE], ids=["2x4", "3x9"])
def test_side_lane_takes_the_gate(geometry: Geometry) -> None:
    """Vectors long enough for the product of state and gate to stay in the lane."""
    geometry = replace(geometry, bank_depth=512, embed_depth=512, weight_depth=1024, x_depth=32)
    program = random_program(np.random.default_rng(5), 24, 20, 1, 6)
    image = compile_program(program, geometry, contexts=1)
    assert any(inst.lane == Lane.SIDE for inst in image.instructions)
    run(program, geometry, 5, tokens=2)


def run_contexts(
    program: Program, geometry: Geometry, contexts: int, tokens: int, stagger: int, turnaround: int = 0,
    image: Image | None = None,
) -> None:  # fmt: skip
    """Sessions that take turns, each fed what it chose; tokens, states and total cycles."""
    image = image or compile_program(program, geometry, contexts=contexts)
    dut = EngineCore(geometry)
    executor = NumpyExecutor(program)
    states = [executor.open() for _ in range(contexts)]
    chosen: list[list[int]] = [[k % program.vocab] for k in range(contexts)]
    expected: list[list[int]] = [[k % program.vocab] for k in range(contexts)]
    for state, line in zip(states, expected, strict=True):
        for _ in range(tokens):
            line.append(int(np.argmax(executor.step(state, np.array(line[-1:]))[0])))

    async def bench(ctx: Context) -> None:
        ctx.set(dut.greedy, 1)
        ctx.set(dut.emit, 1)
        await load(ctx, dut, image)
        ctx.set(dut.clear, 1)
        await ctx.tick()
        ctx.set(dut.clear, 0)

        def start(context: int, again: int) -> None:
            ctx.set(dut.start_context, context)
            ctx.set(dut.again, again)
            ctx.set(dut.entry, image.entries[context])
            ctx.set(dut.session_base, image.session_base(context))
            ctx.set(dut.token, chosen[context][-1])
            ctx.set(dut.start, 1)

        later: dict[int, int] = {}
        for cycle in range(20_000):
            if cycle % stagger == 0 and cycle // stagger < contexts:
                start(cycle // stagger, 0)
            if cycle in later:
                start(later[cycle], 1)
            if ctx.get(dut.done):
                context = ctx.get(dut.done_context)
                chosen[context].append(ctx.get(dut.next_token))
                if len(chosen[context]) <= tokens and turnaround:
                    later[cycle + turnaround] = context
                elif len(chosen[context]) <= tokens:
                    start(context, 1)
                elif all(len(line) > tokens for line in chosen):
                    break
            await ctx.tick()
            ctx.set(dut.start, 0)
        cycles = ctx.get(dut.cycles)
        assert chosen == expected, (chosen, expected)
        await ctx.tick()
        assert not ctx.get(dut.busy)
        for k, state in enumerate(states):
            for name, words in executor.state_dict(state).items():
                got = await state_of(ctx, dut, image, name, image.session_base(k))
                assert np.array_equal(got, words), (k, name)
        assert cycles == interleaved(image, contexts, tokens, stagger=stagger, turnaround=turnaround)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


MANY = replace(SMALL, name="many", contexts=4, x_depth=128, bank_depth=512, embed_depth=512,
               weight_depth=1024, program_depth=2048)  # fmt: skip


@pytest.mark.parametrize(
    ("contexts", "d", "m", "stagger"), [(1, 7, 5, 3), (2, 24, 20, 9), (3, 5, 9, 30), (4, 28, 30, 11)]
)
def test_contexts_take_turns(contexts: int, d: int, m: int, stagger: int) -> None:
    program = random_program(np.random.default_rng(contexts), d, m, 1, 8)
    run_contexts(program, MANY, contexts, 3, stagger)


@pytest.mark.parametrize(
    ("contexts", "turnaround"),
    [
        (1, 1),
        (1, 5),
        (2, 2),
        (3, 1),
        *(pytest.param(*p, marks=pytest.mark.slow) for p in ((1, 2), (2, 1), (2, 5), (3, 2), (3, 5))),
    ],
)
def test_a_start_that_comes_later(contexts: int, turnaround: int) -> None:
    """Cycles in which no context is open are not counted: with one context, those between its tokens."""
    program = random_program(np.random.default_rng(contexts), 5, 9, 1, 8)
    run_contexts(program, MANY, contexts, 3, 7, turnaround)


def handing_on(image: Image) -> Image:
    """``image`` with the turn handed on before every bank pass, which the compiler does not do."""
    words = image.memories[Mem.PROGRAM].copy()
    word, bit, _ = LAYOUT["switch"]
    instructions = list(image.instructions)
    for i, following in enumerate(instructions[1:]):
        if following.op == Opcode.VEC and following.source == Source.BANK:
            instructions[i] = replace(instructions[i], switch=1)
            for entry in image.entries:
                at = entry + i * WORDS + word
                words[at % 2, at // 2] |= 1 << bit
    return replace(image, instructions=tuple(instructions), memories={**image.memories, Mem.PROGRAM: words})


@pytest.mark.parametrize("stagger", [3, 7, 16, 25])
@pytest.mark.parametrize("handed_on", [False, True], ids=["own pass before", "another's before"])
def test_a_bank_pass_beside_another_context(stagger: int, handed_on: bool) -> None:
    """Vectors too short for the side lane's product: a pass reads the port on which another context's pass,
    begun a little earlier, would still read its operand B if the sequencer did not wait.
    """
    program = random_program(np.random.default_rng(2), 5, 9, 1, 8)
    image = compile_program(program, MANY, contexts=2)
    assert any(inst.source == Source.BANK for inst in image.instructions)
    run_contexts(program, MANY, 2, 1, stagger, image=handing_on(image) if handed_on else image)


def test_contexts_take_turns_with_five_trits_a_byte() -> None:
    program = random_program(np.random.default_rng(7), 24, 20, 1, 8)
    run_contexts(program, replace(MANY, weight_code="five"), 3, 3, 10)
