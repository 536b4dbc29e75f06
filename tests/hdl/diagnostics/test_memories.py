"""Memory tests in hardware against their models, on good memories and on memories with planted faults."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, MutableSequence
from dataclasses import replace
from typing import Any

import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal

from ternac.compile.sdram import BURST, ULX3S_CHIP
from ternac.hdl.diagnostics.error_log import ErrorLog
from ternac.hdl.diagnostics.march import Errors, MarchElement
from ternac.hdl.diagnostics.patterns import Pattern, PatternSource, pattern_words
from ternac.hdl.diagnostics.ram_test import RamArray, RamShape, RamTest
from ternac.hdl.diagnostics.sdram_test import SdramTest
from ternac.sim.sdram_model import SdramModel
from tests.hdl.sdram.sdram_bench import simulate_with_sdram
from tests.hdl.sim import simulate

SHAPES = [
    RamShape(name="block RAM", bits=18, depth=16, banks=3),
    RamShape(name="single-port RAM", bits=16, depth=32, banks=2, storage="spram"),
]
CHIP = replace(ULX3S_CHIP, power_up=3_000)
CLOCK_HZ = 60_000_000


def random_element(rng: random.Random, words: int) -> MarchElement:
    """Any order, patterns and range within ``words`` words."""

    def which() -> tuple[Pattern, bool] | None:
        return (rng.choice(list(Pattern)), rng.random() < 0.5) if rng.random() < 0.8 else None

    count, down = rng.randrange(1, words + 1), rng.random() < 0.5
    first = rng.randrange(words - count + 1)
    return MarchElement(
        check=which(), write=which(), seed=rng.randrange(1, 1 << 32), count=count, down=down,
        first=first + count - 1 if down else first,
    )  # fmt: skip


def code(which: tuple[Pattern, bool] | None) -> int:
    return 0 if which is None else 1 | which[0] << 1 | which[1] << 4


async def run_element(ctx: Any, dut: Any, element: MarchElement, **more: int) -> Errors:
    settings = {
        "check": code(element.check), "write": code(element.write), "seed": element.seed,
        "first": element.first, "count": element.count, **more,
    }  # fmt: skip
    for name, value in settings.items():
        ctx.set(getattr(dut, name), value)
    ctx.set(dut.start, 1)
    await ctx.tick()
    ctx.set(dut.start, 0)
    await ctx.tick().until(~dut.busy)
    names = ("errors", "first_address", "first_expected", "first_found", "mask")
    return Errors(*(ctx.get(getattr(dut, name)) for name in names))


@pytest.mark.parametrize("bits", [16, 18])
def test_patterns_are_their_models(bits: int) -> None:
    rng = random.Random(bits)
    dut = PatternSource(bits, 20)

    async def bench(ctx: Any) -> None:
        for kind in [*Pattern, *Pattern]:
            seed, first, down, invert = (
                rng.randrange(1, 1 << 32),
                rng.randrange(1 << 20),
                *rng.choices((0, 1), k=2),
            )
            for name, value in (
                ("kind", kind),
                ("seed", seed),
                ("first", first),
                ("down", down),
                ("invert", invert),
            ):
                ctx.set(getattr(dut, name), value)
            ctx.set(dut.load, 1)
            await ctx.tick()
            ctx.set(dut.load, 0)
            want = dut.model(kind, first, 40, seed=seed, down=down, invert=invert)
            for word in want:
                assert ctx.get(dut.word) == word, kind
                ctx.set(dut.step, 1)
                await ctx.tick()
                ctx.set(dut.step, 0)
                for _ in range(rng.randrange(2)):
                    await ctx.tick()

    simulate(dut, bench)


def test_patterns_tell_addresses_apart() -> None:
    """Low and high part together are the address; walking visits every bit; the seeds of random differ."""
    low = pattern_words(Pattern.ADDRESS, 16, 24, 0, 1 << 18)
    high = pattern_words(Pattern.HIGH, 16, 24, 0, 1 << 18)
    assert len({*zip(low.tolist(), high.tolist(), strict=True)}) == 1 << 18
    walking = pattern_words(Pattern.WALKING, 18, 24, 5, 18, seed=4)
    assert sorted(walking.tolist()) == [1 << i for i in range(18)]
    one, other = (pattern_words(Pattern.RANDOM, 16, 24, 0, 999, seed=seed) for seed in (1, 2))
    assert (one != other).mean() > 0.9
    with pytest.raises(ValueError, match="2 to 32 bits"):
        PatternSource(33, 4)


def test_log_is_its_model() -> None:
    rng = random.Random(1)
    dut = ErrorLog(16, 8)

    async def bench(ctx: Any) -> None:
        for share in (0.0, 0.02, 0.5):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            compared = []
            for _ in range(300):
                word = rng.randrange(1 << 16)
                entry = rng.randrange(256), word, word ^ (1 << rng.randrange(16)) * (rng.random() < share)
                valid = rng.random() < 0.7
                for name, value in zip(
                    ("address", "expected", "found", "valid"), (*entry, valid), strict=True
                ):
                    ctx.set(getattr(dut, name), value)
                compared += [entry] * valid
                await ctx.tick()
            ctx.set(dut.valid, 0)
            await ctx.tick().repeat(3)
            names = ("count", "first_address", "first_expected", "first_found", "mask")
            assert Errors(*(ctx.get(getattr(dut, name)) for name in names)) == dut.model(compared)

    simulate(dut, bench)


def test_memories_are_tested_as_the_model_says() -> None:
    """Random elements on two memories of different widths; what is compared with another pattern than was
    written is counted, and the first such word named.
    """
    rng = random.Random(2)
    dut = RamTest(SHAPES)
    words = [[0] * shape.words for shape in SHAPES]
    wrong = 0

    async def bench(ctx: Any) -> None:
        nonlocal wrong
        for _ in range(60):
            memory = rng.randrange(2)
            element = random_element(rng, SHAPES[memory].words)
            got = await run_element(ctx, dut, element, memory=memory, down=element.down)
            want = dut.model(memory, words[memory], element)
            assert got == want, element
            wrong += want.count

    simulate(dut, bench)
    assert wrong > 100


class Faulty(MutableSequence[int]):
    """Words of a memory in which ``spoil(address, word)`` is what a write stores where."""

    def __init__(self, words: int, spoil: Callable[[int, int], tuple[int, int]]) -> None:
        self.words, self.spoil = [0] * words, spoil

    def __getitem__(self, at: Any) -> Any:
        return self.words[at]

    def __setitem__(self, at: Any, word: Any) -> None:
        where, what = self.spoil(at, word)
        self.words[where] = what

    def __delitem__(self, at: Any) -> None:
        raise NotImplementedError

    def insert(self, index: int, value: int) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self.words)


class SpoiltArray(Elaboratable):
    """A `RamArray` with a stuck bit, or with two address lines swapped on the way in."""

    def __init__(self, shape: RamShape, fault: str) -> None:
        self.inner, self.fault = inner, _ = RamArray(shape), fault
        self.rd_addr, self.rd_data, self.wr_en = inner.rd_addr, inner.rd_data, inner.wr_en
        self.wr_addr, self.wr_data = Signal.like(inner.wr_addr), Signal.like(inner.wr_data)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = self.inner
        at = self.wr_addr
        m.d.comb += [inner.wr_addr.eq(at), inner.wr_data.eq(self.wr_data)]
        if self.fault == "stuck":
            m.d.comb += inner.wr_data.eq(self.wr_data | (at == 21) << 3)
        else:
            m.d.comb += inner.wr_addr.eq(Cat(at[1], at[0], at[2:]))
        return m


@pytest.mark.parametrize("fault", ["stuck", "swapped"])
def test_a_planted_fault_is_found_by_the_hardware_as_by_the_model(fault: str) -> None:
    shape = SHAPES[0]

    def spoil(address: int, word: int) -> tuple[int, int]:
        if fault == "stuck":
            return address, word | (8 if address == 21 else 0)
        return address & ~3 | (address & 1) << 1 | (address & 2) >> 1, word

    dut, words = RamTest([shape]), Faulty(shape.words, spoil)
    dut.arrays[0] = SpoiltArray(shape, fault)  # type: ignore[call-overload]
    found = []

    async def bench(ctx: Any) -> None:
        for kind in Pattern:
            for element in (
                MarchElement(write=(kind, False), seed=1, count=shape.words),
                MarchElement(check=(kind, False), seed=1, count=shape.words),
            ):
                got = await run_element(ctx, dut, element)
                assert got == dut.model(0, words, element), element
            found.append(got)

    simulate(dut, bench)
    assert any(errors.count for errors in found)
    if fault == "stuck":
        assert {(e.address, e.mask) for e in found if e.count} == {(21, 8)}
    else:
        assert found[Pattern.ADDRESS].address == 1 and found[Pattern.ADDRESS].found == 2
        assert found[Pattern.CONSTANT].count == 0  # the same word everywhere tells no address apart


def sdram_elements(rng: random.Random) -> Iterator[MarchElement]:
    for kind in Pattern:
        invert, seed = rng.random() < 0.5, rng.randrange(1, 1 << 32)
        count = BURST * rng.randrange(1, 12)
        first = rng.choice([0, 64 * BURST - BURST, (1 << CHIP.word_bits) - count, 256 * 2048 - BURST])
        yield MarchElement(write=(kind, invert), seed=seed, first=first, count=count)
        yield MarchElement(check=(kind, invert), seed=seed, first=first, count=count)


def test_sdram_is_tested_as_the_model_says() -> None:
    """Elements over row and bank ends and the last word; a compare with what was not written counts each
    word.
    """
    rng = random.Random(3)
    dut = SdramTest(CHIP, CLOCK_HZ)
    words: dict[int, int] = {}

    async def bench(ctx: Any) -> None:
        elements = list(sdram_elements(rng))
        elements.append(replace(elements[-1], check=(Pattern.ADDRESS, True)))
        for element in elements:
            got = await run_element(ctx, dut, element)
            whole = _Sparse(words)
            assert got == dut.model(whole, element), element
        assert got.count > 0
        ctx.set(dut.reset, 1)  # and once more after the chip was initialised again
        await ctx.tick()
        ctx.set(dut.reset, 0)
        await ctx.tick()
        assert not ctx.get(dut.ready)
        assert (await run_element(ctx, dut, elements[0])).count == 0
        assert (await run_element(ctx, dut, elements[1])).count == 0

    simulate_with_sdram(dut, dut.pins, CHIP, CLOCK_HZ, bench)


class _Sparse(MutableSequence[int]):
    """Words by address, 0 where none was written."""

    def __init__(self, words: dict[int, int]) -> None:
        self.words = words

    def __getitem__(self, at: Any) -> Any:
        return self.words.get(at, 0)

    def __setitem__(self, at: Any, word: Any) -> None:
        self.words[at] = word

    def __delitem__(self, at: Any) -> None:
        raise NotImplementedError

    def insert(self, index: int, value: int) -> None:
        raise NotImplementedError

    def __len__(self) -> int:
        return 1 << CHIP.word_bits


class SpoiltChip(SdramModel):
    """A chip with a fault between its pins and its words."""

    fault = ""

    def clock(self, **pins: Any) -> int | None:
        if self.fault == "swapped address line":
            a = pins["a"]
            pins["a"] = a & ~0b110 | (a & 2) << 1 | (a & 4) >> 1 if not a >> 9 else a
        word = super().clock(**pins)
        if word is None:
            return None
        if self.fault == "stuck bit":
            return word | 1 << 5
        if self.fault == "late data":
            self.before, word = word, getattr(self, "before", 0)
        return word


@pytest.mark.parametrize("fault", ["", "stuck bit", "swapped address line", "late data"])
def test_a_spoilt_chip_is_found(fault: str) -> None:
    dut = SdramTest(CHIP, CLOCK_HZ)
    model = SpoiltChip(CHIP, 1e9 / CLOCK_HZ)
    found: dict[Pattern, Errors] = {}

    async def bench(ctx: Any) -> None:
        await ctx.tick().until(dut.ready)
        model.fault = fault
        for kind in Pattern:
            element = MarchElement(write=(kind, False), seed=0x10001, count=16 * BURST)
            await run_element(ctx, dut, element)
            found[kind] = await run_element(ctx, dut, replace(element, write=None, check=(kind, False)))

    simulate_with_sdram(dut, dut.pins, CHIP, CLOCK_HZ, bench, model)
    wrong = {kind: errors for kind, errors in found.items() if errors.count}
    if not fault:
        assert not wrong
    elif fault == "stuck bit":
        assert {errors.mask for errors in wrong.values()} == {1 << 5}
    elif fault == "late data":
        assert found[Pattern.ADDRESS].count == 16 * BURST  # each word is the one before it
    else:  # the chip itself swaps writes and reads alike, but a burst begins elsewhere
        assert wrong


def test_an_element_without_patterns_does_nothing() -> None:
    memory = [1, 2, 3]
    assert MarchElement(count=3).run(memory, 16, 2) == Errors()
    assert memory == [1, 2, 3]
