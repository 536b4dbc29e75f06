"""What a program costs: ops, work and memory a token, counted from its text before anything is allocated.

A legal program of some hundred kilobytes can describe a token that takes minutes: many ops on long vectors,
or one matrix used by thousands of ops. `refuse_costly` compares with the budgets of `ternac.limits`, which
grow with the file. Work is counted in multiply-adds of a ternary product; the weights of other ops are
measured with the NumPy executor, the slowest, on one thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ternac import limits
from ternac.program.loops import loops_of
from ternac.program.op_kind import Value
from ternac.program.ops import KINDS, Op
from ternac.program.program import Program

ELEMENT_WORK = 16
"""Of an element that any other op reads or makes: 15 ns, where a multiply-add takes 1."""
OP_WORK = 4096
"""Of calling an op, however short its vectors: 4 us."""
OP_BYTES = 4096
"""Objects that executors keep for an op: names, closures, views."""
VALUE_BYTES = 8
"""Of an element of a value: all values of a token are kept to its end, as int32 or int64."""
PRODUCT_BYTES = 4
"""Of a trit in a product: NumPy's matrices are float32, for each op its own."""


@dataclass(frozen=True)
class Cost:
    """Ops and multiply-adds of a token, loops as often as they may run; bytes to open it and run one."""

    steps: int
    work: int
    memory: int


def refuse_long_check(program: Program, size: int) -> None:
    """Raise OverBudget if the check of a program, of a file of ``size`` bytes, would take too long.

    The program need not be legal.
    """
    limits.STEPS.require(len(program.ops), f"program {str(program.name)[:96]}", size)
    read = 0
    for op in program.ops:
        kind = KINDS.get(op.kind)
        for attr in kind.memories if kind else ():  # the range of rows is looked for at each op
            name = op.attrs.get(attr)
            if isinstance(name, str) and name in program.consts:
                read += program.consts[name].nbytes
    limits.CHECK_WORK.require(read, f"program {str(program.name)[:96]}", size)


def refuse_costly(program: Program, values: Mapping[str, Value], size: int) -> None:
    """Raise OverBudget if a legal program, of a file of ``size`` bytes, costs more than such a file may.

    ``values``: its values' types, as `ternac.program.legality.infer` returns them.
    """
    cost = cost_of(program, values)
    what = f"program {program.name}"
    limits.STEPS.require(cost.steps, what, size)
    limits.WORK.require(cost.work, what, size)
    limits.MEMORY.require(cost.memory, what, size)


def cost_of(program: Program, values: Mapping[str, Value]) -> Cost:
    """Return what a legal program costs; ``values`` as in `refuse_costly`."""
    often = [1] * len(program.ops)
    for loop in loops_of(program.ops):
        for index in loop.body:
            often[index] = loop.most
    work = memory = 0
    for op, times in zip(program.ops, often, strict=True):
        work += times * _work(op, program, values)
        memory += _bytes(op, program, values)
    memory += sum(array.nbytes for array in program.consts.values()) + len(program.tokenizer)
    return Cost(sum(often), work, memory + 2 * program.state_words)


def _work(op: Op, program: Program, values: Mapping[str, Value]) -> int:
    kind = KINDS[op.kind]
    if kind.is_product:
        weights = sum(program.consts[op.text(name)].size for name in kind.constants)
        return OP_WORK + weights
    if kind.structure:
        return OP_WORK
    ins = () if kind.state == "in" else op.ins
    elements = sum(values[name].length for name in ins)
    elements += values[op.out].length if kind.result else 0
    if kind.memories:  # a row for each digit of the address
        width = values[op.out if kind.result else op.ins[-1]].length
        elements += 2 * values[op.ins[0]].length * width
    return OP_WORK + ELEMENT_WORK * elements


def _bytes(op: Op, program: Program, values: Mapping[str, Value]) -> int:
    kind, found = KINDS[op.kind], OP_BYTES
    for name, role in kind.constants.items():
        array = program.consts.get(op.text(name))
        if array is not None and kind.is_product:
            found += PRODUCT_BYTES * array.size
        elif array is not None and role.widened is not None:
            found += array.size * role.widened(0).itemsize
    return found + (VALUE_BYTES * values[op.out].length if kind.result else 0)
