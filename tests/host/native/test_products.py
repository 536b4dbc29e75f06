"""Ternary products of every instruction set against NumPy: extremes, random, odd shapes, long rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.host.native.library import best_isa, isa_number, isas, load
from ternac.host.native.weights import BITS, Weights, pack_all, trits_per_byte
from ternac.program.numerics import tmatvec
from tests.host.native.native_here import ISAS, needs_native

pytestmark = needs_native
SHAPES = [(1, 1), (3, 17), (64, 16), (65, 33), (81, 250), (129, 130), (200, 192), (5, 16384)]
PATTERNS: dict[str, tuple[Any, Any]] = {  # weight, activation; None: random
    "all +127": (1, 127), "all -127": (1, -127), "all -128": (1, -128), "minus all -128": (-1, -128),
    "minus all +127": (-1, 127), "no weight": (0, -128), "random": (None, None),
    "random times -128": (None, -128),
}  # fmt: skip


def products(isa: str, bits: str, matrix: Any, x: Any) -> Any:
    """int32 [count, rows] by the kernel, from x int8 [count, columns]; what lies behind the results is
    guarded.
    """
    ffi, lib = load()
    number, (rows, columns), count = isa_number(isa), matrix.shape, len(x)
    weights = pack_all({"w": matrix}, lib.tn_isa_lanes(number), BITS[bits])
    padded = np.zeros((count, -(-columns // 16) * 16 + 16), np.int8)
    padded[:, :columns] = x
    padded[:, -16:] = 99  # never read as part of the row
    out = np.full((count, rows + 96), 0x5A5A5A5A, np.int32)
    lib.tn_product(
        number, BITS[bits], weights.pointer("w"), rows, columns, ffi.from_buffer("int8_t[]", padded),
        padded.shape[1], ffi.from_buffer("int32_t[]", out), out.shape[1], count,
    )  # fmt: skip
    assert (out[:, rows + 80 :] == 0x5A5A5A5A).all()
    return out[:, :rows]


def case(pattern: str, shape: tuple[int, int], count: int) -> tuple[Any, Any]:
    weight, value = PATTERNS[pattern]
    rng = np.random.default_rng(shape[0] * 1000 + shape[1])
    matrix = rng.integers(-1, 2, shape) if weight is None else np.full(shape, weight)
    x = rng.integers(-128, 128, (count, shape[1])) if value is None else np.full((count, shape[1]), value)
    return matrix.astype(np.int8), x.astype(np.int8)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_products_equal_numpy(isa: str, bits: str, pattern: str) -> None:
    for shape in SHAPES:
        matrix, x = case(pattern, shape, 2)
        assert np.array_equal(products(isa, bits, matrix, x), tmatvec(matrix, x)), shape


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("isa", ISAS)
def test_many_vectors_at_a_time(isa: str, bits: str) -> None:
    for count in (1, 2, 3, 4, 5, 7, 16, 64, 67):
        matrix, x = case("random", (150, 77), count)
        assert np.array_equal(products(isa, bits, matrix, x), tmatvec(matrix, x)), count


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("pattern", ["all +127", "all -128", "minus all -128", "random"])
def test_longest_rows_do_not_overflow(isa: str, bits: str, pattern: str) -> None:
    matrix, x = case(pattern, (7, 65535), 1)
    assert np.array_equal(products(isa, bits, matrix, x), tmatvec(matrix, x))


@pytest.mark.parametrize("lanes", [8, 16])
@pytest.mark.parametrize("bits", BITS)
def test_packed_and_back(lanes: int, bits: str) -> None:
    for shape in SHAPES:
        matrix, _ = case("random", shape, 1)
        assert np.array_equal(pack_all({"w": matrix}, lanes, BITS[bits]).get("w"), matrix)


def test_a_wrong_trit_shows() -> None:
    """The comparison above can fail."""
    matrix, x = case("random", (65, 33), 1)
    other = matrix.copy()
    other[64, 32] = -1 if matrix[64, 32] == 1 else matrix[64, 32] + 1
    x[0, 32] = 5
    assert not np.array_equal(products(best_isa(), "2", other, x), tmatvec(matrix, x))


def test_packed_sizes() -> None:
    """Whole blocks of rows, columns to 16, and two or 1.6 bits each."""
    _, lib = load()
    assert lib.tn_packed_size(16, 4, 64, 1024) == 64 * 1024 // 4
    assert lib.tn_packed_size(16, 5, 160, 1024) == 160 * 1024 // 5
    assert lib.tn_packed_size(8, 5, 1, 1) == 8 * 16


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown instruction set 'sse9'"):
        isa_number("sse9")
    for name, lacks in isas().items():
        if lacks:
            with pytest.raises(UsageError, match=f"{name} does not run here: "):
                isa_number(name)
    with pytest.raises(UsageError, match="'3' bits"):
        trits_per_byte("3", "avx2", [(1, 1)])
    with pytest.raises(UsageError, match=r"needs int8\[2, 2\]"):
        Weights({"w": (2, 2)}, 8, 4).put("w", np.zeros((2, 3), np.int8))


def test_bits_by_size() -> None:
    small, large = [(64, 64)], [(65535, 4096)]
    assert trits_per_byte(None, "avx512vnni", small) == 4
    assert trits_per_byte(None, "avx512vnni", large) == 5
    assert trits_per_byte(None, "avx2", large) == 4
