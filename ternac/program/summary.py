"""Summarize a program, as plain data and as lines of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

from ternac.program.legality import shapes
from ternac.program.loops import loops_of
from ternac.program.ops import memory_of, memory_written, state_read, state_written
from ternac.program.program import Program


def summary(program: Program) -> dict[str, Any]:
    """Return sizes, counts and metadata of ``program``, ready for JSON."""
    trits = [program.consts[name] for name, role in program.roles().items() if role == "trits"]
    return {
        "name": program.name,
        "hash": program.hash,
        "file_sha256": program.file_hash,
        "vocab": program.vocab,
        "trits": program.trits,
        "zeros": sum(int((t == 0).sum()) for t in trits) / max(1, program.trits),
        "bytes_2bit": sum(math.ceil(t.size / 4) for t in trits),
        "state_words": program.state_words,
        "states": dict(program.states),
        "memories": memory_summary(program),
        "constant_rows": constant_rows_summary(program),
        "loops": loop_summary(program),
        "ops": dict(Counter(op.kind for op in program.ops)),
        "constants": {
            name: {"role": role, "shape": list(program.consts[name].shape)}
            for name, role in program.roles().items()
        },
        "logit_scale_bits": program.logit_scale_bits,
        "meta": dict(program.meta),
        "tokenizer_bytes": len(program.tokenizer),
    }


def memory_summary(program: Program) -> dict[str, dict[str, Any]]:
    """Return for each memory its sizes, its bytes in a session, and the ops that read and update it."""
    return {
        name: {
            "rows": memory.rows,
            "width": memory.width,
            "dtype": memory.dtype,
            "bytes": 2 * memory.words,
            "read_by": [op.out for op in program.ops if memory_of(op) == name and not memory_written(op)],
            "updated_by": [op.out for op in program.ops if memory_written(op) == name],
        }
        for name, memory in program.memories.items()
    }


def constant_rows_summary(program: Program) -> dict[str, dict[str, Any]]:
    """Return for each constant that MEM_READ reads its sizes, its bytes in the file, and the ops that do."""
    return {
        name: {
            "rows": len(program.consts[name]),
            "width": program.consts[name].shape[1],
            "bytes": int(program.consts[name].nbytes),
            "read_by": [op.out for op in program.ops if op.attrs.get("rows") == name],
        }
        for name, role in program.roles().items()
        if role == "rows"
    }


def loop_summary(program: Program) -> list[dict[str, Any]]:
    """Return for each LOOP its runs, the most that a request may ask for, and what it repeats.

    ``ops``: first and last op of the body. ``carry``: pairs old, new. ``memories`` and ``states``: used by
    the body; with ``levels`` each run has a part of its own.
    """
    return [
        {
            "name": program.ops[loop.index].out,
            "times": loop.times,
            "most": loop.most,
            "levels": loop.levels,
            "ops": [loop.body.start, loop.body.stop - 1],
            "carry": [list(pair) for pair in loop.carry],
            "memories": _used(program.memories, [memory_of(program.ops[at]) for at in loop.body]),
            "states": _used(
                program.states,
                [state_read(program.ops[at]) or state_written(program.ops[at]) for at in loop.body],
            ),
        }
        for loop in loops_of(program.ops)
    ]


def _used(declared: Iterable[str], names: Collection[str | None]) -> list[str]:
    """Those of ``declared`` that are among ``names``, in their order."""
    return [name for name in declared if name in names]


def op_lines(program: Program) -> list[str]:
    """Return one line per op: index, result with its type, kind, inputs, attributes."""
    types = shapes(program)
    lines = []
    for index, op in enumerate(program.ops):
        attrs = " ".join(f"{key}={value}" for key, value in op.attrs.items())
        inside = ", ".join(op.ins)
        shown = types.get(op.ins[0] if op.kind == "STORE" else op.out)
        what = f"{shown[0]}[{shown[1]}]" if shown else "-"
        lines.append(f"{index:4d}  {op.out:<14} {what:<10} = {op.kind}({inside}) {attrs}".rstrip())
    return lines
