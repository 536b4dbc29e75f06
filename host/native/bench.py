"""Speed of the native executor, products and whole tokens, against NumPy, ggml and the memory's limit."""

from __future__ import annotations

import ctypes
import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import Mismatch, UsageError
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import best_isa, isa_number, isas, load
from ternac.host.native.measure import ORIGIN, Rounds, random_weights, rounds, shape_program
from ternac.host.native.weights import BITS, Weights
from ternac.model.export.llama import tq2_0
from ternac.program.mmfree import Shape
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, choose

SHAPES = {"cache": (2048, 2048), "dram": (5632, 2048)}
"""Rows and columns: one matrix that stays in the cache, or more of them than any cache holds."""
DRAM_BYTES = 96 << 20
NUMPY_BYTES = 256 << 20
TOKENS = 32
"""Tokens of a call, for a small model."""
Vector = npt.NDArray[np.int8]


def native_product(
    isa: str, bits: str, matrix: npt.NDArray[np.int8], copies: int, x: Vector
) -> tuple[Callable[[], object], Callable[[], object], npt.NDArray[np.int32]]:
    """(products with ``copies`` of the matrix, each in memory of its own; reading these and nothing else;
    results of the last product [rows]).
    """
    ffi, lib = load()
    number, (rows, columns) = isa_number(isa), matrix.shape
    names = [str(i) for i in range(copies)]
    weights = Weights(dict.fromkeys(names, (rows, columns)), lib.tn_isa_lanes(number), BITS[bits])
    weights.put("0", matrix)
    for name in names[1:]:
        weights.bytes_of(name)[:] = weights.bytes_of("0")
    padded = np.zeros(-(-columns // 64) * 64, np.int8)
    padded[:columns] = x
    out = np.zeros(rows + 128, np.int32)
    source, result = ffi.from_buffer("int8_t[]", padded), ffi.from_buffer("int32_t[]", out)
    pointers = [weights.pointer(name) for name in names]
    size = sum(weights.packed_size(name) for name in names)

    def run() -> None:
        for pointer in pointers:
            lib.tn_product(
                number, BITS[bits], pointer, rows, columns, source, len(padded), result, len(out), 1
            )

    def read() -> None:
        lib.tn_read(number, pointers[0], size)

    run.weights = weights  # type: ignore[attr-defined]  # its memory lives as long as the function
    return run, read, out[:rows]


def numpy_product(matrix: npt.NDArray[np.int8], copies: int, x: Vector) -> Callable[[], object]:
    """The product as the NumPy executor computes it: float32, exact."""
    wide, vector = [matrix.astype(np.float32) for _ in range(copies)], x.astype(np.float32)

    def run() -> None:
        for matrix in wide:
            np.dot(matrix, vector)

    return run


def product_rows(
    ggml: Ggml | None, why: str, count: int, progress: Callable[[str], object]
) -> list[dict[str, Any]]:
    """One row per kernel and place; every native result is compared with NumPy's first. Mismatch if one
    differs.
    """
    rows = []
    for where, shape in SHAPES.items():
        progress(f"products {shape[0]}x{shape[1]}, {where}")
        rows += _place(where, shape, ggml, why, count)
    return rows


def _place(
    where: str, shape: tuple[int, int], ggml: Ggml | None, why: str, count: int
) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    macs = shape[0] * shape[1]
    copies = 1 if where == "cache" else -(-DRAM_BYTES // (macs // 5))
    x = rng.integers(-128, 128, shape[1]).astype(np.int8)
    matrix = rng.integers(-1, 2, shape).astype(np.int8)
    few = 1 if where == "cache" else -(-NUMPY_BYTES // (4 * macs))
    truth = matrix.astype(np.float64) @ x.astype(np.float64)
    candidates: dict[str, Callable[[], object]] = {"numpy float32": numpy_product(matrix, few, x)}
    amount = {"numpy float32": macs * few}
    kernels = []
    for isa, missing in isas().items():
        if missing or isa == "portable":
            continue
        for bits in BITS:
            name = f"native {isa} {bits} bits"
            run, read, out = native_product(isa, bits, matrix, copies, x)
            run()
            if not np.array_equal(out, truth):
                raise Mismatch(f"{name}: a product of {shape[0]}x{shape[1]} differs from NumPy's")
            candidates |= {name: run, f"read for {name}": read}
            amount |= {name: macs * copies, f"read for {name}": macs * copies}
            kernels.append(name)
    for peer in ("tq2_0", "tq1_0") if ggml else ():
        name = f"ggml {peer}"
        assert ggml is not None
        product = ggml_product(ggml, peer, matrix, copies, x)
        if np.abs(product() - truth).max() > 0.02 * np.abs(truth).max():
            raise Mismatch(f"{name}: far from the product; is {ggml.path} of another version?")
        candidates[name], amount[name] = product, macs * copies
    found = rounds(candidates, count)
    names = ["numpy float32", *kernels, *(name for name in candidates if name.startswith("ggml"))]
    return [_row(name, shape, where, found, amount, why, count) for name in names]


def _row(
    name: str, shape: tuple[int, int], where: str, found: Rounds, amount: dict[str, int], why: str, count: int
) -> dict[str, Any]:
    def ratio(other: str) -> float | None:
        if other not in amount:
            return None
        return round(found.ratio(name, other) * amount[name] / amount[other], 3)

    ratios = {"numpy": ratio("numpy float32"), "tq2_0": ratio("ggml tq2_0"), "tq1_0": ratio("ggml tq1_0")}
    row: dict[str, Any] = {
        "kernel": name,
        "shape": f"{shape[0]}x{shape[1]}",
        "where": where,
        "threads": 1,
        "gmacs": round(amount[name] / found.typical(name) / 1e9, 1),
        "ratio_to": ratios | {"memory_limit": ratio(f"read for {name}")},
        "origin": ORIGIN.format(count),
    }
    if ratios["tq2_0"] is None:
        row["why_null"] = why
    return row


def bench_shipped(program: Program, count: int) -> dict[str, Any]:
    """Tokens per second of a small model, one session, greedy: native in one call, NumPy token by token.

    Mismatch unless both choose the same tokens.
    """
    slow, fast = NumpyExecutor(program), NativeExecutor(program, threads=1)
    state = slow.open(), fast.open()
    last = [1]

    def numpy() -> list[int]:
        token, found = last[0], []
        for _ in range(TOKENS):
            token, _ = choose(slow.step(state[0], np.array([token]))[0], GREEDY, 1)
            found.append(token)
        return found

    def native() -> list[int]:
        return fast.generate(state[1], last, TOKENS, GREEDY, [1])[0][0].tolist()

    if numpy() != native() or (state[0] != state[1]).any():
        raise Mismatch(f"native and NumPy generate different tokens from {program.name}")
    found = rounds({"numpy": numpy, "native": native}, count)
    fast.close()
    return {
        "shipped_model": program.name,
        "shipped_tokens_per_second": round(TOKENS / found.typical("native"), 1),
        "shipped_numpy_tokens_per_second": round(TOKENS / found.typical("numpy"), 1),
        "shipped_ratio_to_numpy": round(found.ratio("native", "numpy"), 2),
        "shipped_origin": ORIGIN.format(count) + f"; {TOKENS} tokens a call, greedy, one session",
    }


def bench_geometry(
    shape: Shape, bits: str, threads: int, sessions: int, count: int, say: Callable[[str], object]
) -> dict[str, Any]:
    """A model of a published size with random trits: one session, ``sessions`` at a time, and a prompt."""
    before = _resident()
    isa = best_isa()
    say(f"random weights of {shape.name}: {shape.trits:,} trits at {bits} bits")
    program = shape_program(shape)
    executor = NativeExecutor(program, weights=random_weights(program, isa, bits), threads=threads)
    sessions = min(sessions, executor.rows)
    one, many = executor.open(1), executor.open(sessions)
    rng = np.random.default_rng(3)
    first = rng.integers(0, shape.vocab, sessions).tolist()
    slots, want = np.zeros(executor.rows, np.int32), np.zeros(executor.rows, np.uint8)
    prompt = rng.integers(0, shape.vocab, executor.rows)
    alone = executor.generate(executor.open(1), first[:1], 2, GREEDY, [1])[0]
    if not (
        executor.generate(executor.open(sessions), first, 2, GREEDY, [1] * sessions)[0][:1] == alone
    ).all():
        raise Mismatch(f"{shape.name}: a session gives other tokens among {sessions} than alone")
    clock, origin = time.thread_time, ORIGIN.format(count)
    if threads > 1:
        clock = time.perf_counter
        origin = f"measured on this host: wall clock, {threads} threads, median of {count} interleaved rounds"
    found = rounds(
        {
            "token": lambda: executor.generate(one, first[:1], 1, GREEDY, [1]),
            "products": executor.products_only,
            "batch": lambda: executor.generate(many, first, 1, GREEDY, [1] * sessions),
            "batch products": lambda: executor.products_only(sessions),
            "prompt": lambda: executor.feed(one, prompt, slots, want),
        },
        count,
        clock=clock,
    )
    rate = {"token": 1, "batch": sessions, "prompt": len(prompt)}
    speed = {name: tokens / found.typical(name) for name, tokens in rate.items()}
    held, packed = executor.bytes_held, shape.trits * {"2": 2.0, "1.6": 1.6}[bits] / 8
    result = {
        "geometry": shape.name,
        "bits_per_weight": bits,
        "isa": isa,
        "threads": threads,
        "trits": shape.trits,
        "tokens_per_second": round(speed["token"], 2),
        "products_only_tokens_per_second": round(1 / found.typical("products"), 2),
        "fraction_of_products": round(found.ratio("token", "products"), 4),
        "sessions": sessions,
        "sessions_tokens_per_second": round(speed["batch"], 2),
        "sessions_ratio_to_one": round(sessions * found.ratio("batch", "token"), 2),
        "sessions_fraction_of_products": round(found.ratio("batch", "batch products"), 4),
        "prompt_tokens": len(prompt),
        "prompt_tokens_per_second": round(speed["prompt"], 2),
        "prompt_ratio_to_one": round(len(prompt) * found.ratio("prompt", "token"), 2),
        "bytes_held": held,
        "packed_bytes": round(packed),
        "held_over_packed": round((held["weights"] + held["rows"]) / packed, 4),
        "held_origin": "memory of the executor, weights and rows of values, over trits x bits / 8; the "
        f"embedding and the tables, {held['other']:,} bytes, belong to the program and are not copied",
        "resident_bytes_grown": None if before is None else (_resident() or 0) - before,
        "origin": origin,
    }
    executor.close()
    return result


def _resident() -> int | None:
    """Bytes of this process in memory; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return None


# ---- ggml's ternary products, from a library file that is there or is named -------------------------------

PACKAGES = ("llama_cpp", "pywhispercpp", "ggml")
"""Packages that are known to bring ggml's library, each in a folder lib/ of its own."""
KERNELS = {"tq2_0": (66, 256), "tq1_0": (54, 256)}
"""ggml's ternary formats: bytes of a block, weights in it. A block ends in a 16-bit scale."""
_Q8_K = 4 + 256 + 2 * 16  # float scale, 256 int8, 16 sums


@dataclass(frozen=True)
class Ggml:
    """ggml's CPU library."""

    path: Path
    cpu: ctypes.CDLL
    base: ctypes.CDLL


def find_ggml(path: str | None) -> tuple[Ggml | None, str]:
    """Return (the library, where it is), or (None, why not).

    Raises UsageError if ``path`` is given and is not such a library.
    """
    found = [Path(path)] if path else []
    for package in () if path else PACKAGES:
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            found += sorted(Path(folder).rglob("libggml-cpu*.so*"))
    for file in found:
        try:
            base = ctypes.CDLL(str(next(iter(sorted(file.resolve().parent.glob("libggml-base.so*"))), file)))
            cpu = ctypes.CDLL(str(file))
            if all(hasattr(cpu, f"ggml_vec_dot_{name}_q8_K") for name in KERNELS):
                cpu.ggml_cpu_init()  # its table of half-precision numbers
                return Ggml(file, cpu, base), str(file)
        except (OSError, AttributeError) as error:
            if path:
                raise UsageError(f"{path} is not ggml's CPU library: {error}") from None
    if path:
        raise UsageError(f"{path} has no ternary kernels of ggml", "name its libggml-cpu.so")
    return None, "no ggml library found: install llama-cpp-python, or name libggml-cpu.so with --ggml"


def ggml_product(
    ggml: Ggml, name: str, matrix: npt.NDArray[np.int8], copies: int, x: npt.NDArray[np.int8]
) -> Callable[[], npt.NDArray[np.float32]]:
    """Products with ``copies`` of the matrix, each in memory of its own; returns the last one's result.

    ``x`` int8 [K], K a multiple of 256. The result is rounded: ggml quantizes x again, 256 at a time.
    """
    ffi, lib = load()
    rows, columns = matrix.shape
    size, block = KERNELS[name]
    row_bytes = columns // block * size
    data = np.empty(rows * row_bytes, np.uint8)
    activations = np.empty(columns // 256 * _Q8_K, np.uint8)
    wide, vector = (
        matrix.astype(np.float32),
        x.astype(np.float32),
    )  # named, so that they live during the calls
    quantize = getattr(ggml.base, f"quantize_row_{name}_ref")
    quantize(_pointer(wide), _pointer(data), ctypes.c_int64(matrix.size))
    ggml.base.quantize_row_q8_K_ref(_pointer(vector), _pointer(activations), ctypes.c_int64(columns))
    dot = ctypes.cast(getattr(ggml.cpu, f"ggml_vec_dot_{name}_q8_K"), ctypes.c_void_p).value
    out = np.zeros(rows, np.float32)
    function, source = ffi.cast("void *", dot), ffi.from_buffer("uint8_t[]", activations)
    result = ffi.from_buffer("float[]", out)
    packed = [ffi.from_buffer("uint8_t[]", data.copy()) for _ in range(copies)]

    def run() -> npt.NDArray[np.float32]:
        for weights in packed:
            lib.tn_peer_rows(function, columns, weights, row_bytes, rows, source, result)
        return out

    return run


def ggml_rows(ggml: Ggml, sizes: Sequence[tuple[int, int]]) -> Callable[[], object]:
    """TQ2_0 products of random trits for matrices of ``sizes``, each in memory of its own.

    Columns are multiples of 256.
    """
    ffi, lib = load()
    size, block = KERNELS["tq2_0"]
    rng = np.random.default_rng(1)
    widest = max(columns for _, columns in sizes)
    activations = np.empty(widest // 256 * _Q8_K, np.uint8)
    vector = rng.normal(size=widest).astype(np.float32)
    ggml.base.quantize_row_q8_K_ref(_pointer(vector), _pointer(activations), ctypes.c_int64(widest))
    dot = ctypes.cast(ggml.cpu.ggml_vec_dot_tq2_0_q8_K, ctypes.c_void_p).value
    function, source = ffi.cast("void *", dot), ffi.from_buffer("uint8_t[]", activations)
    out = ffi.new("float[]", max(rows for rows, _ in sizes))
    packed = [
        (rows, columns, columns // block * size, ffi.from_buffer("uint8_t[]", tq2_0(rng, rows, columns)))
        for rows, columns in sizes
    ]

    def run() -> None:
        for rows, columns, row_bytes, weights in packed:
            lib.tn_peer_rows(function, columns, weights, row_bytes, rows, source, out)

    return run


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
