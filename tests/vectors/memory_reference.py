"""Memories and loops in plain Python integers, token by token: written from docs/numerics.md and program.md.

It shares nothing with the package but the program's own data: no NumPy arithmetic, no op's function, no order
of evaluation of an executor.  `make.py` writes the frozen vectors of memories with it.
"""

from __future__ import annotations

from typing import Any

from ternac.program.ops import Op
from ternac.program.program import Program

LIMITS = {"i8": (-128, 127), "i16": (-32768, 32767)}


def sat(x: int, dtype: str) -> int:
    low, high = LIMITS[dtype]
    return low if x < low else high if x > high else x


def shift_round(x: int, s: int) -> int:
    return (x + (1 << s >> 1)) // (1 << s)


def winners(x: list[int], groups: int) -> list[int]:
    size = len(x) // groups
    found = []
    for g in range(groups):
        best = 0
        for j in range(1, size):
            if x[g * size + j] > x[g * size + best]:
                best = j
        found.append(best)
    return found


def masked(x: list[int], w: list[int]) -> list[int]:
    size = len(x) // len(w)
    return [e if i % size == w[i // size] % size else 0 for i, e in enumerate(x)]


def addresses(digits: list[list[int]], bits: int, shared: int) -> list[int]:
    region, rows = 2 ** (bits * len(digits)), []
    for k in range(len(digits[0])):
        local = 0
        for one in digits:
            local = local * 2**bits + one[k] % 2**bits
        rows.append(local if shared else k * region + local)
    return rows


def read(rows: list[list[int]], digits: list[list[int]], bits: int, shared: int) -> list[int]:
    return [sum(rows[at][i] for at in addresses(digits, bits, shared)) for i in range(len(rows[0]))]


def update(
    rows: list[list[int]], digits: list[list[int]], e: list[int], bits: int, keep: int, dtype: str
) -> None:
    for at in addresses(digits, bits, 0):
        rows[at] = [
            sat(x - (shift_round(x, keep) if keep else 0) - y, dtype)
            for x, y in zip(rows[at], e, strict=True)
        ]


class Reference:
    """One session of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.states = {name: [0] * length for name, length in program.states.items()}
        self.memories = {
            name: [[0] * memory.width for _ in range(memory.rows)]
            for name, memory in program.memories.items()
        }
        self.values: dict[str, list[int]] = {}
        self.consts = {name: array.tolist() for name, array in program.consts.items()}

    def step(self, token: int, loops: int | None = None) -> list[int]:
        """Feed a token; returns the logits, and leaves every value in ``values``."""
        ops, at, v = self.program.ops, 0, self.values
        v.clear()
        bodies = {int(op.attrs["first"]): (i, op) for i, op in enumerate(ops) if op.kind == "LOOP"}
        while at < len(ops):
            if at not in bodies:
                self._op(ops[at], token, 0, 1)
                at += 1
                continue
            end, loop = bodies[at]
            levels, times = loop.attrs["levels"], int(loop.attrs["times"])
            outside = {old: v[old] for old in loop.ins[0::2]}
            for run in range(times if levels or loops is None else loops):
                if run:
                    v.update({old: v[new] for old, new in zip(loop.ins[0::2], loop.ins[1::2], strict=True)})
                for op in ops[at:end]:
                    self._op(op, token, run if levels else 0, times if levels else 1)
            v.update(outside)
            at = end + 1
        return v[self.program.logits]

    def words(self) -> list[int]:
        """The words of the session's state, as docs/program.md lays them out."""
        found = [word for state in self.states.values() for word in state]
        for name, rows in self.memories.items():
            flat = [e for row in rows for e in row]
            if self.program.memories[name].dtype == "i8":
                pairs = zip(flat[0::2], flat[1::2], strict=True)
                flat = [sat(256 * odd + even % 256, "i16") for even, odd in pairs]
            found += flat
        return found

    def _op(self, op: Op, token: int, part: int, parts: int) -> None:
        a: Any = op.attrs
        const = {key: self.consts[name] for key, name in a.items() if name in self.consts}
        if op.kind == "LOAD":
            state = self.states[op.ins[0]]
            size = len(state) // parts
            self.values[op.out] = state[part * size : (part + 1) * size]
            return
        x = [self.values[name] for name in op.ins]
        match op.kind:
            case "STORE":
                self.states[op.out][part * len(x[0]) : (part + 1) * len(x[0])] = x[0]
                return
            case "MEM_UPDATE":
                memory = self.memories[a["memory"]]
                size = len(memory) // parts
                rows = memory[part * size : (part + 1) * size]
                dtype = self.program.memories[a["memory"]].dtype
                update(rows, x[:-1], x[-1], a["bits"], a["keep"], dtype)
                memory[part * size : (part + 1) * size] = rows
                return
            case "MEM_READ":
                rows = const.get("rows")
                if rows is None:
                    memory = self.memories[a["rows"]]
                    size = len(memory) // parts
                    rows = memory[part * size : (part + 1) * size]
                out = read(rows, x, a["bits"], a["shared"])
            case "WINNERS":
                out = winners(x[0], a["groups"])
            case "MASK":
                out = masked(*x)
            case "TOKEN":
                out = [token // 256, token % 256]
            case "SUB":
                out = [sat(p - q, a["dtype"]) for p, q in zip(*x, strict=True)]
            case "ADD":
                out = [sat(p + q, a["dtype"]) for p, q in zip(*x, strict=True)]
            case "GATHER":
                out = [e * 2 ** (8 - a["shift"]) for e in const["embed"][token]]
            case "REQUANT":
                out = [sat(shift_round(e, a["shift"]), a["dtype"]) for e in x[0]]
            case "TMATVEC":
                out = [sum(t * e for t, e in zip(row, x[0], strict=True)) for row in const["weights"]]
            case _:
                raise NotImplementedError(op.kind)
        self.values[op.out] = out
