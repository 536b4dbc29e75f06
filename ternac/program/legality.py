"""Check that a program may run: names, types, lengths, attributes and value ranges of every op.

:func:`check` raises IllegalProgram with op index, name and reason.  An executor runs only what passed, and
may rely on it: no intermediate overflows 32 bits (64 in REQUANT with a multiplier and in ops of imports),
no index leaves its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy.typing as npt

from ternac.errors import IllegalProgram
from ternac.limits import (
    MAX_CONSTS,
    MAX_MEMORY_BYTES,
    MAX_META,
    MAX_OPS,
    MAX_STATE_WORDS,
    MAX_STATES,
    MAX_STEPS,
    MAX_TOKENIZER,
    MAX_TRITS,
)
from ternac.program.loops import Loop, read_loop
from ternac.program.memory_ops import MAX_ROWS
from ternac.program.numerics import MAX_DIM, MAX_SHIFT
from ternac.program.ops import (
    KINDS,
    MAX_NAME,
    Memory,
    Refused,
    Role,
    Scope,
    Value,
    check_name,
    memory_of,
    state_read,
    state_written,
)
from ternac.program.program import TOKENIZER_TENSOR, Program
from ternac.program.special import SpecialTokens
from ternac.program.strict_json import BadJson, check_data, dump

TOKENIZERS = ("bytes", "huggingface")


def check(program: Program) -> None:
    """Raise IllegalProgram unless the program is legal."""
    infer(program)


def shapes(program: Program) -> dict[str, tuple[str, int]]:
    """Value name to (dtype, length); raises IllegalProgram like :func:`check`."""
    return {name: (value.dtype, value.length) for name, value in infer(program).items()}


def infer(program: Program) -> dict[str, Value]:
    """Value name to its type, in program order; raises IllegalProgram."""
    _check_frame(program)
    _check_consts(program)
    loops = {loop.first: loop for loop in _loops(program)}
    walk, index = _Walk(program), 0
    while index < len(program.ops):
        loop = loops.get(index)
        if loop is None:
            walk.op(index)
            index += 1
        else:
            walk.loop(loop)
            index = loop.index + 1
    for name in (*program.states, *program.memories):
        if name not in walk.home:
            which = "memory" if name in program.memories else "state"
            uses = "reads or updates" if name in program.memories else "loads or stores"
            raise IllegalProgram(f"{which} {name}: no op {uses} it")
    roles = program.roles()
    for name in program.consts:
        if name not in roles:
            raise IllegalProgram(f"constant {name}: no op uses it")
    logits = walk.values.get(program.logits) if isinstance(program.logits, str) else None
    if logits is None:
        raise IllegalProgram(f"logits: no op defines {program.logits!r}")
    if (logits.dtype, logits.length) != ("i16", program.vocab):
        raise IllegalProgram(
            f"logits: {program.logits} is {logits.dtype}[{logits.length}], not i16[{program.vocab}]"
        )
    return walk.values


def _illegal(program: Program, index: int, reason: object) -> IllegalProgram:
    op = program.ops[index]
    return IllegalProgram(f"op {index} ({op.kind} {str(op.out)[:MAX_NAME]}): {reason}")


def _loops(program: Program) -> list[Loop]:
    """The loops of a program; raises IllegalProgram if one breaks a rule of its own, or all run too long."""
    found: list[Loop] = []
    steps = len(program.ops)
    for index, op in enumerate(program.ops):
        if op.kind == "LOOP":
            try:
                loop = read_loop(index, op, found[-1].index + 1 if found else 0)
                found.append(loop)
                steps += (loop.most - 1) * len(loop.body)
                if steps > MAX_STEPS:
                    raise Refused(f"with its runs a token has {steps} ops to run, limit {MAX_STEPS}")
            except Refused as reason:
                raise _illegal(program, index, reason) from None
    return found


@dataclass(frozen=True)
class _Part:
    """A program as one run of a loop with levels sees it: a part of every state and memory."""

    program: Program
    parts: int

    @property
    def vocab(self) -> int:
        return self.program.vocab

    @property
    def consts(self) -> Mapping[str, npt.NDArray[Any]]:
        return self.program.consts

    @cached_property
    def states(self) -> dict[str, int]:
        return {name: length // self.parts for name, length in self.program.states.items()}

    @cached_property
    def memories(self) -> dict[str, Memory]:
        memories = self.program.memories.items()
        return {name: replace(memory, rows=memory.rows // self.parts) for name, memory in memories}


class _Walk:
    """Types and bounds of the values so far, the names taken, and where each state and memory is used."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values: dict[str, Value] = {}
        self.labels: set[str] = set()
        self.home: dict[str, Loop | None] = {}

    def op(self, index: int, loop: Loop | None = None, scope: Scope | None = None) -> None:
        """Take the op's result in; raises IllegalProgram if it breaks a rule."""
        op, scope = self.program.ops[index], scope or self.program
        try:
            kind = KINDS.get(op.kind)
            if kind is None:
                raise Refused(f"op kind {op.kind} is unknown")
            kind.check_attrs(op)
            check_name(op.out)
            result = kind.infer(op, self.values, scope)
            for name in (state_read(op), state_written(op), memory_of(op)):
                if name is not None and name not in self.program.consts:
                    self._use(name, loop)
            if kind.result:
                self._take(op.out)
                self.values[op.out] = result
            elif not kind.state:
                self._take(op.out)
                self.labels.add(op.out)
        except Refused as reason:
            raise _illegal(self.program, index, reason) from None

    def loop(self, loop: Loop) -> None:
        """Take the body's results in, with bounds that hold in every run.

        A carried value is first taken to be what it is before the loop, then also what the body makes of
        that, then anything that its dtype holds: the first assumption that the body keeps is proven.
        """
        before, labels = dict(self.values), set(self.labels)
        scope: Scope = _Part(self.program, loop.times) if loop.levels else self.program
        try:
            for old, _ in loop.carry:
                if old not in before:
                    raise Refused(f"carried value {str(old)[:MAX_NAME]!r} is not defined before its body")
            assumed = {old: before[old] for old, _ in loop.carry}
            for attempt in range(3):
                self.values, self.labels = before | assumed, set(labels)
                for index in loop.body:
                    self.op(index, loop, scope)
                made = {old: self._made(loop, old, new, before) for old, new in loop.carry}
                if all(
                    value.low >= assumed[o].low and value.high <= assumed[o].high for o, value in made.items()
                ):
                    break
                assumed = {
                    old: replace(
                        value, low=min(value.low, assumed[old].low), high=max(value.high, assumed[old].high)
                    )
                    if attempt == 0
                    else Value.full(value.dtype, value.length)
                    for old, value in made.items()
                }
            self.values |= {old: before[old] for old, _ in loop.carry}
            name = self.program.ops[loop.index].out
            check_name(name)
            self._take(name)
            self.labels.add(name)
        except Refused as reason:
            raise _illegal(self.program, loop.index, reason) from None

    def _made(self, loop: Loop, old: str, new: str, before: Mapping[str, Value]) -> Value:
        """What takes the place of ``old`` in the next run."""
        value, was = self.values.get(new), before[old]
        if value is None or new in before:
            raise Refused(f"{str(new)[:MAX_NAME]!r}, carried to {old}, is not defined in its body")
        if (value.dtype, value.length) != (was.dtype, was.length):
            found = f"{value.dtype}[{value.length}]"
            raise Refused(f"{new} is {found}, {old}, to which it is carried, {was.dtype}[{was.length}]")
        return value

    def _use(self, name: str, loop: Loop | None) -> None:
        """Note that a state or memory is used in a loop; one with levels has it for itself, in parts."""
        first = self.home.setdefault(name, loop)
        if first is not loop:
            owner = next((one for one in (first, loop) if one is not None and one.levels), None)
            if owner is not None:
                raise Refused(
                    f"{name} has a part for each run of the LOOP at op {owner.index}, no other op may use it"
                )
        if loop is not None and loop.levels:
            memory = self.program.memories.get(name)
            size, what = (memory.rows, "rows") if memory else (self.program.states[name], "words")
            if size % loop.times:
                raise Refused(
                    f"{name} has {size} {what}, needs a multiple of {loop.times}: a part for each run"
                )

    def _take(self, name: str) -> None:
        program = self.program
        taken = (self.values, self.labels, program.consts, program.states, program.memories)
        if any(name in names for names in taken):
            raise Refused("its name is already taken")


def _check_frame(program: Program) -> None:
    """Everything outside the ops: names, counts, states, tokenizer, special tokens."""
    try:
        for name in (program.name, *program.states, *program.consts, *program.memories):
            check_name(name)
    except Refused as reason:
        raise IllegalProgram(str(reason)) from None
    limits = (
        ("vocab", program.vocab, 1, MAX_DIM),
        ("logit_scale_bits", program.logit_scale_bits, 0, MAX_SHIFT),
        ("number of ops", len(program.ops), 1, MAX_OPS),
        ("number of constants", len(program.consts), 0, MAX_CONSTS),
        ("number of states", len(program.states), 0, MAX_STATES),
        *((f"length of state {name}", length, 1, MAX_DIM) for name, length in program.states.items()),
        ("number of memories", len(program.memories), 0, MAX_STATES),
    )
    for what, value, low, high in limits:
        if type(value) is not int or not low <= value <= high:
            raise IllegalProgram(f"{what} is {value!r}, outside {low}..{high}")
    words = sum(program.states.values())
    if words > MAX_STATE_WORDS:
        raise IllegalProgram(f"{words} words of state, limit {MAX_STATE_WORDS}")
    for name in program.states:
        if name in program.consts:
            raise IllegalProgram(f"state {name}: its name is already taken")
    _check_memories(program)
    try:
        check_data(dict(program.meta), "meta")
        size = len(dump(dict(program.meta)))
    except BadJson as reason:
        raise IllegalProgram(str(reason)) from None
    try:
        SpecialTokens.parse(program.meta, program.vocab)
    except ValueError as reason:
        raise IllegalProgram(str(reason)) from None
    if size > MAX_META:
        raise IllegalProgram(f"meta has {size} bytes, limit {MAX_META}")
    tokenizer = program.meta.get("tokenizer")
    if tokenizer is not None and tokenizer not in TOKENIZERS:
        raise IllegalProgram(f"tokenizer {str(tokenizer)[:40]!r} is not supported by this version")
    if tokenizer == "bytes" and program.vocab != 256:
        raise IllegalProgram(f"tokenizer 'bytes' needs a vocabulary of 256, not {program.vocab}")
    if (tokenizer == "huggingface") != bool(program.tokenizer):
        holds = f"{len(program.tokenizer)} bytes of tokenizer.json"
        raise IllegalProgram(f"tokenizer {str(tokenizer)[:40]!r} does not go with {holds}")
    if len(program.tokenizer) > MAX_TOKENIZER:
        raise IllegalProgram(f"the tokenizer has {len(program.tokenizer)} bytes, limit {MAX_TOKENIZER}")
    if program.tokenizer and TOKENIZER_TENSOR in program.consts:
        raise IllegalProgram(f"constant {TOKENIZER_TENSOR}: the name is the tokenizer's")


def _check_memories(program: Program) -> None:
    """Raise IllegalProgram unless the memories have legal names, shapes and types, and fit together."""
    for name, memory in program.memories.items():
        if name in program.consts or name in program.states:
            raise IllegalProgram(f"memory {name}: its name is already taken")
        if memory.dtype not in ("i8", "i16"):
            raise IllegalProgram(f"memory {name}: dtype is {str(memory.dtype)[:40]!r}, not 'i8' or 'i16'")
        for what, side, high in (("rows", memory.rows, MAX_ROWS), ("width", memory.width, MAX_DIM)):
            if type(side) is not int or not 1 <= side <= high:
                raise IllegalProgram(f"memory {name}: {what} is {side!r}, outside 1..{high}")
        if memory.dtype == "i8" and memory.width % 2:
            raise IllegalProgram(f"memory {name}: width is {memory.width}, i8 needs an even one")
    size = sum(2 * memory.words for memory in program.memories.values())
    if size > MAX_MEMORY_BYTES:
        raise IllegalProgram(f"the memories of a session have {size} bytes, limit {MAX_MEMORY_BYTES}")


def _check_consts(program: Program) -> None:
    """Raise IllegalProgram unless every constant has one role, and the type and contents of that role."""
    roles: dict[str, Role] = {}
    for index, op in enumerate(program.ops):
        kind = KINDS.get(op.kind)
        for attr, role in kind.constants.items() if kind else ():
            name = op.attrs.get(attr)
            if isinstance(name, str) and roles.setdefault(name, role) != role:
                where = f"op {index} ({op.kind} {op.out})"
                raise IllegalProgram(f"{where}: {name} is already used as {roles[name].name}")
    for name, role in roles.items():
        try:
            if name in program.consts:  # one that is missing is refused at its op
                role.check(name, program.consts[name])
        except Refused as reason:
            raise IllegalProgram(str(reason)) from None
    if program.trits > MAX_TRITS:
        raise IllegalProgram(f"{program.trits} ternary weights, limit {MAX_TRITS}")
