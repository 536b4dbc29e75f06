"""Whole tokens through the RTL of the wide unit's parts, the instructions handed out by a bench.

The bench stands for the sequencer and the array: it gives issues, inverses and rows to the components, takes
sums from NumPy, and waits for each instruction before it gives the next.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from amaranth.hdl import Module

from ternac.compile.wide import (
    LOGITS,
    Gain,
    Group,
    Inverse,
    Issue,
    Matrix,
    Number,
    Row,
    Scalar,
    Vector,
    WideImage,
    lower,
)
from ternac.hdl.wide.inverse import InverseUnit
from ternac.hdl.wide.rescale import RescaleUnit
from ternac.hdl.wide.vector import Factor, VectorUnit
from ternac.program.file import load
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from tests.hdl.sim import simulate

VECTORS = Path(__file__).parents[2] / "vectors"
LANES = 4


class Datapath:
    """The components, the scalars and activations that a sequencer would hold, and what came out."""

    def __init__(self, image: WideImage) -> None:
        self.image = image
        self.unit = VectorUnit(LANES, max(2, image.vectors // LANES))
        self.inverse, self.rescale = InverseUnit(), RescaleUnit(digits=4)
        self.module = Module()
        self.module.submodules.unit = self.unit
        self.module.submodules.inverse, self.module.submodules.rescale = self.inverse, self.rescale
        self.consts = {name: np.asarray(x, np.int64) for name, x in image.program.consts.items()}
        self.activations = np.zeros(image.activations, np.int64)
        self.values, self.inverses = [0] * image.scalars, [0] * image.scalars
        self.vectors = np.zeros(self.unit.depth * LANES, np.int64)  # a copy of what is written
        self.logits: list[int] = []
        self.wrong: tuple[int, int] | None = None
        self.cycles = 0
        self._slots: list[str] = []
        self._pending: list[tuple[Issue, bool]] = []
        self._gains: list[list[int]] = []
        self._results: list[int] = []

    async def tick(self, ctx: Any) -> None:
        """One cycle; take what comes in it."""
        unit = self.unit
        ctx.set(unit.gains.valid, bool(self._gains))
        if self._gains:
            ctx.set(unit.gains.payload, self._gains[0])
            if ctx.get(unit.gains.ready):
                self._gains.pop(0)
        for squares, pulse in ((True, unit.squared), (False, unit.peaked)):
            if ctx.get(pulse):
                at = next(
                    i for i, (issue, _) in enumerate(self._pending) if (issue.squares is not None) is squares
                )
                issue, first = self._pending.pop(at)
                if issue.squares is not None:
                    self.values[issue.squares] = ctx.get(unit.ss)
                elif issue.peak is not None:
                    before = 0 if first else self.values[issue.peak]
                    self.values[issue.peak] = max(before, ctx.get(unit.peak))
        if ctx.get(unit.x_valid):
            at, word = ctx.get(unit.x_addr) * LANES, ctx.get(unit.x_data)
            bytes_ = np.frombuffer(word.to_bytes(LANES, "little"), np.int8)
            self.activations[at : at + LANES] = bytes_
        if ctx.get(unit.y_valid):
            self._copy(ctx.get(unit.y_addr), ctx.get(unit.y_keep), [ctx.get(y) for y in unit.y_data])
        if ctx.get(self.rescale.valid):
            self._results.append(ctx.get(self.rescale.y))
        await ctx.tick()
        self.cycles += 1

    def _copy(self, at: int, keep: int, word: list[int]) -> None:
        for lane, element in enumerate(word):
            if keep >> lane & 1:
                self.vectors[at * LANES + lane] = element

    async def settle(self, ctx: Any) -> None:
        """Wait until nothing is on its way."""
        while not ctx.get(self.unit.idle) or self._pending:
            await self.tick(ctx)

    async def write(self, ctx: Any, at: int, keep: int, word: list[int]) -> None:
        """A word from outside."""
        unit = self.unit
        self._copy(at, keep, word)
        ctx.set(unit.write.valid, 1)
        ctx.set(unit.write.payload, {"address": at, "keep": keep, "data": word})
        while not ctx.get(unit.write.ready):
            await self.tick(ctx)
        await self.tick(ctx)
        ctx.set(unit.write.valid, 0)

    async def curve(self, ctx: Any, name: str) -> int:
        """The slot of a curve, which is loaded first where it is in none."""
        if name not in self._slots:
            await self.settle(ctx)
            slot = len(self._slots) if len(self._slots) < 2 else 0
            self._slots[slot : slot + 1] = [name]
            unit = self.unit
            for at, point in enumerate(self.consts[name]):
                ctx.set(unit.curve_en, 1)
                ctx.set(unit.curve_slot, slot)
                ctx.set(unit.curve_point, at)
                ctx.set(unit.curve_data, int(point))
                await self.tick(ctx)
            ctx.set(unit.curve_en, 0)
        return self._slots.index(name)

    async def issue(self, ctx: Any, issue: Issue, begin: int, end: int) -> None:
        """One issue on the elements of one strip; its results may still be on their way."""

        def at(x: Any) -> int:
            return (x.at + begin) // LANES if isinstance(x, Vector) else 0

        value, factor = 1, Factor.VECTOR
        match issue.b:
            case Gain(name=name):
                factor, gains = Factor.GAIN, self.consts[name][begin:end]
                padded = np.pad(gains, (0, -len(gains) % LANES))
                self._gains += padded.reshape(-1, LANES).tolist()
            case Scalar(at=register):
                factor, value = Factor.VALUE, self.inverses[register]
            case Number(value=number):
                factor, value = Factor.VALUE, number
            case Vector():
                pass
        if issue.minus is not None:
            assert issue.minus == issue.c
            factor = Factor.BLEND
        slot = 0
        if issue.curve:
            factor, slot = Factor.CURVE, await self.curve(ctx, issue.curve)
        eps = 0
        if issue.squares is not None:
            if begin:  # the sum of the strips before
                await self.settle(ctx)
            eps = self.values[issue.squares] if begin else issue.eps
        self._pending.append((issue, begin == 0))
        unit, length = self.unit, end - begin
        ctx.set(unit.issue.valid, 1)
        fields = {
            "words": -(-length // LANES) - 1,
            "tail": (length - 1) % LANES,
            "a": at(issue.a),
            "b": at(issue.b),
            "c": at(issue.c),
            "out": 0 if issue.out is None else (issue.out + begin) // LANES,
            "factor": int(factor),
            "value": value,
            "shift": issue.shift,
            "slot": slot,
            "add": isinstance(issue.c, Vector),
            "narrow": issue.narrow,
            "store": issue.out is not None,
            "squares": issue.squares is not None,
            "eps": eps,
        }
        ctx.set(unit.issue.payload, fields)
        while not ctx.get(unit.issue.ready):
            await self.tick(ctx)
        await self.tick(ctx)
        ctx.set(unit.issue.valid, 0)

    async def matrix(self, ctx: Any, matrix: Matrix) -> None:
        """NumPy's sums through the rescale unit, into vector memory one by one."""
        sums = self.consts[matrix.name] @ self.activations[matrix.x : matrix.x + matrix.columns]
        if matrix.out == LOGITS and self.wrong:
            sums[self.wrong[0]] += self.wrong[1]
        factor = matrix.multiplier * (1 if matrix.scale is None else self.values[matrix.scale])
        unit = self.rescale
        self._results.clear()
        ctx.set(unit.factors.payload, {"factor": factor, "shift": matrix.shift, "narrow": 0})
        ctx.set(unit.factors.valid, 1)
        for row, total in enumerate(sums):
            ctx.set(unit.sums.payload, {"sum": int(total), "last": row == matrix.rows - 1})
            ctx.set(unit.sums.valid, 1)
            while not ctx.get(unit.sums.ready):
                await self.tick(ctx)
            await self.tick(ctx)
        ctx.set(unit.sums.valid, 0)
        ctx.set(unit.factors.valid, 0)
        while len(self._results) < matrix.rows:
            await self.tick(ctx)
        if matrix.out == LOGITS:
            self.logits = list(self._results)
            return
        for row, y in enumerate(self._results):
            address, lane = divmod(matrix.out + row, LANES)
            await self.write(ctx, address, 1 << lane, [y] * LANES)

    async def token(self, ctx: Any, token: int) -> None:
        """All instructions of a token."""
        for each in self.image.code:
            match each:
                case Row(name=name, length=length, out=out):
                    row = np.pad(self.consts[name][token], (0, -length % LANES)).reshape(-1, LANES)
                    for at, word in enumerate(row):
                        await self.write(ctx, out // LANES + at, (1 << LANES) - 1, word.tolist())
                case Group(issues=issues, strip=strip, length=length):
                    step = strip or length
                    for begin in range(0, length, step):
                        for issue in issues:
                            await self.issue(ctx, issue, begin, min(length, begin + step))
                case Inverse(at=at, root=root):
                    ctx.set(self.inverse.start, 1)
                    ctx.set(self.inverse.root, root)
                    ctx.set(self.inverse.v, self.values[at])
                    await self.tick(ctx)
                    ctx.set(self.inverse.start, 0)
                    while not ctx.get(self.inverse.done):
                        await self.tick(ctx)
                    self.inverses[at] = ctx.get(self.inverse.r)
                case Matrix():
                    await self.matrix(ctx, each)
            if isinstance(each, Row | Group):
                await self.settle(ctx)

    def state(self) -> npt.NDArray[np.int16]:
        """The session's state, as executors keep it."""
        places = self.image.states.items()
        parts = [self.vectors[at : at + self.image.program.states[name]] for name, at in places]
        return np.concatenate(parts).astype(np.int16)


def differences(image: WideImage, tokens: list[int], wrong: tuple[int, int] | None = None) -> list[int]:
    """The tokens behind which logits or state are not NumPy's.

    ``wrong``: the row of a logit, and what is added to its sum.
    """
    numpy, path = NumpyExecutor(image.program), Datapath(image)
    state, found = numpy.open(1), []
    path.wrong = wrong

    async def bench(ctx: Any) -> None:
        for i, token in enumerate(tokens):
            logits = numpy.step(state, np.array([token]))
            await path.token(ctx, token)
            if path.logits != logits[0].tolist() or not np.array_equal(path.state(), state[0]):
                found.append(i)

    simulate(path.module, bench)
    return found


def small(per_token: bool) -> WideImage:
    sizes = {"d": 6, "m": 7, "layers": 1, "vocab": 5}
    program = random_mmfree(np.random.default_rng(4), **sizes, per_token=per_token)  # type: ignore[arg-type]
    return lower(program, strip=4, word=LANES)


@pytest.mark.parametrize("per_token", [False, True])
def test_tokens_of_a_small_program_run_on_the_components(per_token: bool) -> None:
    assert differences(small(per_token), [1, 3]) == []


def test_a_planted_sum_is_found() -> None:
    assert differences(small(False), [1], wrong=(3, 1 << 12)) == [0]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mmfree-fixed", "mmfree-token"])
def test_frozen_programs_run_on_the_components(name: str) -> None:
    image = lower(load(VECTORS / f"{name}.safetensors"), strip=8, word=LANES)
    assert differences(image, [1, 7, 3]) == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_random_programs_run_on_the_components(seed: int) -> None:
    program = random_mmfree(np.random.default_rng(seed), layers=1)
    assert differences(lower(program, strip=16, word=LANES), [0, 1, 1]) == []
