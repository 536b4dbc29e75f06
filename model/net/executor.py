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
from ternac.model.export.export import RESIZED, maps_of, to_program
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.run_folder import checkpoint_of, checkpoints_beside
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, State


class TorchExecutor(ExecutorBase):
    """Runs a :class:`TernaryLM` in evaluation mode, one token of every session at a time.

    ``program`` is what the model exports to; its hash tells whether the model belongs to a program file.
    ``checkpoint``: the file that the weights are from, where `for_program` found one.
    """

    name = "torch"
    checkpoint: Path | None = None

    def __init__(
        self,
        model: TernaryLM,
        program_name: str = "model",
        meta: Mapping[str, Any] | None = None,
        tokenizer: bytes = b"",
    ) -> None:
        self.program: Program = to_program(model, program_name, meta, tokenizer)
        self.model = model.eval().freeze()
        self._small = len(self.program.states)  # as many tensors are states, the rest memories

    @classmethod
    def for_program(cls, program: Program, path: Path) -> TorchExecutor:
        """Open the checkpoint that exports to exactly ``program``, which is in ``path``, a file or a folder.

        `checkpoints_beside` says where it is looked for. Raises CheckpointError if there is none.
        """
        found = checkpoints_beside(path)
        for each in found:
            model = ckpt.model_of(ckpt.load(each))
            if model.recall and RESIZED in program.meta:
                rows, map_seed = (int(program.meta[RESIZED][key]) for key in ("rows", "seed"))
                model.resize_memory(rows, map_seed, maps_of(program))
            made = cls(model, program.name, program.meta, program.tokenizer)
            if made.program.hash == program.hash:
                made.checkpoint = each
                return made
        if not found:
            raise CheckpointError(
                f"torch runs checkpoints, and none is beside {path}",
                f"put the one that it was exported from there, as {checkpoint_of(path).name}, or export it "
                f"again: ternac export RUN --out {path}",
            )
        raise CheckpointError(
            f"{', '.join(map(str, found))}: none exports to program {program.hash[:12]} of {path}",
            "export it again: ternac export CHECKPOINT",
        )

    @torch.no_grad()
    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, npt.NDArray[np.int32]] | None = None,
        *,
        loops: int | None = None,
    ) -> npt.NDArray[np.int32]:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``trace`` gets the logits only; intermediate values have no names inside torch.
        """
        ids = self.check_tokens(tokens).astype(np.int64)
        self.check_state(state, len(ids))
        self.check_loops(loops)
        views = list(self.state_dict(state).values())
        hidden = [torch.from_numpy(view.astype(np.float32)) for view in views[: self._small]]
        hidden += [torch.from_numpy(np.ascontiguousarray(rows)) for rows in views[self._small :]]
        logits, hidden = self.model(torch.from_numpy(ids)[None], hidden)
        for view, part in zip(views, hidden, strict=True):
            view[...] = part.numpy().astype(view.dtype)
        result = logits[0].numpy().astype(np.int32)
        if trace is not None:
            trace[self.program.logits] = result
        return result
