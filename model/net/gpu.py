"""GPU forms of the training step's products and scan; the same integers as on a CPU.

Forward products run on int8 tensor cores with int32 accumulators, backward products in bfloat16; master
weights and AdamW stay in float32. The recurrence is a Triton kernel that goes through time in order
(:mod:`ternac.model.net.scan_triton`): rounding at every step makes a parallel float scan inexact.
"""

from __future__ import annotations

import torch
from torch import Tensor

TENSOR_FLOPS = {  # dense bfloat16, 1e12 per second, from the makers' data sheets; the first that fits counts
    "H200": 989.0, "H100 PCIe": 756.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0,
    "4090": 165.0, "T4": 65.0,
}  # fmt: skip


def scan(f: Tensor, c: Tensor, h0: Tensor) -> Tensor:
    """`scan.lerp_scan` for tensors on a GPU. Raises ModuleNotFoundError if triton is missing."""
    from ternac.model.net.scan_triton import TritonLerpScan

    result: Tensor = TritonLerpScan.apply(f, c, h0)
    return result


def delta_scan(
    v: Tensor, rows: Tensor, last: Tensor, before: Tensor, memory: Tensor, rate: int
) -> tuple[Tensor, Tensor]:
    """`memory.delta_scan` for tensors on a GPU. Raises ModuleNotFoundError if triton is missing."""
    from ternac.model.net.memory_triton import TritonDeltaScan

    result: tuple[Tensor, Tensor] = TritonDeltaScan.apply(v, rows, last, before, memory, rate)
    return result


def product(x: Tensor, trits: Tensor) -> Tensor:
    """Multiply i8 codes x [N, K] by trits [M, K], both float32: float32 [N, M], exact.

    On int8 tensor cores where their shapes allow it (N > 16, K and M multiples of 8), else in float32 with
    sums below 2**24, which no rounding touches.
    """
    if x.shape[0] > 16 and x.shape[1] % 8 == 0 and trits.shape[0] % 8 == 0:
        return torch._int_mm(x.to(torch.int8), trits.to(torch.int8).t()).float()
    return torch.mm(x, trits.t())


def peak_tflops(name: str) -> float | None:
    """Return the dense bfloat16 peak of a GPU by its name in torch, or None."""
    return next((peak for key, peak in TENSOR_FLOPS.items() if key in name), None)


def flops_per_token(ternary_weights: int) -> int:
    """Return the FLOPs of a training token: two per weight forward, four backward."""
    return 6 * ternary_weights
