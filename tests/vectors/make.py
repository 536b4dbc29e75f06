"""Writes the frozen test vectors beside this file.  Run it only when the numerics change on purpose.

    python -m tests.vectors.make

``ops.json``, ``wide.json``, ``memory.json``: one case per line, inputs with attributes and the result, for
every op and for sampling.  ``lm-*``, ``mmfree-*``, ``memory-*``: small programs and what they do on a fixed
text: logits of every token, the state after the last.  ``coding.json``: texts as bytes of the range coder,
``archive.tnc`` an archive by ``lm-bytes``.
What is of memories and of coding is computed by ``memory_reference.py`` and ``coding_reference.py``.
``tests/program/test_vectors.py`` holds the implementation to them, ``tests/run/test_coding.py`` to the
texts; any other executor can be held to them the same way.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ternac.program import import_ops
from ternac.program import numerics as nu
from ternac.program.file import save
from ternac.program.program import Program
from ternac.program.random import curve, random_mmfree, random_program, sigmoid_table, silu_table
from ternac.program.random_memory import random_memory_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose
from tests.vectors import coding_reference as coding
from tests.vectors import memory_reference as memory

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


def wide_cases(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Edge values and random ones for every op of imports."""
    edges, other = np.array(I16_EDGES), np.array([*reversed(I16_EDGES[:10]), *I16_EDGES[10:]])
    yield {"op": "GATHER16", "row": I16_EDGES, "out": I16_EDGES}
    vectors = [[0] * 3, [1], [-1, 2], [32767], [-32768] * 9, I16_EDGES]
    vectors += [integers(rng, -(1 << bits), (1 << bits) - 1, n) for bits, n in ((2, 5), (9, 17), (15, 33))]
    for x in vectors:
        for eps, shift in ((0, 24), (1, 24), (0, 40), (1000, 27), (import_ops.MAX_EPS, 18), (5, 0)):
            out = import_ops.rmsnorm(np.array(x), eps, shift).tolist()
            yield {"op": "RMSNORM", "x": x, "eps": eps, "shift": shift, "out": out}
        yield {"op": "PEAK", "x": x, "out": import_ops.peak(np.array(x)).tolist()}
    for shift in (0, 1, 12, 15, 31):
        out = import_ops.scale(edges, other, shift).tolist()
        yield {"op": "SCALE", "x": I16_EDGES, "gain": other.tolist(), "shift": shift, "out": out}
        for dtype in ("i8", "i16"):
            out = import_ops.mul16(edges, other, shift, dtype).tolist()
            case = {"op": "MUL16", "a": I16_EDGES, "b": other.tolist(), "shift": shift, "dtype": dtype}
            yield case | {"out": out}
    for m in (0, 1, 2, 126, 127, 128, 4095, 20000, 32766, 32767):
        yield {"op": "QUANT", "x": I16_EDGES, "m": [m], "out": import_ops.quant(edges, [m]).tolist()}
    acc = [-65535 * 128, 65535 * 128, *I16_EDGES, *integers(rng, -(1 << 23), 1 << 23, 8)]
    for m, mult, shift, dtype in (
        (0, 1, 0, "i16"), (1, 1, 0, "i8"), (32767, 1, 23, "i16"), (32767, import_ops.MAX_RESCALE, 47, "i16"),
        (32767, import_ops.MAX_RESCALE, 62, "i16"), (12345, 7654321, 39, "i16"), (12345, 7654321, 44, "i8"),
    ):  # fmt: skip
        out = import_ops.rescale(np.array(acc), [m], mult, shift, dtype).tolist()
        case = {"op": "RESCALE", "x": acc, "m": [m], "multiplier": mult, "shift": shift, "dtype": dtype}
        yield case | {"out": out}
    noise = rng.integers(-32768, 32768, import_ops.CURVE_POINTS)
    for name, points in (
        ("silu", curve("silu", 12, 12)),
        ("closed", curve("closed", 11, 15)),
        ("any", noise),
    ):
        x = [*I16_EDGES, -32705, -32704, -32703, 32703, 32704, 32705, *integers(rng, -32768, 32767, 20)]
        out = import_ops.interp(np.array(x), points).tolist()
        yield {"op": "INTERP", "name": name, "x": x, "curve": points.tolist(), "out": out}
    for e in (0, 1, 2, 16383, 16384, 16385, 32766, 32767):
        weights = [e] * len(I16_EDGES)
        out = import_ops.blend(edges, edges[::-1], weights).tolist()
        yield {"op": "BLEND", "h": I16_EDGES, "c": I16_EDGES[::-1], "e": weights, "out": out}


def memory_cases(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Edge values and random ones for every op of memories; LOOP is in the programs."""
    for x, groups in (
        ([5, 5, -3, -3, -128, 127], 3), ([0] * 8, 2), (I16_EDGES, 5), (I16_EDGES[::-1], 2), (I8_EDGES, 1),
        (integers(rng, -4, 4, 64), 8), (integers(rng, -32768, 32767, 48), 3),
    ):  # fmt: skip
        yield {"op": "WINNERS", "x": x, "groups": groups, "out": memory.winners(x, groups)}
    for w in ([0, 1], [2, 5], [-1, -6], [32767, -32768]):
        x = I8_EDGES[:6] + I8_EDGES[-6:]
        yield {"op": "MASK", "x": x, "w": w, "out": memory.masked(x, w)}
    for dtype in ("i8", "i16"):
        other = [*reversed(I16_EDGES[:10]), *I16_EDGES[10:]]
        out = [memory.sat(a - b, dtype) for a, b in zip(I16_EDGES, other, strict=True)]
        yield {"op": "SUB", "a": I16_EDGES, "b": other, "dtype": dtype, "out": out}
    for token in (0, 1, 255, 256, 511, 30000, 65534):
        yield {"op": "TOKEN", "token": token, "out": [token // 256, token % 256]}
    for heads, bits, two, width in ((1, 1, False, 2), (3, 2, True, 4), (8, 3, False, 6), (2, 10, False, 2)):
        # more bits than count, both signs
        names = ("a", "b")[: 1 + two]
        digits = {name: integers(rng, -32768, 32767, heads) for name in names}
        for shared in (0, 1):
            count = (1 if shared else heads) << bits * len(names)
            rows = rng.integers(-128, 128, (count, width)).tolist()
            out = memory.read(rows, list(digits.values()), bits, shared)
            yield {"op": "MEM_READ", **digits, "rows": rows, "bits": bits, "shared": shared, "out": out}
        if bits > 3:
            continue
        for dtype, keep in (("i8", 0), ("i8", 1), ("i16", 0), ("i16", 4), ("i16", 15)):
            low, high = memory.LIMITS[dtype]
            rows = rng.integers(low, high + 1, (heads << bits * len(names), width)).tolist()
            e = integers(rng, low // 2, high // 2, width)
            out = [list(row) for row in rows]
            memory.update(out, list(digits.values()), e, bits, keep, dtype)
            case = {"op": "MEM_UPDATE", **digits, "e": e, "memory": rows, "dtype": dtype, "bits": bits}
            yield case | {"keep": keep, "out": out}


def coding_cases(rng: np.random.Generator) -> Iterator[dict[str, Any]]:
    """Texts of tokens by logits: equal ones, far ones, one token that is nearly sure, carries."""
    for vocab, scale_bits, high in (
        (1, 8, 9), (2, 0, 1), (10, 8, 700), (10, 4, 32767), (29, 8, 0), (29, 12, 32767), (300, 8, 900),
        (17, 31, 32767), (7, 6, 3),
    ):  # fmt: skip
        logits = [integers(rng, -high - 1 if high > 9 else -high, high, vocab) for _ in range(12)]
        tokens = [
            int(np.argmax(row)) if at % 3 else vocab - 1 if at % 2 else int(rng.integers(vocab))
            for at, row in enumerate(logits)
        ]
        spans = []
        for row, token in zip(logits, tokens, strict=True):
            made = coding.frequencies(row, scale_bits)
            spans.append((sum(made[:token]), made[token], sum(made)))
        yield {
            "logits": logits,
            "scale_bits": scale_bits,
            "tokens": tokens,
            "spans": spans,
            "costs": [coding.lg(total) - coding.lg(size) for _, size, total in spans],
            "bytes": coding.encode(spans).hex(),
        }


def write_memory_program(name: str, seed: int, loop: str, loops: int | None) -> None:
    """A random program with memories and the reference's record of one session on it."""
    rng = np.random.default_rng(seed)
    program = random_memory_program(rng, layers=3, loop=loop)
    session, tokens = memory.Reference(program), integers(rng, 0, program.vocab - 1, 24)
    logits = [session.step(token, loops) for token in tokens]
    save(program, HERE / f"{name}.safetensors")
    record = {"hash": program.hash, "tokens": tokens, "logits": logits, "state": session.words()}
    record |= {} if loops is None else {"loops": loops}
    (HERE / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def write_program(name: str, seed: int, make: Callable[..., Program] = random_program, **sizes: int) -> None:
    """A random program and the record of one session on it."""
    rng = np.random.default_rng(seed)
    program = make(rng, **sizes)
    executor = NumpyExecutor(program)
    state, tokens = executor.open(1), integers(rng, 0, program.vocab - 1, 24)
    logits = [executor.step(state, [token])[0].tolist() for token in tokens]
    save(program, HERE / f"{name}.safetensors")
    record = {"hash": program.hash, "tokens": tokens, "logits": logits, "state": state[0].tolist()}
    (HERE / f"{name}.json").write_text(json.dumps(record, separators=(",", ":")) + "\n")


def write_archive() -> None:
    """The text of ``tests/host/test_compress.py``, by NumPy."""
    from tests.host.archives import archive_of, plain_coder
    from tests.host.test_compress import TEXT

    (HERE / "archive.tnc").write_bytes(archive_of(TEXT, plain_coder()))


def main() -> None:
    """Write everything."""
    makers = {"ops": op_cases, "wide": wide_cases, "memory": memory_cases, "coding": coding_cases}
    for file, cases in makers.items():
        lines = [json.dumps(case, separators=(",", ":")) for case in cases(np.random.default_rng(2024))]
        (HERE / f"{file}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")
    write_program("lm-small", 1, d=8, m=12, layers=1, vocab=10)
    write_program("lm-bytes", 5, d=8, m=8, layers=1, vocab=256)
    write_program("lm-odd", 2, d=23, m=37, layers=2, vocab=29)
    write_program("mmfree-token", 3, random_mmfree, d=19, m=27, layers=2, vocab=23, per_token=True)
    write_program("mmfree-fixed", 4, random_mmfree, d=8, m=11, layers=1, vocab=9, per_token=False)
    write_memory_program("memory-flat", 142, "", None)
    write_memory_program("memory-free", 219, "free", 4)
    write_memory_program("memory-levels", 291, "levels", None)
    write_archive()


if __name__ == "__main__":
    main()
