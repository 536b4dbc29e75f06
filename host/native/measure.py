"""Measure on a machine that others use: candidates take turns, on programs of the published models' size.

The clock is the thread's processor time. It leaves out what other processes take of the processor, not that
they share caches, memory and, with two threads to a core, the arithmetic units. So only figures of one run
are compared, and a ratio is the median of the ratios of each round. The programs have random weights and are
made without ever holding unpacked ones.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import numpy as np

from ternac.host.native.library import isa_number, load
from ternac.host.native.weights import BITS, Weights
from ternac.program.mmfree import Shape
from ternac.program.numerics import norm_constants
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import GAIN, random_mmfree, random_program

ORIGIN = (
    "measured on this host: processor time of one thread, median of {0} rounds in which all candidates "
    "take turns"
)


class Rounds:
    """Seconds of each candidate in each round."""

    def __init__(self, seconds: Mapping[str, list[float]]) -> None:
        self.seconds = seconds

    def typical(self, name: str) -> float:
        """Median seconds."""
        return median(self.seconds[name])

    def ratio(self, name: str, other: str) -> float:
        """Speed of ``name`` over that of ``other``: median over the rounds."""
        return median(b / a for a, b in zip(self.seconds[name], self.seconds[other], strict=True))


def rounds(
    candidates: Mapping[str, Callable[[], object]],
    count: int,
    least: float = 0.004,
    clock: Callable[[], float] = time.thread_time,
    progress: Callable[[int], object] = lambda done: None,
) -> Rounds:
    """Run every candidate once in each of ``count`` rounds, repeated so that it takes ``least`` seconds.

    Seconds are those of one call.
    """
    repeats = {}
    for name, run in candidates.items():
        run()
        began = clock()
        run()
        repeats[name] = max(1, round(least / max(clock() - began, 1e-7)))
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for done in range(count):
        for name, run in candidates.items():
            began = clock()
            for _ in range(repeats[name]):
                run()
            seconds[name].append((clock() - began) / repeats[name])
        progress(done + 1)
    return Rounds(seconds)


_SMALL = 8


def shape_program(shape: Shape, seed: int = 1) -> Program:
    """A legal program with the op sequence and sizes of a published model.

    Its matrices are views of a single zero, good for their shape only: an executor gets them packed
    (:func:`random_weights`). Shifts keep random activations within their ranges.
    """
    rng = np.random.default_rng(seed)
    small = random_program(rng, d=_SMALL, m=_SMALL, layers=shape.layers, vocab=_SMALL)
    wide = {"Wgate": (shape.m, shape.d), "Wup": (shape.m, shape.d), "Wdown": (shape.d, shape.m)}
    sizes = {
        name: (shape.vocab, shape.d)
        if name == "head"
        else wide.get(name.partition(".")[2], (shape.d, shape.d))
        for name, role in small.roles().items()
        if role == "trits"
    }
    pre = max(4, math.ceil(math.log2(GAIN * math.sqrt(shape.d) / 255)))
    table, post = norm_constants(shape.d, GAIN, pre)
    consts: dict[str, Any] = {name: small.consts[name] for name in small.consts if name not in sizes}
    consts["embed"] = rng.integers(-128, 128, (shape.vocab, shape.d), np.int8)
    consts |= {name: table for name, role in small.roles().items() if role == "norm"}
    columns = {op.out: sizes[op.text("weights")][1] for op in small.ops if op.kind == "TMATVEC"}
    ops = tuple(_op(op, columns, pre, post) for op in small.ops)
    return _grown(f"random-{shape.name}", small, shape, ops, consts, sizes)


def imported_program(shape: Shape, seed: int = 1) -> Program:
    """Like :func:`shape_program`, with the ops of an imported checkpoint of that size (MMfreeLM)."""
    rng = np.random.default_rng(seed)
    small = random_mmfree(rng, d=_SMALL, m=_SMALL, layers=shape.layers, vocab=_SMALL, per_token=True)
    rows_of = {"gate.w": shape.m, "up.w": shape.m, "logits.w": shape.vocab}

    def columns(name: str) -> int:
        return shape.m if ".down." in name else shape.d

    sizes, consts = {}, dict(small.consts)
    for name, role in small.roles().items():
        if role == "trits":
            sizes[name] = rows_of.get(name.partition(".")[2], rows_of.get(name, shape.d)), columns(name)
            del consts[name]
        elif role == "gain":
            consts[name] = rng.choice(small.consts[name], columns(name))
    consts["embed"] = rng.integers(-32768, 32768, (shape.vocab, shape.d), np.int16)
    by_product = {op.out: sizes[op.text("weights")][1] for op in small.ops if op.kind == "TMATVEC"}

    def op(op: Op) -> Op:
        if op.kind == "RMSNORM":
            more = -_doublings(shape.m if op.out.endswith(".zn") else shape.d)
        elif op.kind == "RESCALE":
            more = _doublings(by_product[op.ins[0]])
        else:
            return op
        return dataclasses.replace(op, attrs={**op.attrs, "shift": op.integer("shift") + more})

    ops = tuple(op(one) for one in small.ops)
    return _grown(f"random-mmfree-{shape.name}", small, shape, ops, consts, sizes)


def _grown(
    name: str,
    small: Program,
    shape: Shape,
    ops: tuple[Op, ...],
    consts: dict[str, Any],
    sizes: dict[str, tuple[int, int]],
) -> Program:
    """``small`` with other ops and constants, its matrices as views of one zero."""
    program = Program(
        name=name,
        vocab=shape.vocab,
        ops=ops,
        consts=consts,
        states=dict.fromkeys(small.states, shape.d),
        logits=small.logits,
        logit_scale_bits=small.logit_scale_bits,
    )
    whole = dict(program.consts) | {name: np.broadcast_to(np.int8(0), size) for name, size in sizes.items()}
    object.__setattr__(program, "consts", whole)  # past the copy that the constructor makes of every constant
    return program


def _doublings(columns: int) -> int:
    """By how many bits vectors of so many elements have larger norms than the small program's."""
    return round(math.log2(math.sqrt(columns / _SMALL)))


def _op(op: Op, columns: dict[str, int], pre: int, post: int) -> Op:
    """The op with the shifts that its new size wants."""
    if op.kind == "NORM":
        return dataclasses.replace(op, attrs={**op.attrs, "pre": pre, "post": post})
    if op.kind == "REQUANT" and op.ins[0] in columns:
        shift = op.integer("shift") + _doublings(columns[op.ins[0]])
        return dataclasses.replace(op, attrs={**op.attrs, "shift": shift})
    return op


def random_weights(program: Program, isa: str, bits: str, seed: int = 2) -> Weights:
    """Random trits for every matrix of the program, drawn as packed bytes."""
    _, lib = load()
    sizes = {name: program.consts[name].shape for name, role in program.roles().items() if role == "trits"}
    weights = Weights(sizes, lib.tn_isa_lanes(isa_number(isa)), BITS[bits])
    legal = np.arange(243, dtype=np.uint8) if bits == "1.6" else _pairs()
    rng = np.random.default_rng(seed)
    for name in sizes:
        into = weights.bytes_of(name)
        for at in range(0, len(into), 1 << 20):
            part = into[at : at + (1 << 20)]
            part[:] = legal[rng.integers(0, len(legal), len(part), np.uint8)]
    return weights


def _pairs() -> Any:
    """The 81 bytes of four codes 0..2 in bit pairs."""
    codes = np.arange(81)
    return sum((codes // 3**j % 3) << 2 * j for j in range(4)).astype(np.uint8)
