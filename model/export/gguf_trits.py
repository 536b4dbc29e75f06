"""Trits in GGUF blocks: TQ2_0 (2 bits, 66 bytes for 256 weights) and TQ1_0 (1.6 bits, 54 bytes).

The layout of a block is that of the `gguf` package; here are only the rules that keep trits what they are:

* a block's half-precision scale is what one trit is worth in the whole matrix, also in blocks of zeros;
* rows whose length is no multiple of 256 are filled up with zero trits, which add nothing to a product with
  an activation vector filled up likewise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import BadProgramFile, UsageError
from ternac.program.packing import Trits

BLOCK = 256
BLOCK_BYTES = {"TQ2_0": 66, "TQ1_0": 54}
TYPES = tuple(BLOCK_BYTES)
_SCALE_BYTES = 2  # at the end of a block, in both types


def _quants(kind: str) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind]


def padded(columns: int) -> int:
    """Row length in a file: the next multiple of 256."""
    return -(-columns // BLOCK) * BLOCK


def pack(trits: Trits, worth: float, kind: str) -> npt.NDArray[np.uint8]:
    """Rows of blocks uint8[m, bytes] of a matrix int8[m, K]; UsageError if float16 cannot hold ``worth``."""
    from gguf import quants

    limits = np.finfo(np.float16)
    if not float(limits.tiny) <= worth <= float(limits.max):
        raise UsageError(f"a trit is worth {worth:g}, GGUF's float16 block scale cannot say that")
    rows, columns = trits.shape
    full = np.zeros((rows, padded(columns)), np.float32)
    full[:, :columns] = trits
    blocks = quants.quantize(full, _quants(kind)).reshape(rows, padded(columns) // BLOCK, -1)
    blocks[..., -_SCALE_BYTES:] = np.array([worth], "<f2").view(np.uint8)
    return blocks.reshape(rows, -1)


def unpack(data: npt.NDArray[np.uint8], columns: int, kind: str, name: str) -> tuple[Trits, float]:
    """The matrix int8[m, columns] and what a trit is worth, from rows of blocks.

    Raises BadProgramFile if a code is no trit, the blocks have several scales, or a row is filled up with
    something else than zeros.
    """
    from gguf import quants

    rows = len(data)
    blocks = np.array(data, np.uint8).reshape(rows, padded(columns) // BLOCK, -1)
    scales = np.ascontiguousarray(blocks[..., -_SCALE_BYTES:]).view("<f2").ravel()
    codes, flat = blocks.copy(), blocks.reshape(rows, -1)
    codes[..., -_SCALE_BYTES:] = np.array([1.0], "<f2").view(np.uint8)
    values = quants.dequantize(codes.reshape(rows, -1), _quants(kind))
    if values.min() < -1 or values.max() > 1:
        raise BadProgramFile(f"tensor {name}: a {kind} code is no trit")
    trits = values.astype(np.int8)
    live = np.any(trits.reshape(len(scales), -1), axis=1)
    worths = np.unique(scales[live] if live.any() else scales)
    if len(worths) != 1 or not np.isfinite(worths[0]) or worths[0] <= 0:
        raise BadProgramFile(
            f"tensor {name}: {len(worths)} different block scales, a trit must be worth the same everywhere",
            "a matrix of real weights in TQ blocks is quantized per block; take the original weights",
        )
    if trits[:, columns:].any():
        raise BadProgramFile(f"tensor {name}: {flat.shape[1]} bytes a row hold more than {columns} columns")
    return np.ascontiguousarray(trits[:, :columns]), float(worths[0])
