"""Passes over memory rows in the whole engine: random microcode, right behind each other, against NumPy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from ternac.compile.geometry import PRESETS, Geometry, Mem
from ternac.compile.isa import DIGIT_BITS, TOKEN_DIGITS, Instruction, Opcode, RowAddress, Source
from ternac.hdl.engine.core import EngineCore
from ternac.link import CLEAR_BLOCK, CLEAR_WORDS, READ_ROWS
from ternac.program.memory_ops import mask, mem_read, mem_update, winners
from tests.hdl.sim import simulate

NARROW = replace(
    PRESETS["tiny-rows"], name="narrow", columns=2, lanes=8, chain=4, bank_depth=256, weight_depth=512,
    bias_depth=128, embed_depth=256, program_depth=1024, logit_slots=8, x_depth=16, tables=2, norm_tables=1,
    rows=256, list_slots=8,
)  # fmt: skip
THREE = replace(NARROW, name="three", columns=3, lanes=9, chain=3, weight_block_bits=18, list_slots=5)
SOLE = replace(THREE, name="sole", contexts=1, lane_depth=0)
DIGITS = (1 << DIGIT_BITS) - 1


@dataclass
class Reference:
    """Bank, list and rows of an engine with one context at work, a pass after the other."""

    geometry: Geometry
    bank: Any = field(init=False)
    rows: Any = field(init=False)
    digits: Any = field(init=False)

    def __post_init__(self) -> None:
        g = self.geometry
        self.bank = np.zeros((g.columns, g.bank_depth), np.int64)
        self.rows = np.zeros((g.columns, g.rows), np.int64)
        self.digits = np.zeros(16 * g.columns, np.int64)

    def vector(self, at: int, slots: int) -> Any:
        return self.bank[:, at : at + slots]

    def entries(self, word: int, count: int) -> Any:
        start = word * self.geometry.columns
        return self.digits[start : start + count]

    def run(self, i: Instruction, token: int, base: int) -> None:
        c, start = self.geometry.columns, i.d
        if i.op == Opcode.MEM:
            self._rows(i, base)
            return
        if i.source == Source.BANK:
            y = self.vector(i.a + base * i.rel_a, i.count).copy()
        elif i.pre & TOKEN_DIGITS:
            y = np.zeros((c, 1), np.int64)
            y[:2, 0] = token >> 8, token & 255
        else:
            y = self.entries(i.x_src & 15, c * i.count).reshape(-1, c).T
        flat = y.T.reshape(-1)
        if i.mask:
            size = c * i.c
            kept = mask(flat, self.entries(i.x_src & 15, i.count // i.c))
            assert len(flat) == size * (i.count // i.c)
            y = kept.reshape(-1, c).T
        if i.arg:
            groups = flat.reshape(-1, c * i.c)[:, : c * (i.c - 1) + i.tail]
            found = winners(groups.reshape(-1), len(groups))
            self.entries(i.x_dst, len(found))[:] = found
        if i.to_list:
            self.entries(i.x_dst, y.size)[:] = y.T.reshape(-1) & DIGITS
        if i.to_bank:
            self.vector(start, i.count)[:] = y

    def _rows(self, i: Instruction, base: int) -> None:
        at, c = RowAddress.of(i), self.geometry.columns
        first = at.first + (base << at.shift if at.session else 0)
        regions = 1 if at.shared else i.words
        count = regions << at.bits * (1 if at.b is None else 2)
        held = self.rows[:, first : first + (count << at.step)].reshape(c, count, -1)[:, :, : i.count]
        a = self.entries(at.a, i.words)
        b = None if at.b is None else self.entries(at.b, i.words)
        rows = held.transpose(1, 2, 0).reshape(count, -1)
        if i.to_rows:
            e = self.vector(i.a, i.count).T.reshape(-1)
            small = rows.astype(np.int8)
            mem_update(a, b, e, small, at.bits, i.d)
            held[:] = small.reshape(count, i.count, c).transpose(2, 0, 1)
        else:
            total = mem_read(a, b, rows, at.bits, int(at.shared))
            self.vector(i.d, i.count)[:] = np.clip(total, -32768, 32767).reshape(-1, c).T


def _address(g: Geometry, rng: np.random.Generator, *, updates: bool) -> tuple[RowAddress, int, int]:
    """An address that stays within the rows: it, heads and slots."""
    slots = int(rng.integers(1, 5))
    step, two = (slots - 1).bit_length(), bool(rng.integers(0, 2))
    shared = not updates and bool(rng.integers(0, 3) == 0)
    room = g.rows // 2 >> step
    bits = int(rng.integers(1, 4 if not two else 3))
    region = 1 << bits * (2 if two else 1)
    most = min(room // region, g.columns * g.list_slots // 2)
    heads = int(rng.integers(1, min(most, 11) + 1))
    need = (1 if shared else heads) * region << step
    words = -(-heads // g.columns)
    a = int(rng.integers(0, g.list_slots - words + 1))
    b = int(rng.integers(0, g.list_slots - words + 1)) if two else None
    session = bool(rng.integers(0, 2))
    first = int(rng.integers(0, g.rows // 2 - need + 1))
    shift = int(rng.integers(0, 3))
    return RowAddress(
        first=first, bits=bits, step=step, a=a, b=b, shared=shared, session=session, shift=shift
    ), heads, slots  # fmt: skip


def _passes(g: Geometry, rng: np.random.Generator, count: int) -> list[Instruction]:
    """Random passes over banks, list and rows; the lower half of the banks is written, the upper is read."""
    half = g.bank_depth // 2
    found = []

    def copy(slots: int, **fields: Any) -> Instruction:
        at = int(rng.integers(0, g.bank_depth - slots))
        return Instruction(
            source=Source.BANK, a=at, count=slots, tail=g.columns, wide1=1, wide2=1, barrier=1, **fields
        )

    for _ in range(count):
        target = {"to_bank": 1, "d": int(rng.integers(0, half - 40))}
        kind = str(rng.choice(["list", "arg", "from list", "token", "read", "update", "mask"]))
        if kind == "list":
            slots = int(rng.integers(1, g.list_slots + 1))
            both = target if rng.integers(0, 2) else {}
            found.append(copy(slots, to_list=1, x_dst=int(rng.integers(0, g.list_slots - slots + 1)), **both))
        elif kind == "arg":
            groups = int(rng.integers(1, 2 * g.columns + 1))
            words = -(-groups // g.columns)
            one = copy(groups * (size := int(rng.integers(1, 4))), arg=1, c=size)
            tail, at = int(rng.integers(1, g.columns + 1)), int(rng.integers(0, g.list_slots - words + 1))
            found.append(replace(one, tail=tail, x_dst=at))
        elif kind == "from list":
            slots = int(rng.integers(1, g.list_slots + 1))
            at = int(rng.integers(0, g.list_slots - slots + 1))
            one = copy(slots, x_src=at, **target)
            found.append(replace(one, source=Source.ROWS, a=0))
        elif kind == "token":
            one = replace(copy(1, pre=TOKEN_DIGITS, **target), source=Source.ROWS, a=0, tail=2)
            lists = {"to_list": 1, "x_dst": int(rng.integers(0, g.list_slots))} if rng.integers(0, 2) else {}
            found.append(replace(one, **lists))
        elif kind == "mask":
            groups, size = int(rng.integers(1, 2 * g.columns + 1)), int(rng.integers(1, 4))
            words = -(-groups // g.columns)
            # the winners of groups of that size, so that no digit lies beyond its group
            one = copy(groups * size, arg=1, c=size)
            at = int(rng.integers(0, g.list_slots - words + 1))
            found.append(replace(one, x_dst=at))
            found.append(copy(groups * size, mask=1, c=size, x_src=at, **target))
        else:
            address, heads, slots = _address(g, rng, updates=kind == "update")
            fields = {"op": Opcode.MEM, "words": heads, **address.fields()}
            if kind == "update":
                fields |= {"to_rows": 1, "d": int(rng.choice([0, 0, 1, 3, 7, 8, 15]))}
                one = copy(slots, **fields)
                found.append(one)
            else:
                one = copy(slots, **fields, **target)
                found.append(replace(one, source=Source.ROWS, a=0))
    return found


async def _write(
    ctx: SimulatorContext, dut: EngineCore, mem: int, block: int, address: int, word: int
) -> None:
    ctx.set(dut.wr_en, 1)
    ctx.set(dut.wr_mem, mem)
    ctx.set(dut.wr_block, block)
    ctx.set(dut.wr_addr, address)
    ctx.set(dut.wr_data, word)
    await ctx.tick()
    ctx.set(dut.wr_en, 0)


async def _read(ctx: SimulatorContext, dut: EngineCore, block: int, address: int, limit: int = 20) -> int:
    ctx.set(dut.rd_block, block)
    ctx.set(dut.rd_addr, address)
    ctx.set(dut.rd_en, 1)
    await ctx.tick()
    ctx.set(dut.rd_en, 0)
    for _ in range(limit):
        if ctx.get(dut.rd_valid):
            return int(ctx.get(dut.rd_data))
        await ctx.tick()
    raise AssertionError("no answer from the read port")


def _signed(words: Any, bits: int) -> Any:
    return (words + (1 << bits - 1) & (1 << bits) - 1) - (1 << bits - 1)


def _run(g: Geometry, seed: int, passes: int, fault: str = "") -> None:
    rng = np.random.default_rng(seed)
    reference, dut = Reference(g), EngineCore(g)
    code = _passes(g, rng, passes)
    words = [w for one in [*code, Instruction(op=Opcode.HALT, barrier=1)] for w in one.encode()]
    assert len(words) <= g.program_depth
    token, base = int(rng.integers(0, 1 << 16)), int(rng.integers(0, 16))
    context = int(rng.integers(0, g.contexts))

    async def bench(ctx: SimulatorContext) -> None:
        for n, word in enumerate(words):
            await _write(ctx, dut, Mem.PROGRAM, n % 2, n // 2, word)
        for block in range(g.columns):
            for address in range(g.bank_depth):
                value = int(rng.choice([rng.integers(-3, 3), rng.integers(-32768, 32768)]))
                reference.bank[block, address] = value
                await _write(ctx, dut, Mem.BANK, block, address, value & 0xFFFF)
            for address in range(g.rows):
                value = int(rng.choice([-128, 127, rng.integers(-128, 128)]))
                reference.rows[block, address] = value
                await _write(ctx, dut, Mem.ROWS, block, address, value & 0xFF)
        for slots in range(g.list_slots):  # a list holds what it held: begin with known digits
            reference.entries(slots, g.columns)[:] = 0
        ctx.set(dut.token, token)
        ctx.set(dut.session_base, base)
        ctx.set(dut.start_context, context)
        ctx.set(dut.start, 1)
        await ctx.tick()
        ctx.set(dut.start, 0)
        for _ in range(20_000):
            if ctx.get(dut.done):
                break
            await ctx.tick()
        else:
            raise AssertionError("the engine does not finish")
        await ctx.tick()
        for one in code:
            if fault and getattr(one, fault, 0):
                continue
            reference.run(one, token, base)
        for block in range(g.columns):
            bank = [await _read(ctx, dut, block, address) for address in range(g.bank_depth)]
            assert np.array_equal(_signed(np.array(bank), 16), reference.bank[block])
            rows = [await _read(ctx, dut, READ_ROWS + block, address) for address in range(g.rows)]
            assert np.array_equal(_signed(np.array(rows), 8), reference.rows[block])

    simulate(dut, bench)


@pytest.mark.parametrize(
    "geometry",
    [NARROW, pytest.param(THREE, marks=pytest.mark.slow), pytest.param(SOLE, marks=pytest.mark.slow)],
    ids=lambda g: g.name,
)
def test_random_passes_over_rows(geometry: Geometry) -> None:
    _run(geometry, 0, 30)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["to_rows", "arg", "to_list", "mask"])
def test_a_pass_that_the_reference_leaves_out_is_caught(fault: str) -> None:
    with pytest.raises(AssertionError):
        _run(NARROW, 0, 30, fault)


def test_rows_are_cleared_in_all_columns_and_reads_and_starts_wait() -> None:
    g, steps = NARROW, 7
    dut = EngineCore(g)

    async def bench(ctx: SimulatorContext) -> None:
        for block in range(g.columns):
            for address in range(g.rows):
                await _write(ctx, dut, Mem.ROWS, block, address, 1 + address % 255)
        await _write(ctx, dut, Mem.ROWS, CLEAR_BLOCK, 40, steps - 1)
        for _ in range(3):
            await ctx.tick()
        assert ctx.get(dut.busy)
        last = 40 + steps * CLEAR_WORDS
        assert await _read(ctx, dut, READ_ROWS, last - 1, limit=last) == 0
        assert not ctx.get(dut.busy)
        for block in range(g.columns):
            for address in range(30, last + 10):
                want = 0 if 40 <= address < last else 1 + address % 255
                assert await _read(ctx, dut, READ_ROWS + block, address) == want

    simulate(dut, bench)
