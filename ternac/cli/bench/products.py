"""The product kernels beside NumPy, ggml and the memory's limit: the rows of ``ternac bench host``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import Mismatch
from ternac.host.native.library import isa_number, isas, load
from ternac.host.native.measure import ORIGIN, Rounds, rounds
from ternac.host.native.peers import Ggml, ggml_product
from ternac.host.native.weights import BITS, Weights

SHAPES = {"cache": (2048, 2048), "dram": (5632, 2048)}
"""Rows and columns; in cache one matrix again and again, in DRAM so many that no cache holds them."""
DRAM_BYTES = 96 << 20
NUMPY_BYTES = 256 << 20
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
    """What the NumPy executor does: float32, exact."""
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
