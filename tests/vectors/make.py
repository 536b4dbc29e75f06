"""Writes the frozen test vectors beside this file.  Run it only when the numerics change on purpose.

    python tests/vectors/make.py

``ops.json``: one case per line, inputs with attributes and the result, for every op and for sampling.
``lm-*.safetensors`` and ``lm-*.json``: two small programs and what they do on a fixed text: logits of every
token, the state after the last.  ``tests/unit/test_vectors.py`` holds the implementation to them; any other
executor can be held to them the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ternac import numerics as nu
from ternac.executor import NumpyExecutor
from ternac.program import save
from ternac.random_program import random_program, sigmoid_table, silu_table
from ternac.sampling import Sampling, choose

HERE = Path(__file__).parent
I16_EDGES = [
    -32768,
    -32767,
    -129,
    -128,
    -127,
    -65,
    -64,
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    63,
    64,
    127,
    128,
    32766,
    32767,
]
I8_EDGES = [-128, -127, -64, -2, -1, 0, 1, 2, 63, 64, 126, 127]


def integers(rng: np.random.Generator, low: int, high: int, count: int) -> list[int]:
    return [int(v) for v in rng.integers(low, high + 1, count)]


def op_cases(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Edge values and random ones for every op."""
    for shift in range(9):
        yield {"op": "GATHER", "row": I8_EDGES, "shift": shift, "out": nu.gather(I8_EDGES, shift).tolist()}
    acc = [-65535 * 128, 65535 * 128, *I16_EDGES, *integers(rng, -(1 << 23), 1 << 23, 8)]
    for shift, dtype in ((0, "i8"), (0, "i16"), (1, "i8"), (5, "i8"), (5, "i16"), (15, "i16"), (31, "i16")):
        for mult in (1, 3, 23170, (1 << 31) - 1):
            out = nu.requant(np.array(acc), shift, dtype, mult).tolist()
            yield {"op": "REQUANT", "x": acc, "shift": shift, "dtype": dtype, "multiplier": mult, "out": out}
    for name, entries in (("sigmoid", sigmoid_table()), ("silu", silu_table())):
        codes = list(range(-128, 128))
        yield {"op": "TABLE", "name": name, "x": codes, "table": entries.tolist(), "out": entries.tolist()}
    b = [-256, -255, -1, 0, 1, 255, *integers(rng, -256, 255, 14)]
    for shift, dtype in ((0, "i8"), (0, "i16"), (7, "i8"), (8, "i16"), (12, "i8"), (31, "i16")):
        out = nu.mul(I16_EDGES, b, shift, dtype).tolist()
        yield {"op": "MUL", "a": I16_EDGES, "b": b, "shift": shift, "dtype": dtype, "out": out}
    for dtype in ("i8", "i16"):
        other = [*reversed(I16_EDGES[:10]), *I16_EDGES[10:]]
        out = nu.add(I16_EDGES, other, dtype).tolist()
        yield {"op": "ADD", "a": I16_EDGES, "b": other, "dtype": dtype, "out": out}
    for f in (0, 1, 127, 128, 129, 254, 255):
        c = I16_EDGES[::-1]
        out = nu.lerp(I16_EDGES, c, [f] * len(c)).tolist()
        yield {"op": "LERP", "h": I16_EDGES, "c": c, "f": [f] * len(c), "out": out}
    for m, k in ((3, 1), (4, 7), (2, 64)):
        trits = rng.integers(-1, 2, (m, k)).astype(np.int8)
        x = integers(rng, -128, 127, k)
        yield {"op": "TMATVEC", "trits": trits.tolist(), "x": x, "out": nu.tmatvec(trits, x).tolist()}
    table = nu.norm_table(200)
    vectors = [[0] * 4, [1], [-1, 1], [127 << 4, -5], [32767] * 5, [-32768] * 7, I16_EDGES]
    vectors += [
        integers(rng, -(1 << bits), (1 << bits) - 1, n) for bits, n in ((3, 6), (8, 9), (11, 33), (15, 16))
    ]
    for x in vectors:
        for pre, post in ((0, 0), (0, 20), (4, 2), (15, 7)):
            out = nu.norm(np.array(x), pre, post, table).tolist()
            yield {"op": "NORM", "x": x, "pre": pre, "post": post, "mantissa": 200, "out": out}
    for m, s, top_k in ((160, 8, 0), (255, 0, 0), (1, 31, 0), (128, 6, 5), (200, 7, 1)):
        rng_state = 1
        for _ in range(6):
            logits = integers(rng, -700, 700, 12)
            token, after = choose(np.array(logits), Sampling(False, m, s, top_k), rng_state)
            case = {"op": "sample", "logits": logits, "m": m, "s": s, "top_k": top_k, "rng": rng_state}
            yield case | {"token": token, "rng_out": after}
            rng_state = after


def write_program(name: str, seed: int, **sizes: int) -> None:
    """A random program and the record of one session on it."""
    rng = np.random.default_rng(seed)
    program = random_program(rng, **sizes)
    executor = NumpyExecutor(program)
    state, tokens = executor.open(1), integers(rng, 0, program.vocab - 1, 24)
    logits = [executor.step(state, [token])[0].tolist() for token in tokens]
    save(program, HERE / f"{name}.safetensors")
    record = {"hash": program.hash, "tokens": tokens, "logits": logits, "state": state[0].tolist()}
    (HERE / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def main() -> None:
    """Write everything."""
    lines = [json.dumps(case, separators=(",", ":")) for case in op_cases(np.random.default_rng(2024))]
    (HERE / "ops.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    write_program("lm-small", 1, d=8, m=12, layers=1, vocab=10)
    write_program("lm-odd", 2, d=23, m=37, layers=2, vocab=29)


if __name__ == "__main__":
    main()
