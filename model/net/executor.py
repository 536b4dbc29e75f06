"""The QAT model as an executor: same interface as :class:`ternac.run.numpy_executor.NumpyExecutor`, run by
torch.

Used to prove that what was trained is what is deployed: logits and state are compared, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ternac.errors import CheckpointError
from ternac.model.export.export import to_program
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, State

CHECKPOINT = "checkpoint.safetensors"


class TorchExecutor(ExecutorBase):
    """Runs a :class:`TernaryLM` in evaluation mode, one token of every session at a time.

    ``program`` is what the model exports to; its hash tells whether the model belongs to a program file.
    """

    name = "torch"

    def __init__(
        self,
        model: TernaryLM,
        program_name: str = "model",
        meta: Mapping[str, Any] | None = None,
        tokenizer: bytes = b"",
    ) -> None:
        self.program: Program = to_program(model, program_name, meta, tokenizer)
        self.model = model.eval().freeze()
        self._slices = list(self.program.state_slices().values())

    @classmethod
    def for_program(cls, program: Program, path: Path) -> TorchExecutor:
        """Open a checkpoint file, or ``checkpoint.safetensors`` in a folder or next to a program.

        It must export to exactly ``program``; raises CheckpointError if it does not or cannot be used.
        """
        found = path / CHECKPOINT if path.is_dir() else path
        if found.name == "program.safetensors":
            found = found.with_name(CHECKPOINT)
        executor = cls(ckpt.model_of(ckpt.load(found)), program.name, program.meta, program.tokenizer)
        if executor.program.hash != program.hash:
            raise CheckpointError(
                f"{found} exports to program {executor.program.hash[:12]}, not to {program.hash[:12]}",
                hint="export the checkpoint again: ternac export CHECKPOINT",
            )
        return executor

    @torch.no_grad()
    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, npt.NDArray[np.int32]] | None = None,
    ) -> npt.NDArray[np.int32]:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``trace`` gets the logits only; intermediate values have no names inside torch.
        """
        ids = self.check_tokens(tokens).astype(np.int64)
        self.check_state(state, len(ids))
        hidden = [torch.from_numpy(state[:, part].astype(np.float32)) for part in self._slices]
        logits, hidden = self.model(torch.from_numpy(ids)[None], hidden)
        for part, h in zip(self._slices, hidden, strict=True):
            state[:, part] = h.numpy().astype(np.int16)
        result = logits[0].numpy().astype(np.int32)
        if trace is not None:
            trace[self.program.logits] = result
        return result
