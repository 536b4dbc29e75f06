"""Sessions on the GPU executor, as `ternac.host.backend.Backend` wants them."""

from __future__ import annotations

import torch

from ternac.host.batch import BatchBackend
from ternac.host.gpu.executor import GpuExecutor
from ternac.program.program import Program

CHUNK = 32
"""Tokens for which a state travels once."""


class GpuBackend(BatchBackend):
    """The GPU executor with any number of sessions; their states stay in host memory between calls."""

    chunk = CHUNK

    def __init__(self, program: Program, executor: GpuExecutor) -> None:
        super().__init__(program, executor)
        self.name = executor.name

    @property
    def origin(self) -> str:
        """What ran, for reports."""
        if self.executor.mode == "cuda":
            return f"{torch.cuda.get_device_name(self.executor.device)}, 2 bits a weight, measured"
        how = {"cpu": "in plain torch", "interpret": "in Triton's interpreter"}[self.executor.mode]
        return f"the GPU executor's plan {how} on this host's CPU, measured; no GPU ran"
