"""Summarize a program, as plain data and as lines of text."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from ternac.program.legality import shapes
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
        "memories": {
            name: {"rows": m.rows, "width": m.width, "dtype": m.dtype, "bytes": 2 * m.words}
            for name, m in program.memories.items()
        },
        "ops": dict(Counter(op.kind for op in program.ops)),
        "constants": {
            name: {"role": role, "shape": list(program.consts[name].shape)}
            for name, role in program.roles().items()
        },
        "logit_scale_bits": program.logit_scale_bits,
        "meta": dict(program.meta),
        "tokenizer_bytes": len(program.tokenizer),
    }


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
