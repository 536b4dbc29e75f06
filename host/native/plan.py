"""Plan a program as the flat list that the C side runs: places, meetings of threads, order over tokens.

Three things are decided here and nowhere else:

* *Places*: every value has a place in a row's memory, used again once no thread can still be reading it.
* *Meetings* (``sync``): where threads split vectors, all in the same way, only an op that reads a whole
  vector must wait for the others, and only if it was written since the last meeting. Between products they
  split rows instead (host/native/model.c) and meet less often; a place is used again behind a meeting only.
* *Order over tokens*: with several tokens of one session at a time, the ops between the first and the last
  touch of a state (a segment) run token by token; all others run for all tokens, so that weights are read
  once. What only the logits need (the tail) runs for the tokens whose logits are wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ternac.program.allocate import Lifetimes
from ternac.program.legality import infer
from ternac.program.ops import BYTES, KINDS, Op, Value, refuse_unknown, state_read, state_written
from ternac.program.program import Program

_LINE = 64


@dataclass
class Planned:
    """One op for the C side: the fields of tn_op (host/native/api.h).

    ``kind`` by name, ``attrs`` by name, ``constant`` the name of what ``data`` points to.
    """

    kind: str
    form: int
    length: int
    width: int
    out: int
    ins: list[int]
    attrs: dict[str, int]
    constant: str
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


def make_plan(program: Program, grain: int, known: Iterable[str], *, keep: bool = False) -> Plan:
    """Plan a program for blocks of ``grain`` rows, of ops whose kinds are ``known``.

    ``keep``: every value keeps its place to the end of the token, for a trace. Raises IllegalProgram if the
    program breaks a rule, UnsupportedOp if a kind is not known.
    """
    values = infer(program)
    refuse_unknown(program.ops, known, "the native executor")
    sync, epochs = _meetings(program.ops)
    places, row_bytes = _places(program, values, epochs, grain, keep)
    segments, tail = _segments(program.ops), _tail(program.ops)
    states = {name: part.start for name, part in program.state_slices().items()}
    offsets = {name: place[0] for name, place in places.items()}
    ops = []
    for index, op in enumerate(program.ops):
        kind, stored, loaded = KINDS[op.kind], state_written(op), state_read(op)
        ins = [values[name] for name in op.ins] if loaded is None else []
        result = ins[0] if stored is not None else values[op.out]
        ops.append(
            Planned(
                kind=op.kind,
                form=_form(op, ins, result),
                length=result.length,
                width=ins[0].length if ins else result.length,
                out=offsets[op.out] if stored is None else states[stored],
                ins=[offsets[name] for name in op.ins] if loaded is None else [states[loaded]],
                attrs={name: op.integer(name, attr.default) for name, attr in kind.integers.items()},
                constant=next((op.text(name) for name in kind.constants), ""),
                sync=sync[index],
                segment=segments.get(index, 0),
                tail=tail[index],
            )
        )
    return Plan(ops, row_bytes, places)


def _form(op: Op, ins: list[Value], result: Value) -> int:
    """Bit i: input i (of the first two) has the wider of its kind's dtypes; bit 2: the result is not i8."""
    form = 4 * (result.dtype != "i8")
    for bit, (one, value) in enumerate(zip(KINDS[op.kind].inputs[:2], ins, strict=False)):
        form |= (BYTES[value.dtype] > min(BYTES[dtype] for dtype in one.dtypes)) << bit
    return form


def _meetings(ops: tuple[Op, ...]) -> tuple[list[bool], list[int]]:
    """For each op: True if threads meet before it, and how often they have met when it runs."""
    sync: list[bool] = []
    epochs: list[int] = []
    fresh: set[str] = set()  # written since the last meeting
    epoch = 0
    for op in ops:
        declared = KINDS[op.kind].inputs
        whole = {name for name, one in zip(op.ins, declared, strict=False) if one.whole or one.scalar}
        meet = bool(whole & fresh)
        if meet:
            epoch += 1
            fresh.clear()
        fresh.add(op.out)
        sync.append(meet)
        epochs.append(epoch)
    return sync, epochs


def _places(
    program: Program, values: dict[str, Value], epochs: list[int], grain: int, keep: bool
) -> tuple[dict[str, tuple[int, str, int]], int]:
    """A place for every value: first fit, freed at the meeting after its last use."""
    end = epochs[-1] + 1
    last = dict.fromkeys(values, end) if keep else {}
    for op, epoch in zip(program.ops, epochs, strict=True):
        for name in (*op.ins, op.out):
            if name in values:
                last[name] = max(last.get(name, 0), epoch)
    last[program.logits] = end
    places: dict[str, tuple[int, str, int]] = {}
    memory = Lifetimes(_LINE)
    for op, epoch in zip(program.ops, epochs, strict=True):
        if op.out in values:
            value = values[op.out]
            rows = -(-value.length // grain) * grain
            size = -(-rows * BYTES[value.dtype] // _LINE) * _LINE
            places[op.out] = memory.place(size, epoch, last[op.out]), value.dtype, value.length
    top = memory.top
    return places, top + _LINE if top % 4096 == 0 else top  # rows a page apart would share cache sets


def _segments(ops: tuple[Op, ...]) -> dict[int, int]:
    """Index of the first op of each segment to the number of its ops."""
    touched: dict[str, list[int]] = {}
    for index, op in enumerate(ops):
        for state in (state_read(op), state_written(op)):
            if state is not None:
                touched.setdefault(state, []).append(index)
    found: list[list[int]] = []
    for first, last in sorted((indices[0], indices[-1]) for indices in touched.values()):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return {first: last - first + 1 for first, last in found if last > first}


def _tail(ops: tuple[Op, ...]) -> list[bool]:
    """For each op: True if no state of a later token depends on it."""
    needed: set[str] = set()
    tail = [False] * len(ops)
    for index in range(len(ops) - 1, -1, -1):
        op = ops[index]
        tail[index] = state_written(op) is None and op.out not in needed
        if not tail[index]:
            needed.update(op.ins)
    return tail
