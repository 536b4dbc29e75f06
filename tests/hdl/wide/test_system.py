"""A whole engine with sampler and sessions, driven as the link's controller drives it: NumPy's tokens."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ternac.compile.geometry import Mem
from ternac.compile.wide_board import WideBoardImage, WideGeometry, compile_wide, geometry_for
from ternac.errors import DoesNotFit
from ternac.hdl.wide.system import WideSystem, engine_of
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from tests.hdl.axi_bus import MemoryBus
from tests.hdl.sim import simulate

TOP = Sampling(False, 255, 12, 3)


@dataclass
class Bench:
    """Drives a system on a memory; ``wrong``: a byte of a row of the embedding with a bit changed."""

    image: WideBoardImage
    wrong: int | None = None
    found: list[Any] = field(default_factory=list)

    def run(self, steps: Sequence[tuple[int, int, Sampling, int]], state: np.ndarray) -> None:
        """Write ``state`` into slot 0 and zeros into slot 1, run steps, read the states of both."""
        geometry, image = self.image.geometry, self.image
        assert isinstance(geometry, WideGeometry) and image.external is not None
        unit = WideSystem(geometry, engine=engine_of(geometry, digits=4))
        content = image.external.image.copy()
        if self.wrong is not None:
            content[image.external.rows + self.wrong] ^= 0x20
        bus = MemoryBus(unit, content, random.Random(1), latency=(5, 30), pauses=0.1)

        async def tick(ctx: Any, count: int = 1) -> None:
            for _ in range(count):
                bus.drive(ctx)
                await ctx.tick()

        async def write(ctx: Any, mem: Mem, block: int, address: int, word: int) -> None:
            for name, value in (("mem", mem), ("block", block), ("addr", address), ("data", word), ("en", 1)):
                ctx.set(getattr(unit, f"wr_{name}"), int(value))
            await tick(ctx)
            ctx.set(unit.wr_en, 0)

        async def read(ctx: Any, block: int, address: int) -> int:
            for name, value in (("block", block), ("addr", address), ("en", 1)):
                ctx.set(getattr(unit, f"rd_{name}"), value)
            await tick(ctx)
            ctx.set(unit.rd_en, 0)
            while not ctx.get(unit.rd_valid):
                await tick(ctx)
            return int(ctx.get(unit.rd_data))

        async def vector(ctx: Any, address: int, length: int) -> np.ndarray:
            lanes = geometry.columns
            words = [await read(ctx, e % lanes, address + e // lanes) for e in range(length)]
            return np.array(words, np.uint16).view(np.int16)

        async def bench(ctx: Any) -> None:
            for again in (False, True):  # a load while the engine reads ahead, too
                for mem, (words,) in image.memories.items():
                    for address, word in enumerate(words):
                        await write(ctx, mem, 0, address, int(word) ^ (not again and mem == Mem.PROGRAM))
            words = np.zeros(2 * image.state_slots * geometry.columns, np.int16)
            for name, part in image.code.image.program.state_slices().items():  # type: ignore[union-attr]
                at = image.states[name].address * geometry.columns
                words[at : at + part.stop - part.start] = state[part]
            for at, word in enumerate(words):
                place, lane = divmod(at, geometry.columns)
                await write(ctx, Mem.BANK, lane, place, int(word) & 0xFFFF)
            for slot, token, rule, rng in steps:
                for name, value in (
                    ("token", token), ("session_base", image.session_base(slot)), ("emit", 1),
                    ("rng_in", rng),
                    ("greedy", rule.greedy), ("inv_m", rule.m), ("inv_s", rule.s), ("top_k", rule.top_k),
                    ("start", 1),
                ):  # fmt: skip
                    ctx.set(getattr(unit, name), value)
                await tick(ctx)
                ctx.set(unit.start, 0)
                for _ in range(20_000):
                    if ctx.get(unit.done):
                        break
                    await tick(ctx)
                self.found.append((ctx.get(unit.next_token), ctx.get(unit.rng_out)))
                await tick(ctx)
            self.found.append(await vector(ctx, image.logits.address, image.logits.length))
            for slot in (0, 1):
                states = [
                    await vector(ctx, image.states[name].address + image.session_base(slot), length)
                    for name, length in image.code.image.program.states.items()  # type: ignore[union-attr]
                ]
                self.found.append(np.concatenate(states))
            assert ctx.get(unit.fault) == 0

        simulate(unit, bench)


def expected(
    program: Program, steps: Sequence[tuple[int, int, Sampling, int]], state: np.ndarray
) -> Iterator[Any]:
    numpy = NumpyExecutor(program)
    states = [state[None].copy(), numpy.open()]
    for slot, token, rule, rng in steps:
        logits = numpy.step(states[slot], [token])[0]
        yield choose(logits, rule, rng)
    yield logits
    yield from (each[0] for each in states)


@pytest.fixture(scope="module")
def program() -> Program:
    return random_mmfree(np.random.default_rng(4), d=6, m=7, layers=1, vocab=5, per_token=True)


@pytest.fixture(scope="module")
def image(program: Program) -> WideBoardImage:
    return compile_wide(program, geometry_for(program, lanes=4, port_bits=32))


def differences(bench: Bench, program: Program, steps: Sequence[tuple[int, int, Sampling, int]]) -> int:
    state = np.random.default_rng(8).integers(-3000, 3000, program.state_words).astype(np.int16)
    bench.run(steps, state)
    wanted = list(expected(program, steps, state))
    assert len(wanted) == len(bench.found)
    return sum(not np.array_equal(a, b) for a, b in zip(wanted, bench.found, strict=True))


def test_two_sessions_choose_the_tokens_of_numpy(program: Program, image: WideBoardImage) -> None:
    """After a second load; in turn; the generator is the one that is given."""
    steps = [
        (slot, token, rule, seed_state(i))
        for i, (slot, token, rule) in enumerate([(0, 1, TOP), (1, 3, GREEDY), (0, 2, TOP)])
    ]
    assert differences(Bench(image), program, steps) == 0


def test_a_wrong_row_is_found(program: Program, image: WideBoardImage) -> None:
    assert image.external is not None
    bench = Bench(image, wrong=3 * image.external.row_bytes + 1)
    assert differences(bench, program, [(1, 3, GREEDY, 1)]) >= 2  # logits and a state


def test_a_program_that_is_too_large_is_refused(image: WideBoardImage) -> None:
    larger = random_mmfree(np.random.default_rng(4), d=6, m=7, layers=1, vocab=300, per_token=True)
    assert isinstance(image.geometry, WideGeometry)
    with pytest.raises(DoesNotFit, match="needs 300 logits, axi-wide-32x4 has 64"):
        compile_wide(larger, image.geometry)
