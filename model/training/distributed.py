"""One training run in several processes under ``torchrun``: DDP or FSDP2, with distributed checkpoints.

The streams of the batch are dealt out evenly, and everything random is drawn for the whole batch in every
process; so losses are those of one process up to the order of float sums.  A checkpoint is a folder
``shards/step-N`` that torch.distributed.checkpoint writes and reads, for any number of processes; it is
complete when its ``.metadata`` is there.  All other files of a run are as in ``train.py``.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load as load_shards
from torch.distributed.checkpoint.state_dict_saver import save as save_shards
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, Shard
from torch.nn.parallel import DistributedDataParallel

from ternac.errors import CheckpointError, UsageError
from ternac.files import make_folder, read_json, sync, write_json
from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training import curve
from ternac.model.training.data import Tokens
from ternac.model.training.run_folder import BEST, FINAL, INFO, LATEST, SHARDS
from ternac.model.training.train import Trainer

KINDS = ("ddp", "fsdp")


def under_torchrun() -> bool:
    """Return True if this process was started by torchrun (or has the same variables)."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ


@dataclass(frozen=True)
class Group:
    """Processes of a run: which one this is, how many there are, how the model is spread over them."""

    rank: int
    world: int
    kind: str
    device: str
    mesh: DeviceMesh

    @classmethod
    def join(cls, kind: str, device: str) -> Group:
        """Join the other processes (gloo on CPUs, NCCL on GPUs); only the first writes to stdout."""
        if kind not in KINDS:
            raise UsageError(f"distribution {kind!r} is not one of {', '.join(KINDS)}")
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        if not dist.is_initialized():
            store, rank, world = next(rendezvous("env://"))
            # A fixed --master-port keeps one store over restarts, with the addresses of the dead in it.
            attempt = PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
            backend = "nccl" if device.startswith("cuda") else "gloo"
            dist.init_process_group(backend, store=attempt, rank=rank, world_size=world)
        rank, world = dist.get_rank(), dist.get_world_size()
        if rank:
            sys.stdout = Path(os.devnull).open("w")
        return cls(rank, world, kind, device, init_device_mesh(device.split(":")[0], (world,)))


class DistributedTrainer(Trainer):
    """One of ``group.world`` trainers of a run; all of them must have the same settings."""

    def __init__(
        self,
        model: ModelConfig,
        train: TrainConfig,
        text: Tokens,
        out: Path,
        group: Group,
        tokenizer: bytes = b"",
        about: Mapping[str, Any] | None = None,
        extend: bool = False,
    ) -> None:
        if train.batch % group.world:
            raise UsageError(
                f"a batch of {train.batch} streams cannot be dealt out evenly to {group.world} processes",
                hint=f"--batch {train.batch - train.batch % group.world or group.world}",
            )
        if train.parts > 1:
            raise UsageError(
                "a batch is dealt out to processes, not cut in parts as well", hint="leave --parts out"
            )
        self.group = group
        self.leads, self.processes = group.rank == 0, group.world
        self.plain = TernaryLM(model)  # holds whole weights for evaluation
        super().__init__(model, train, text, out, group.device, tokenizer, about, extend)

    def _place(self) -> None:
        self.model.share = (self.group.rank, self.group.world)
        self.replica: DistributedDataParallel | None = None
        self.settle()
        if self.group.kind == "ddp":
            self.replica = DistributedDataParallel(self.model, broadcast_buffers=False)
        else:
            for block in self.model.layers():
                fully_shard(block, mesh=self.group.mesh)
            fully_shard(self.model, mesh=self.group.mesh)

    def settle(self) -> None:
        """Choose the weight scales from whole matrices, before they are sharded."""
        for linear in self.linears:
            linear.trits()

    def _mine(self) -> slice:
        part = self.config.batch // self.group.world
        return slice(self.group.rank * part, (self.group.rank + 1) * part)

    def _loss(self, inputs: Tensor, targets: Tensor, weights: Tensor | None) -> tuple[Tensor, list[Tensor]]:
        if self.replica is None:
            return super()._loss(inputs, targets, weights)
        logits, state = self.replica(inputs, self.state)
        return self.model.nats(logits, targets, weights), state

    def _mean(self, loss: Tensor) -> float:
        total = loss.clone()
        dist.all_reduce(total)
        return float(total) / self.group.world

    def _agree(self, flag: bool) -> bool:
        raised = torch.tensor(int(flag), device=self.device)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)

    # ---- whole weights --------------------------------------------------------------------------------

    def _whole(self, averaged: bool) -> dict[str, Tensor]:
        """Return whole model tensors by name; every process must call it."""
        held: dict[str, Tensor] = dict(self.model.state_dict())
        if averaged and self.average:
            names = (name for name, _ in self.model.named_parameters())
            held |= dict(zip(names, self.average, strict=True))
        return {name: _whole(tensor).detach().cpu() for name, tensor in held.items()}

    def _keep_whole(self, path: Path, more: Mapping[str, Any]) -> None:
        whole = self._whole(averaged=True)
        if self.leads:
            tensors = {f"model.{name}": tensor for name, tensor in whole.items()}
            ckpt.save(path, ckpt.Checkpoint(tensors, self._info() | dict(more)))

    def _evaluate(self, row: curve.Row) -> float:
        """Evaluate in the first process, on the whole weights; the others wait for the number."""
        whole = self._whole(averaged=True)
        found = torch.zeros(1, dtype=torch.float64)
        if self.leads:
            self.plain.load_state_dict(whole)
            self.plain.set_temper(self.model.config.temper)
            found[0] = self.validate(self.plain)
        found = found.to(self.device)
        dist.broadcast(found, 0)
        row["val_nats"] = val = float(found)
        if val < self.best:
            self.best = val
            self._keep_whole(self.out / BEST, {})
        return val

    def _keep_last(self) -> None:
        if self.average or self.config.temper != 1.0:
            self._keep_whole(self.out / FINAL, {"kept": "last"})

    # ---- checkpoints ----------------------------------------------------------------------------------

    def _tensors(self) -> dict[str, Any]:
        """Return the tensors of a checkpoint themselves: to be written, or to be read into."""
        parts: dict[str, Any] = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        parts |= ckpt.pack_optimizer(self.model, self.optimizer)
        parts |= {f"average.{i}": tensor for i, tensor in enumerate(self.average)}
        for index, local in enumerate(self.state):
            parts[f"state.{index}"] = DTensor.from_local(local, self.group.mesh, [Shard(0)], run_check=False)
        parts["rng"] = torch.get_rng_state()
        return parts

    def save(self) -> None:
        """Write ``shards/step-N``, then remove its predecessors.

        Raises UsageError in every process if one cannot write its part, as on a full disk; then the
        predecessors are what is there.
        """
        folder = self.out / SHARDS / f"step-{self.step:08d}"
        if self.leads:
            make_folder(folder)
            write_json(folder / INFO, self._info())
        dist.barrier()
        write_shards(self._tensors(), folder, leads=self.leads)
        dist.barrier()
        if self.leads:
            sync(folder)  # torch syncs the files: now their names, before the last checkpoint is removed
            curve.write_csv(self.out / "curve.csv", self.rows)
            for other in (self.out / SHARDS).glob("step-*"):
                if other != folder:
                    shutil.rmtree(other)

    def _restore(self) -> None:
        folder = newest(self.out)
        if folder is None:
            if (self.out / LATEST).is_file():
                raise CheckpointError(
                    f"{self.out} holds a run of a single process",
                    hint="resume without torchrun, or give another --out",
                )
            return
        info = read_json(folder / INFO, CheckpointError)
        self._check_same_run(info)
        for parameter in self.model.parameters():
            zeros = {key: torch.zeros_like(parameter) for key in ("exp_avg", "exp_avg_sq")}
            device = self.device if self.device.type == "cuda" else None
            self.optimizer.state[parameter] = {"step": torch.zeros((), device=device), **zeros}
        tensors = self._tensors()
        try:
            load_shards(tensors, checkpoint_id=folder)
        except CheckpointException as error:
            raise CheckpointError(f"cannot read {folder}: {_reason(error)}") from error
        self.model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
        self.state = [tensors[f"state.{i}"].to_local() for i in range(len(self.state))]
        torch.set_rng_state(tensors["rng"])
        self._place_in_history(info)


def write_shards(tensors: dict[str, Any], folder: Path, *, leads: bool) -> None:
    """Write this process's part of a checkpoint; the process that ``leads`` removes one that failed.

    Raises UsageError, in every process, if one cannot write its part.
    """
    try:
        save_shards(tensors, checkpoint_id=folder)
    except CheckpointException as error:
        if leads:
            shutil.rmtree(folder, ignore_errors=True)
        hint = "make room on that disk if it is full, and resume: the checkpoint before is whole"
        raise UsageError(f"cannot write {folder}: {_reason(error)}", hint) from error


def _reason(error: CheckpointException) -> str:
    """Return why shards could not be written or read, in words: torch often hides the system's reason."""
    causes: list[BaseException | None] = [cause for cause, _ in error.failures.values()]
    for cause in causes:
        while cause is not None:
            if isinstance(cause, OSError):
                return cause.strerror or str(cause)
            cause = cause.__cause__ or cause.__context__
    return f"torch says {str(causes[0])[:200]!r}" if causes else "torch does not say why"


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def newest(out: Path) -> Path | None:
    """Return the folder of the last complete distributed checkpoint of a run."""
    found = [p for p in (out / SHARDS).glob("step-*") if re.fullmatch(r"step-\d+", p.name)]
    complete = [p for p in found if (p / ".metadata").is_file()]
    return max(complete, key=lambda p: int(p.name[5:]), default=None)


def open_trainer(
    model: ModelConfig,
    train: TrainConfig,
    text: Tokens,
    out: Path,
    kind: str = "ddp",
    device: str = "cpu",
    tokenizer: bytes = b"",
    about: Mapping[str, Any] | None = None,
    extend: bool = False,
) -> Trainer:
    """Return the trainer of this process: one of several under torchrun, otherwise the plain one."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device gpu: torch finds no GPU here", hint="install a CUDA build, or leave it out"
        )
    if under_torchrun():
        return DistributedTrainer(model, train, text, out, Group.join(kind, device), tokenizer, about, extend)
    if newest(out) is not None and not (out / LATEST).is_file():
        raise CheckpointError(
            f"{out} holds a run of several processes",
            hint="resume with: torchrun --nproc-per-node N -m ternac.cli train ..., or give another --out",
        )
    return Trainer(model, train, text, out, device, tokenizer, about, extend)
