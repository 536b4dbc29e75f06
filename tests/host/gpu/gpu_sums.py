"""A kernel for tests: `row_sums` of a small tile, with one reduction or several."""

from __future__ import annotations

import os
from types import ModuleType
from typing import Any

import torch
import triton
import triton.language as tl

row_sums: Any = None


def sums(kernels: ModuleType, w: torch.Tensor, x: torch.Tensor, joint: bool) -> torch.Tensor:
    """w int32 [groups, words] and x int32 [words] packed: int32 [4 * groups], in the interpreter."""
    global row_sums
    row_sums = kernels.row_sums
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        kernel = triton.jit(_sums)
    finally:
        del os.environ["TRITON_INTERPRET"]
    out = torch.zeros(4 * len(w), dtype=torch.int32)
    kernel[(1,)](w, x, out, groups=len(w), words=len(x), joint=joint)
    return out


def _sums(w: Any, x: Any, out: Any, groups: tl.constexpr, words: tl.constexpr, joint: tl.constexpr) -> None:
    at = tl.arange(0, groups)[:, None] * words + tl.arange(0, words)[None, :]
    found = row_sums(tl.load(w + at), tl.load(x + tl.arange(0, words))[None, :], groups, False, joint)
    tl.store(out + tl.arange(0, 4 * groups), found)
