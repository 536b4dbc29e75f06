"""A program as the flat list that the C side runs: what goes where, where threads meet, what may run at once.

Three things are decided here and nowhere else:

* *Places*: every value has a place in a row's memory, used again once no thread can still be reading it.
* *Meetings* (``sync``): threads split every vector in the same way, so only an op that reads a whole vector
  must wait for the others, and only if that vector was written since the last meeting.
* *Order over tokens*: with several tokens of one session at a time, the ops between the first and the last
  touch of a state (a segment) run token by token; all others run for all tokens, so that weights are read
  once. What only the logits need (the tail) runs for the tokens whose logits are wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ternac.errors import UnsupportedOp
from ternac.program.legality import infer
from ternac.program.ops import Op, Value
from ternac.program.program import Program

KINDS = (
    "GATHER", "NORM", "TMATVEC", "REQUANT", "TABLE", "MUL", "ADD", "LERP", "LOAD", "STORE",
    "GATHER16", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND",
)  # fmt: skip
"""In the order of tn_kind (host/native/native.h)."""
_BYTES = {"i8": 1, "i16": 2, "acc": 4}
_LINE = 64
_CONSTANT = {
    "GATHER": "embed", "NORM": "table", "TMATVEC": "weights", "TABLE": "table",
    "GATHER16": "embed", "SCALE": "gain", "INTERP": "curve",
}  # fmt: skip
_WHOLE = {"NORM": 0, "TMATVEC": 0, "RMSNORM": 0, "PEAK": 0, "QUANT": 1, "RESCALE": 1}
"""Which input an op reads as a whole, beyond the elements that it makes."""


@dataclass
class Planned:
    """One op for the C side: the fields of tn_op (host/native/api.h); ``constant`` names what ``data`` is."""

    kind: int
    form: int
    length: int
    columns: int = 0
    shift: int = 0
    factor: int = 1
    sync: int = 0
    segment: int = 0
    tail: int = 0
    wide: int = 0
    out: int = 0
    ins: list[int] = field(default_factory=lambda: [0, 0, 0])
    constant: str = ""


@dataclass(frozen=True)
class Plan:
    """The list, the memory of a row in bytes, and where each value lies in it: name -> (offset, dtype,
    length).
    """

    ops: list[Planned]
    row_bytes: int
    places: Mapping[str, tuple[int, str, int]]


def make_plan(program: Program, grain: int, trits: int, *, keep: bool = False) -> Plan:
    """Plan a legal program for blocks of ``grain`` rows, weights with ``trits`` in a byte.

    ``keep``: every value keeps its place to the end of the token, for a trace. IllegalProgram as
    `ternac.program.legality.check`, UnsupportedOp for an op that the C side does not know.
    """
    values = infer(program)
    for index, op in enumerate(program.ops):
        if op.kind not in KINDS:
            raise UnsupportedOp(
                f"op {index} ({op.kind} {op.out}): the native executor does not know {op.kind}",
                "run this program on the NumPy executor",
            )
    sync, epochs = _meetings(program.ops)
    places, row_bytes = _places(program, values, epochs, grain, keep)
    segments, tail = _segments(program.ops), _tail(program.ops)
    states = {name: part.start for name, part in program.state_slices().items()}
    offsets = {name: place[0] for name, place in places.items()}
    ops = []
    for index, op in enumerate(program.ops):
        planned = _planned(program, op, values, trits)
        planned.sync, planned.segment, planned.tail = (
            int(sync[index]),
            segments.get(index, 0),
            int(tail[index]),
        )
        planned.out = states[op.out] if op.kind == "STORE" else offsets[op.out]
        found = [states[name] if op.kind == "LOAD" else offsets[name] for name in op.ins]
        planned.ins[: len(found)] = found
        ops.append(planned)
    return Plan(ops, row_bytes, places)


def _planned(program: Program, op: Op, values: dict[str, Value], trits: int) -> Planned:
    """Everything of an op but places, meetings and order."""
    result = values[op.ins[0]] if op.kind == "STORE" else values[op.out]
    form = 4 * (result.dtype != "i8")
    if op.kind in ("REQUANT", "MUL", "ADD", "RESCALE", "MUL16"):
        wide = "acc" if op.kind in ("REQUANT", "RESCALE") else "i16"
        form |= sum(
            (values[name].dtype == wide) << bit for bit, name in enumerate(op.ins[: 1 + (wide == "i16")])
        )
    planned = Planned(KINDS.index(op.kind), form, result.length)
    if op.kind in _CONSTANT:
        planned.constant = op.text(_CONSTANT[op.kind])
    match op.kind:
        case "GATHER":
            planned.shift = 8 - op.integer("shift")
        case "NORM":
            planned.columns, planned.shift = op.integer("pre"), op.integer("post")
        case "TMATVEC":
            planned.columns, planned.factor = int(program.consts[planned.constant].shape[1]), trits
        case "REQUANT":
            planned.shift, planned.factor = op.integer("shift"), op.integer("multiplier", 1)
        case "MUL" | "MUL16" | "SCALE":
            planned.shift = op.integer("shift")
        case "RMSNORM":
            planned.shift, planned.wide = op.integer("shift"), op.integer("eps")
        case "RESCALE":
            planned.shift, planned.wide = op.integer("shift"), op.integer("multiplier")
        case "PEAK":
            planned.columns = values[op.ins[0]].length
    return planned


def _meetings(ops: tuple[Op, ...]) -> tuple[list[bool], list[int]]:
    """Whether threads meet before each op, and how often they have met when it runs."""
    sync: list[bool] = []
    epochs: list[int] = []
    fresh: set[str] = set()  # written since the last meeting
    epoch = 0
    for op in ops:
        meet = op.kind in _WHOLE and op.ins[_WHOLE[op.kind]] in fresh
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
    live: list[tuple[int, int, int]] = []  # (offset, bytes, last epoch), by offset
    places: dict[str, tuple[int, str, int]] = {}
    top = _LINE
    for op, epoch in zip(program.ops, epochs, strict=True):
        if op.kind == "STORE":
            continue
        value = values[op.out]
        rows = -(-value.length // grain) * grain
        size = -(-rows * _BYTES[value.dtype] // _LINE) * _LINE
        live = [entry for entry in live if entry[2] >= epoch]
        at = 0
        for offset, length, _ in live:
            if offset - at >= size:
                break
            at = max(at, offset + length)
        live = sorted([*live, (at, size, last[op.out])])
        places[op.out] = (at, value.dtype, value.length)
        top = max(top, at + size)
    return places, top + _LINE if top % 4096 == 0 else top  # rows a page apart would share cache sets


def _segments(ops: tuple[Op, ...]) -> dict[int, int]:
    """Index of the first op of each segment to the number of its ops."""
    touched: dict[str, list[int]] = {}
    for index, op in enumerate(ops):
        if op.kind in ("LOAD", "STORE"):
            touched.setdefault(op.ins[0] if op.kind == "LOAD" else op.out, []).append(index)
    found: list[list[int]] = []
    for first, last in sorted((indices[0], indices[-1]) for indices in touched.values()):
        if found and first <= found[-1][1]:
            found[-1][1] = max(found[-1][1], last)
        else:
            found.append([first, last])
    return {first: last - first + 1 for first, last in found if last > first}


def _tail(ops: tuple[Op, ...]) -> list[bool]:
    """Whether no state of a later token depends on the op."""
    needed: set[str] = set()
    tail = [False] * len(ops)
    for index in range(len(ops) - 1, -1, -1):
        op = ops[index]
        tail[index] = op.kind != "STORE" and op.out not in needed
        if not tail[index]:
            needed.update(op.ins)
    return tail
