"""Plan a program as the flat list that the C side runs: places, meetings of threads, order over tokens.

Three things are decided here and nowhere else:

* *Places*: every value has a place in a row's memory, used again once no thread can still be reading it.
* *Meetings* (``sync``): where threads split vectors, all in the same way, only an op that reads a whole
  vector must wait for the others, and only if it was written since the last meeting. Between products they
  split rows instead (host/native/model.c) and meet less often; a place is used again behind a meeting only.
* *Order over tokens*: with several tokens of one session at a time, the ops between the first and the last
  touch of a state or memory (a segment) run token by token; all others run for all tokens, so that weights
  are read once. What only the logits need (the tail) runs for the tokens whose logits are wanted.

Loops are unrolled before: a plan is for one number of runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ternac.program.allocate import Lifetimes
from ternac.program.legality import infer
from ternac.program.loops import RUN_MARK, Step, unroll
from ternac.program.ops import BYTES, KINDS, Op, Value, memory_written, refuse_unknown, state_written
from ternac.program.program import Program

_LINE = 64
_WIDE_OUT, _WIDE_ROWS, _TWO_DIGITS = 4, 16, 32  # of tn_op's form
_WIDE_INPUT = (1, 2, 8)


@dataclass
class Planned:
    """One op for the C side: the fields of tn_op (host/native/api.h).

    ``kind`` by name, ``attrs`` by name, ``constant`` the name of what ``data`` points to,
    ``memory`` the first word of the session's rows or -1.
    """

    kind: str
    form: int
    length: int
    width: int
    out: int
    ins: list[int]
    attrs: dict[str, int]
    constant: str
    memory: int
    sync: bool
    segment: int
    tail: bool


@dataclass(frozen=True)
class Plan:
    """The list, the memory of a row in bytes, and where each value lies in it: name -> (offset, dtype,
    length).
    """

    ops: list[Planned]
    row_bytes: int
    places: Mapping[str, tuple[int, str, int]]


def make_plan(
    program: Program, grain: int, known: Iterable[str], *, keep: bool = False, loops: int | None = None
) -> Plan:
    """Plan a program for blocks of ``grain`` rows, of ops whose kinds are ``known``.

    ``keep``: every value keeps its place to the end of the token, for a trace. ``loops``: runs of every LOOP
    without levels (None: as the program says). Raises IllegalProgram if the program breaks a rule,
    UnsupportedOp if a kind is not known.
    """
    types = infer(program)
    refuse_unknown(program.ops, {*known, "LOOP"}, "the native executor")
    steps = unroll(program, loops)
    values = {step.op.out: types[program.ops[step.index].out] for step in steps if KINDS[step.op.kind].result}
    sync, epochs = _meetings(steps)
    places, row_bytes = _places(program, steps, values, epochs, grain, keep)
    segments, tail = _segments(steps), _tail(steps)
    offsets = {name: place[0] for name, place in places.items()}
    ops = []
    for index, step in enumerate(steps):
        op, kind = step.op, KINDS[step.op.kind]
        ins = [values[name] for name in op.ins] if kind.state != "in" else []
        result = values[op.out] if kind.result else ins[-1]
        here = step.state.start if step.state else 0
        ops.append(
            Planned(
                kind=op.kind,
                form=_form(step, ins, result),
                length=result.length,
                width=_width(op, ins, result),
                out=here if kind.state == "out" else offsets.get(op.out, 0),
                ins=[offsets[name] for name in op.ins] if kind.state != "in" else [here],
                attrs={name: op.integer(name, attr.default) for name, attr in kind.integers.items()},
                constant=next((c for name in kind.constants if (c := op.text(name)) in program.consts), ""),
                memory=step.memory.start if step.memory else -1,
                sync=sync[index],
                segment=segments.get(index, 0),
                tail=tail[index],
            )
        )
    named = {name: place for name, place in places.items() if RUN_MARK not in name}
    return Plan(ops, row_bytes, named)


def _width(op: Op, ins: list[Value], result: Value) -> int:
    """Elements of the first input; of MASK those of the second, which are its groups."""
    if op.kind == "MASK":
        return ins[1].length
    return ins[0].length if ins else result.length


def _form(step: Step, ins: list[Value], result: Value) -> int:
    """Which of several types the op's vectors have: the bits of tn_op's form (host/native/api.h)."""
    kind = KINDS[step.op.kind]
    form = _WIDE_OUT * (result.dtype != "i8" or not kind.result)
    for bit, one, value in zip(_WIDE_INPUT, kind.inputs_of(step.op), ins, strict=False):
        form |= bit * (BYTES[value.dtype] > min(BYTES[dtype] for dtype in one.dtypes))
    if kind.memories:
        digits = [one for one in kind.inputs_of(step.op) if one.whole]
        form |= _TWO_DIGITS * (len(digits) == 2)
        form |= _WIDE_ROWS * (step.memory is not None and step.memory.memory.dtype == "i16")
    return form


def _meetings(steps: Sequence[Step]) -> tuple[list[bool], list[int]]:
    """For each op: True if threads meet before it, and how often they have met when it runs."""
    sync: list[bool] = []
    epochs: list[int] = []
    fresh: set[str] = set()  # written since the last meeting
    epoch = 0
    for step in steps:
        op, kind = step.op, KINDS[step.op.kind]
        declared = zip(op.ins, kind.inputs_of(op), strict=kind.state != "in")
        whole = {name for name, one in declared if one.whole or one.scalar}
        meet = bool(whole & fresh)
        if meet:
            epoch += 1
            fresh.clear()
        fresh.add(op.out)
        sync.append(meet)
        epochs.append(epoch)
    return sync, epochs


def _places(
    program: Program,
    steps: Sequence[Step],
    values: dict[str, Value],
    epochs: list[int],
    grain: int,
    keep: bool,
) -> tuple[dict[str, tuple[int, str, int]], int]:
    """A place for every value: first fit, freed at the meeting after its last use."""
    end = epochs[-1] + 1
    last = dict.fromkeys(values, end) if keep else {}
    for step, epoch in zip(steps, epochs, strict=True):
        op = step.op
        for name in (*op.ins, op.out):
            if name in values:
                last[name] = max(last.get(name, 0), epoch)
    last[program.logits] = end
    places: dict[str, tuple[int, str, int]] = {}
    memory = Lifetimes(_LINE)
    for step, epoch in zip(steps, epochs, strict=True):
        op = step.op
        if op.out in values:
            value = values[op.out]
            rows = -(-value.length // grain) * grain
            size = -(-rows * BYTES[value.dtype] // _LINE) * _LINE
            places[op.out] = memory.place(size, epoch, last[op.out]), value.dtype, value.length
    top = memory.top
    return places, top + _LINE if top % 4096 == 0 else top  # rows a page apart would share cache sets


def _segments(steps: Sequence[Step]) -> dict[int, int]:
    """Index of the first step of each segment to the number of its steps."""
    touched: dict[tuple[str, int], list[int]] = {}
    for index, step in enumerate(steps):
        if step.state is not None:
            touched.setdefault(("state", step.state.start), []).append(index)
        if step.memory is not None:
            touched.setdefault(("memory", step.memory.start), []).append(index)
    found: list[list[int]] = []
    for first, last in sorted((indices[0], indices[-1]) for indices in touched.values()):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return {first: last - first + 1 for first, last in found if last > first}


def _tail(steps: Sequence[Step]) -> list[bool]:
    """For each step: True if no state or memory of a later token depends on it."""
    needed: set[str] = set()
    tail = [False] * len(steps)
    for index in range(len(steps) - 1, -1, -1):
        op = steps[index].op
        writes = state_written(op) is not None or memory_written(op) is not None
        tail[index] = not writes and op.out not in needed
        if not tail[index]:
            needed.update(op.ins)
    return tail
