"""Ops of imported models on the native executor: kernels at corner values, whole programs, time by op."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ternac.host.native.executor import NativeExecutor
from ternac.program.import_ops import CURVE_POINTS, MAX_EPS
from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.native.native_here import ISAS, RUNNING, needs_native

pytestmark = needs_native
LOW, HIGH = -32768, 32767
CORNERS = (LOW, LOW + 1, -16385, -256, -64, -1, 0, 1, 63, 64, 255, 16384, HIGH - 1, HIGH)
LENGTHS = (1, 15, 16, 31, 33, 64, 97, 160, 257)
VOCAB = 12
SHIFTS = (0, 1, 8, 9, 15, 16, 17, 23, 24, 25, 30, 31)


def rows(rng: np.random.Generator, length: int) -> Any:
    """int16 [VOCAB, length]: constant rows, a single element, corners and random ones."""
    made = [np.full(length, value) for value in (LOW, HIGH, 0, 1)]
    lone = np.zeros(length, int)
    lone[rng.integers(length)] = rng.choice([1, LOW, 300])
    made.append(lone)
    made += [rng.choice(CORNERS, length) for _ in range(4)]
    made.append(rng.integers(-9, 10, length))
    return np.array(made + [rng.integers(LOW, HIGH + 1, length) for _ in range(VOCAB - len(made))], np.int16)


class OneOfEach:
    """A program that feeds every op of imports, and REQUANT, with ``rng``'s corners and parameters."""

    def __init__(self, rng: np.random.Generator, length: int, inner: int) -> None:
        self.ops: list[Op] = []
        self.consts: dict[str, Any] = {}
        trits = rng.integers(-1, 2, (length, inner))
        trits[0], trits[-1] = 1, -1  # the largest accumulators
        x, y = (self.op("GATHER16", embed=self.const(rows(rng, length))) for _ in range(2))
        wide = self.op("GATHER16", embed=self.const(rows(rng, inner)))
        narrow = self.op("REQUANT", wide, shift=8, dtype="i8")
        acc = self.op("TMATVEC", narrow, weights=self.const(trits.astype(np.int8)))
        peaks = [self.op("PEAK", vector) for vector in (x, y, wide)]
        for eps, shift in product((0, 1, MAX_EPS), (0, 16, 17, 22, 25, 40)):
            self.op("RMSNORM", x, eps=eps, shift=shift)
        for shift in SHIFTS:
            self.op("SCALE", x, gain=self.const(rng.choice(CORNERS, length).astype(np.int16)), shift=shift)
            self.op("MUL16", x, y, shift=shift, dtype="i16")
            self.op("MUL16", x, y, shift=shift, dtype="i8")
        for peak in peaks:
            self.op("QUANT", y, peak)
        for source, dtype in product((x, acc), ("i8", "i16")):
            for shift in (*SHIFTS, 32, 33, 38, 40, 41, 46, 47, 55, 62):
                multiplier = int(rng.choice([1, 255, 256, 1 << 15, (1 << 24) - 1, rng.integers(1, 1 << 24)]))
                more = {"multiplier": multiplier, "shift": shift}
                self.op("RESCALE", source, str(rng.choice(peaks)), dtype=dtype, **more)
            for shift, multiplier in product(SHIFTS, (1, 2, (1 << 31) - (1 << 15), (1 << 31) - 1)):
                self.op("REQUANT", source, dtype=dtype, multiplier=multiplier, shift=shift)
        curve = self.const(rng.choice(CORNERS, CURVE_POINTS).astype(np.int16))
        share = self.const(rng.choice([0, 1, HIGH // 2, HIGH - 1, HIGH], CURVE_POINTS).astype(np.int16))
        self.op("INTERP", x, curve=curve)
        self.op("BLEND", x, y, self.op("INTERP", y, curve=share))
        head = self.const(rng.integers(-1, 2, (VOCAB, inner)).astype(np.int8))
        logits = self.op("REQUANT", self.op("TMATVEC", narrow, weights=head), shift=2, dtype="i16")
        self.program = Program("corners", VOCAB, tuple(self.ops), self.consts, {}, logits, 4)
        check(self.program)

    def const(self, array: Any) -> str:
        name = f"c{len(self.consts)}"
        self.consts[name] = array
        return name

    def op(self, kind: str, *ins: str, **attrs: int | str) -> str:
        self.ops.append(Op(kind, f"v{len(self.ops)}", ins, attrs))
        return self.ops[-1].out


def first_difference(program: Program, isa: str) -> str:
    """Kind and attributes of the first op whose values are not NumPy's for some token; empty: all are."""
    traces: list[dict[str, Any]] = []
    native = NativeExecutor(program, isa=isa)
    for executor in (NumpyExecutor(program), native):
        trace: dict[str, Any] = {}
        executor.step(executor.open(VOCAB), range(VOCAB), trace)
        traces.append(trace)
    native.close()
    for op in program.ops:
        if not np.array_equal(traces[0][op.out], traces[1][op.out]):
            return f"{op.kind} {op.attrs}"
    return ""


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("isa", ISAS)
def test_every_kernel_equals_numpy_at_corner_values(isa: str, length: int) -> None:
    rng = np.random.default_rng(length)
    for inner in (16, 200):
        assert first_difference(OneOfEach(rng, length, inner).program, isa) == ""


@pytest.mark.parametrize("isa", ISAS)
def test_the_largest_accumulators_do_not_overflow(isa: str) -> None:
    """128 * 65,535 in either direction, which is all that 24 bits hold."""
    assert first_difference(OneOfEach(np.random.default_rng(7), 40, 65535).program, isa) == ""


def test_a_kernel_that_rounds_otherwise_shows() -> None:
    """The comparison above can fail: one code in one constant is enough."""
    made = OneOfEach(np.random.default_rng(3), 33, 16)
    other = {name: array.copy() for name, array in made.consts.items()}
    op = next(op for op in made.ops if op.kind == "SCALE" and op.attrs["shift"] == 0)
    other[op.text("gain")][32] ^= 1
    changed = Program("corners", VOCAB, tuple(made.ops), other, {}, made.program.logits, 4)
    native, numpy = NativeExecutor(changed, isa=RUNNING[0]), NumpyExecutor(made.program)
    traces: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
    for executor, trace in zip((numpy, native), traces, strict=True):
        executor.step(executor.open(VOCAB), range(VOCAB), trace)
    assert [name for name in traces[0] if not np.array_equal(traces[0][name], traces[1][name])] == [op.out]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("isa", ISAS)
def test_forty_tokens_of_imported_programs_equal_numpy(isa: str, threads: int) -> None:
    """Logits and state of sessions side by side, one scale per token and fixed ones."""
    for seed, per_token in enumerate((True, False)):
        rng = np.random.default_rng(seed)
        program = random_mmfree(rng, d=70, m=150, layers=2, vocab=131, per_token=per_token)
        numpy, native = NumpyExecutor(program), NativeExecutor(program, isa=isa, threads=threads)
        states = numpy.open(5), native.open(5)
        for _ in range(40):
            tokens = rng.integers(0, program.vocab, 5)
            assert np.array_equal(numpy.step(states[0], tokens), native.step(states[1], tokens))
            assert np.array_equal(states[0], states[1])
        native.close()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_texts_of_imported_programs_are_fed_as_if_token_by_token(threads: int) -> None:
    """One text, several mixed, all sessions apart: each way in which threads share the work."""
    rng = np.random.default_rng(threads)
    program = random_mmfree(rng, d=40, m=90, layers=2, vocab=67)
    numpy, native = NumpyExecutor(program), NativeExecutor(program, threads=threads)
    for slots in (np.zeros(70, int), rng.integers(0, 4, 70), np.arange(4)):
        states = numpy.open(4), native.open(4)
        tokens, want = rng.integers(0, program.vocab, len(slots)), rng.random(len(slots)) < 0.3
        found = native.feed(states[1], tokens, slots, want)
        wanted = np.array(
            [numpy.step(states[0][s : s + 1], [t])[0] for s, t in zip(slots, tokens, strict=True)], np.int32
        )
        assert np.array_equal(found, wanted[want])
        assert np.array_equal(states[0], states[1])


def test_time_is_told_for_each_op_and_changes_nothing() -> None:
    program = random_mmfree(np.random.default_rng(1), d=40, m=90, layers=2, vocab=67)
    native = NativeExecutor(program, threads=2)
    timed, plain = native.open(1), native.open(1)
    spent = native.time_ops(timed, [1, 2, 3], [0, 0, 0])
    native.feed(plain, [1, 2, 3], [0, 0, 0])
    assert np.array_equal(timed, plain)
    for kind in {op.kind for op in program.ops}:
        assert len(spent[kind]) == sum(op.kind == kind for op in program.ops)
        assert (spent[kind] >= 0).all()
    assert (spent["TMATVEC"] > 0).all()
