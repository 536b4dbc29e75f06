"""Before the passes: rewrite what no pass can do as it stands into ops that passes can do.

* A LOOP with ``levels`` becomes the ops of all its runs; its states and memories become their parts.
* A matrix whose product is searched for WINNERS gets rows of zeros, and one that reads a masked vector
  columns, so that every group begins at a slot.
* A state that is still read after its new value was computed gets that value by a copy, at its STORE.
* What a NORM in the side lane makes goes to the x buffer only; an identity matrix brings it to other readers.
* A value that a LOOP carries is copied first, if it is needed as it was.
* A REQUANT by 2^k becomes k additions of a value to itself.

Programs that need nothing of this stay what they are, so their images do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry
from ternac.errors import IllegalProgram
from ternac.program.legality import shapes
from ternac.program.loops import Loop, loops_of
from ternac.program.ops import KINDS, Memory, Op, memory_of
from ternac.program.program import Program

ELEMENTWISE = ("REQUANT", "TABLE", "MUL", "ADD", "SUB", "LERP")
"""Kinds whose result has the places of their inputs."""


@dataclass(frozen=True)
class Lowered:
    """A program as passes are made of it; with what it means in terms of the ``original``."""

    original: Program
    program: Program
    copies: frozenset[str] = frozenset()
    """Values that are copies: they must be made where they stand."""
    groups: Mapping[str, int] = field(default_factory=dict)
    """Result of WINNERS: elements of a group, without those that fill its last slot."""
    padded: frozenset[str] = frozenset()
    """Values with such elements in them."""
    parts: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """State or memory of one run of a loop with levels: that of the original, and in how many parts it is."""


def lower(program: Program, geometry: Geometry) -> Lowered:
    """Rewrite a legal ``program`` for ``geometry``.

    Raises IllegalProgram if groups cannot begin at slots.
    """
    unrolled, parts = _unroll(program)
    carried, copies = _copy_carried(_copy_norms(_double(unrolled), geometry))
    stored, more = _copy_stores(carried)
    return _pad_groups((stored, copies | more), geometry, program, parts)


# ---- loops with levels --------------------------------------------------------------------------------


def _unroll(program: Program) -> tuple[Program, dict[str, tuple[str, int]]]:
    """Return the program with the runs of loops that have levels, and the parts of states and memories."""
    loops = {loop.first: loop for loop in loops_of(program.ops) if loop.levels or loop.most == 1}
    if not loops:
        return program, {}
    ops: list[Op] = []
    parts: dict[str, tuple[str, int]] = {}
    index = shift = 0
    while index < len(program.ops):
        if index not in loops:
            op = program.ops[index]
            if op.kind == "LOOP":  # the ops before it may have become more
                op = replace(op, attrs=dict(op.attrs) | {"first": op.integer("first") + shift})
            ops.append(op)
            index += 1
            continue
        loop = loops[index]
        body = list(_runs(program, loop, parts))
        shift += len(body) - len(loop.body) - 1
        ops += body
        index = loop.index + 1
    states: dict[str, int] = {}
    for name, length in program.states.items():
        count = parts.get(_part(name, 0), ("", 0))[1]
        states |= {_part(name, i): length // count for i in range(count)} if count else {name: length}
    memories: dict[str, Memory] = {}
    for name, memory in program.memories.items():
        count = parts.get(_part(name, 0), ("", 0))[1]
        own = {_part(name, i): replace(memory, rows=memory.rows // count) for i in range(count)}
        memories |= own or {name: memory}
    return replace(program, ops=tuple(ops), states=states, memories=memories), parts


def _runs(program: Program, loop: Loop, parts: dict[str, tuple[str, int]]) -> Iterable[Op]:
    """Yield the ops of all runs of ``loop``; notes the parts of its states and memories."""
    before: dict[str, str] = {}
    for run in range(loop.times):
        now = {old: before[new] for old, new in loop.carry} if run else {}
        made: dict[str, str] = {}
        mark = f".run{run}" if run < loop.times - 1 else ""
        for at in loop.body:
            op = program.ops[at]
            kind = KINDS[op.kind]
            ins = tuple(now.get(name, name) for name in op.ins)
            out, attrs = op.out + mark if kind.result or not kind.state else op.out, dict(op.attrs)
            if kind.result:
                now[op.out] = made[op.out] = out
            if loop.levels and loop.times > 1:
                memory = memory_of(op)
                state = op.ins[0] if kind.state == "in" else op.out if kind.state == "out" else None
                for name in (state, memory if memory in program.memories else None):
                    if name is not None:
                        parts[_part(name, run)] = name, loop.times
                if kind.state == "in":
                    ins = (_part(op.ins[0], run),)
                elif kind.state == "out":
                    out = _part(op.out, run)
                if memory in program.memories:
                    attr = next(a for a, value in attrs.items() if value == memory)
                    attrs[attr] = _part(str(memory), run)
            yield replace(op, ins=ins, out=out, attrs=attrs)
        before = made


def _part(name: str, run: int) -> str:
    return f"{name}.part{run}"


# ---- single ops ---------------------------------------------------------------------------------------


def _double(program: Program) -> Program:
    """Return the program without multipliers of REQUANT that are powers of two."""
    ops: list[Op] = []
    moved = {0: 0}
    for index, op in enumerate(program.ops):
        ops += _doublings(op)
        moved[index + 1] = len(ops)
    return program if len(ops) == len(program.ops) else replace(program, ops=tuple(_moved(ops, moved)))


def _doublings(op: Op) -> list[Op]:
    """``rshift_round(x * 2**k, s)`` as additions, saturation and all; any other op as it is."""
    factor = op.integer("multiplier", 1) if op.kind == "REQUANT" else 1
    times = factor.bit_length() - 1
    if factor <= 1 or factor & (factor - 1) or op.integer("shift") > times:
        return [op]
    times -= op.integer("shift")
    value, found = op.ins[0], []
    for step in range(times):
        name = op.out if step == times - 1 else f"{op.out}.x{2 << step}"
        dtype = op.text("dtype") if name == op.out else "i16"
        found.append(Op("ADD", name, (value, value), {"dtype": dtype}))
        value = name
    return found or [replace(op, attrs={"shift": 0, "dtype": op.text("dtype")})]


def _moved(ops: Iterable[Op], moved: Mapping[int, int]) -> Iterable[Op]:
    """Yield the ops, with the bodies of loops where they are now."""
    for op in ops:
        if op.kind == "LOOP":
            first = moved[op.integer("first")]
            end = moved[op.integer("first") + op.integer("length")]
            op = replace(op, attrs=dict(op.attrs) | {"first": first, "length": end - first})
        yield op


def _copy_norms(program: Program, geometry: Geometry) -> Program:
    """Return the program with copies of NORMs that others than matrices read, made by identity matrices."""
    norms = {op.out for op in program.ops if op.kind == "NORM"} if geometry.lane_depth else set()
    norms -= {v for op in program.ops if op.kind == "LOOP" for v in op.ins}
    copied = {v for op in program.ops if op.kind != "TMATVEC" for v in op.ins if v in norms}
    if not copied:
        return program
    types, consts = shapes(program), dict(program.consts)
    ops: list[Op] = []
    moved = {0: 0}
    for index, op in enumerate(program.ops):
        names = {} if op.kind == "TMATVEC" else {v: f"{v}.copy" for v in op.ins if v in copied}
        ops.append(replace(op, ins=tuple(names.get(v, v) for v in op.ins)) if names else op)
        if op.out in copied and op.kind == "NORM":
            length = types[op.out][1]
            weights = f"ones.{length}"
            consts[weights] = np.eye(length, dtype=np.int8)
            ops.append(Op("TMATVEC", f"{op.out}.copy.acc", (op.out,), {"weights": weights}))
            ops.append(Op("REQUANT", f"{op.out}.copy", (f"{op.out}.copy.acc",), {"shift": 0, "dtype": "i8"}))
        moved[index + 1] = len(ops)
    return replace(program, ops=tuple(_moved(ops, moved)), consts=consts)


def _copy_carried(program: Program) -> tuple[Program, frozenset[str]]:
    """Return the program with copies of values that a LOOP changes and others read; and the copies."""
    ahead = {loop.first: loop for loop in loops_of(program.ops)}
    if not any(loop.carry for loop in ahead.values()):
        return program, frozenset()
    types = shapes(program)
    copies: list[str] = []
    ops: list[Op] = []
    moved: dict[int, int] = {}
    names: dict[str, str] = {}  # in the loop at hand
    inside = range(0)
    for index, op in enumerate(program.ops):
        if index in ahead:
            loop = ahead[index]
            inside = range(loop.first, loop.index + 1)
            names = {}
            for old, _ in loop.carry:
                kept = _maker(program, old).kind in ("LOAD", "WINNERS", "TOKEN") or old == program.logits
                kept |= any(o.kind == "STORE" and old in o.ins for o in program.ops)
                if kept or any(old in o.ins for o in program.ops[inside.stop :]):
                    names[old] = f"{old}.in.{program.ops[loop.index].out}"
                    attrs: dict[str, int | str] = {"shift": 0, "dtype": types[old][0]}
                    ops.append(Op("REQUANT", names[old], (old,), attrs))
                    copies.append(names[old])
        if index not in inside:
            names = {}
        moved[index] = len(ops)
        ops.append(replace(op, ins=tuple(names.get(name, name) for name in op.ins)) if names else op)
    moved[len(program.ops)] = len(ops)
    return replace(program, ops=tuple(_moved(ops, moved))), frozenset(copies)


def _maker(program: Program, value: str) -> Op:
    return next(op for op in program.ops if op.out == value and KINDS[op.kind].result)


def _copy_stores(program: Program) -> tuple[Program, frozenset[str]]:
    """Return the program with copies where a value cannot be written to its state at once, and the copies."""
    program = _late_stores(program)
    loaded = {op.out: op.ins[0] for op in program.ops if op.kind == "LOAD"}
    made = {op.out: i for i, op in enumerate(program.ops) if KINDS[op.kind].result}
    stored: set[str] = set()
    copies: list[str] = []
    ops: list[Op] = []
    moved = {0: 0}
    types = shapes(program) if any(op.kind == "STORE" for op in program.ops) else {}
    for index, op in enumerate(program.ops):
        if op.kind == "STORE":
            value = op.ins[0]
            between = program.ops[_written(program, value, made) + 1 : index]
            late = any(loaded.get(v) == op.out for o in between if o.kind != "LOAD" for v in o.ins)
            if value in loaded or value in stored or late:
                copy = f"{value}.to.{op.out}"
                dtype = types[value][0]
                ops.append(Op("REQUANT", copy, (value,), {"shift": 0, "dtype": dtype}))
                op = replace(op, ins=(copy,))
                copies.append(copy)
            stored.add(value)
        ops.append(op)
        moved[index + 1] = len(ops)
    if not copies:
        return program, frozenset()
    return replace(program, ops=tuple(_moved(ops, moved))), frozenset(copies)


def _late_stores(program: Program) -> Program:
    """Return the program with each STORE behind the last op that reads what was in the state before.

    One outside of loops goes behind the whole loop that reads it. States that hand their values on (t2 = t1,
    t1 = token) are stored from the last to the first.
    """
    ops = program.ops
    loaded = {op.out: op.ins[0] for op in ops if op.kind == "LOAD"}
    touched = {op.ins[0]: i for i, op in enumerate(ops) if op.kind == "LOAD"}
    end = {at: loop.index for loop in loops_of(ops) for at in loop.body}
    places = [(at, 0) for at in range(len(ops))]  # behind that op; of several there, the lowest first
    movable = [
        i for i, op in enumerate(ops) if op.kind == "STORE" and i not in end and touched.get(op.out, i) < i
    ]
    for _ in range(len(movable) + 1):
        before = list(places)
        for i in movable:
            readers = [
                j for j, op in enumerate(ops) if j != i and any(loaded.get(v) == ops[i].out for v in op.ins)
            ]
            place, level = max(
                ((end.get(before[j][0], before[j][0]), before[j][1]) for j in readers), default=(i, 0)
            )
            if place > i:
                places[i] = place, level + 1
        if places == before:
            break
    else:
        return program  # states that change places
    order = sorted(range(len(ops)), key=lambda i: places[i])
    if order == list(range(len(ops))):
        return program
    return replace(program, ops=tuple(_moved((ops[i] for i in order), _ends(order))))


def _ends(order: Sequence[int]) -> dict[int, int]:
    """Return where each op, and the end of the program, is in ``order``."""
    return {i: at for at, i in enumerate(order)} | {len(order): len(order)}


def _written(program: Program, value: str, made: Mapping[str, int]) -> int:
    """Index of the op with which ``value`` comes to the banks: winners come there for their first reader."""
    first = made[value]
    if program.ops[first].kind != "WINNERS":
        return first
    return next(
        i for i, op in enumerate(program.ops) if i > first and value in op.ins and not digits_only(op, value)
    )


def digits_only(op: Op, value: str) -> bool:
    """Return whether ``op`` takes ``value`` from the address list."""
    match op.kind:
        case "MEM_READ":
            return True
        case "MEM_UPDATE":
            return value not in op.ins[-1:]
        case "MASK":
            return value not in op.ins[:1]
    return False


# ---- groups -------------------------------------------------------------------------------------------


def _pad_groups(
    given: tuple[Program, frozenset[str]],
    geometry: Geometry,
    original: Program,
    parts: Mapping[str, tuple[str, int]],
) -> Lowered:
    """Return the program with zeros behind each group of a vector whose groups do not end with a slot."""
    program, copies = given
    if not any(op.kind in ("WINNERS", "MASK") for op in program.ops):
        return Lowered(original, program, copies, parts=parts)
    types = shapes(program)
    groups: dict[str, int] = {}  # vector: its groups
    sizes: dict[str, int] = {}  # result of WINNERS: elements of a group
    for op in program.ops:
        if op.kind in ("WINNERS", "MASK"):
            count = op.integer("groups") if op.kind == "WINNERS" else types[op.ins[1]][1]
            size = types[op.ins[0]][1] // count
            for name in (op.ins[0],) if op.kind == "WINNERS" else (op.ins[0], op.out):
                if count > 1 and size % geometry.columns and groups.setdefault(name, count) != count:
                    raise IllegalProgram(
                        f"{name!r} is searched in {groups[name]} and in {count} groups, which do not end with"
                        f" the {geometry.columns} columns of {geometry.name}"
                    )
            if op.kind == "WINNERS":
                sizes[op.out] = size
    if not groups:
        return Lowered(original, program, copies, groups=sizes, parts=parts)
    _spread(program, groups)
    ops, consts = [], dict(program.consts)
    for index, op in enumerate(program.ops):
        ops.append(_pad(index, op, groups, consts, types, geometry))
    used = {name for op in ops for name in op.attrs.values() if isinstance(name, str)}
    program = replace(program, ops=tuple(ops), consts={k: v for k, v in consts.items() if k in used})
    return Lowered(original, program, copies, sizes, frozenset(groups), parts)


def _spread(program: Program, groups: dict[str, int]) -> None:
    """Give every value that elementwise ops connect with a grouped one the same groups."""
    while True:
        before = len(groups)
        for op in program.ops:
            if op.kind in ELEMENTWISE:
                names = (*op.ins, op.out)
                count = next((groups[name] for name in names if name in groups), None)
                if count is not None:
                    groups |= {name: groups.get(name, count) for name in names}
        if len(groups) == before:
            break


def _pad(
    index: int,
    op: Op,
    groups: Mapping[str, int],
    consts: dict[str, npt.NDArray[Any]],
    types: Mapping[str, tuple[str, int]],
    geometry: Geometry,
) -> Op:
    """Return the op on vectors with gaps; a matrix gets rows and columns of zeros for them."""
    touched = [name for name in (*op.ins, op.out) if name in groups]
    if not touched or op.kind in ("WINNERS", "MASK"):
        return op
    if op.kind in ELEMENTWISE and len({groups.get(name) for name in (*op.ins, op.out)}) == 1:
        return op
    if op.kind != "TMATVEC":
        name = touched[0]
        size = types[name][1] // groups[name]
        raise IllegalProgram(
            f"op {index} {op.kind} {op.out!r}: {name!r} is searched in groups of {size}, which do not end"
            f" with the {geometry.columns} columns of {geometry.name}, and is used otherwise",
            f"make groups of a multiple of {geometry.columns} elements",
        )
    trits = consts[op.text("weights")]
    name = op.text("weights")
    for axis, value in ((0, op.out), (1, op.ins[0])):
        if value in groups:
            trits = with_gaps(trits, axis, groups[value], geometry.columns)
            name = f"{name}.by{groups[value]}{'rc'[axis]}"
    consts[name] = trits
    return replace(op, attrs=dict(op.attrs) | {"weights": name})


def with_gaps(array: npt.NDArray[Any], axis: int, groups: int, columns: int) -> npt.NDArray[Any]:
    """Return ``array`` with zeros behind each of ``groups`` equal parts of ``axis``, up to whole slots."""
    moved = np.moveaxis(array, axis, 0)
    size = len(moved) // groups
    full = -(-size // columns) * columns
    out = np.zeros((groups, full, *moved.shape[1:]), array.dtype)
    out[:, :size] = moved.reshape(groups, size, *moved.shape[1:])
    return np.moveaxis(out.reshape(groups * full, *moved.shape[1:]), 0, axis)
