"""The QAT model as an executor: same interface as :class:`ternac.executor.NumpyExecutor`, run by torch.

Used to prove that what was trained is what is deployed: logits and state are compared, exactly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ternac.errors import CheckpointError, UsageError
from ternac.model import checkpoint as ckpt
from ternac.model.export import to_program
from ternac.model.network import TernaryLM
from ternac.program import Program

State = npt.NDArray[np.int16]
CHECKPOINT = "checkpoint.safetensors"


class TorchExecutor:
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
        """The model of a checkpoint file, or of ``checkpoint.safetensors`` in a folder or beside a program.

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

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions: int16 zeros [batch, state_words]."""
        if batch < 1:
            raise UsageError(f"batch is {batch}, needs at least 1")
        return np.zeros((batch, self.program.state_words), np.int16)

    def state_dict(self, state: State) -> dict[str, State]:
        """The same state as views by state name."""
        return {name: state[:, part] for name, part in self.program.state_slices().items()}

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
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens), np.int64)
        if state.dtype != np.int16 or state.shape != (len(ids), self.program.state_words):
            raise UsageError(f"state is {state.dtype}{list(state.shape)}, needs int16[{len(ids)}, ...]")
        if len(ids) and (ids.min() < 0 or ids.max() >= self.program.vocab):
            raise UsageError(f"a token is not in 0..{self.program.vocab - 1}")
        hidden = [torch.from_numpy(state[:, part].astype(np.float32)) for part in self._slices]
        logits, hidden = self.model(torch.from_numpy(ids)[None], hidden)
        for part, h in zip(self._slices, hidden, strict=True):
            state[:, part] = h.numpy().astype(np.int16)
        result = logits[0].numpy().astype(np.int32)
        if trace is not None:
            trace[self.program.logits] = result
        return result
