"""Other libraries' ternary products, for `ternac bench host`: ggml's, from a library file that is there or
is named.
"""

from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import UsageError
from ternac.host.native.library import load

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
    """(the library, where it is), or (None, why not). UsageError if ``path`` is given and is not such a
    library.
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


def _pointer(array: npt.NDArray[Any]) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)
