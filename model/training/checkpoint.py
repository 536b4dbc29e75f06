"""Training checkpoints: one ``.safetensors`` file, data only; training resumes from it bit for bit.

Tensors: ``model.*`` (parameters and weight exponents), ``adam.exp_avg.*``, ``adam.exp_avg_sq.*``,
``adam.step.*``, ``state.*`` (recurrent state of the streams), ``rng``. The header carries the JSON text
``ternac``: configuration, step, digest of the text, history.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ternac.errors import CheckpointError
from ternac.files import make_folder, parse_json, replacing
from ternac.model.net.config import ModelConfig, from_dict
from ternac.model.net.network import TernaryLM

FORMAT = 1


@dataclass
class Checkpoint:
    """Contents of a checkpoint file: named tensors and plain JSON data."""

    tensors: dict[str, Tensor] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def part(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose name starts with ``prefix.``, without it."""
        return {k[len(prefix) + 1 :]: v for k, v in self.tensors.items() if k.startswith(prefix + ".")}


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all; make its folder if it is missing.

    Raises UsageError if it cannot be written, as on a full disk.
    """
    make_folder(path.parent)
    with replacing(path) as scratch:
        write(scratch, checkpoint)


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint to a file of its own. Raises OSError if that fails.

    The package writes to a file of a random name, which a killed process would leave beside the checkpoint,
    as large as that: here it does so in a folder, which goes when the same checkpoint is next written.
    """
    text = json.dumps({"format": FORMAT, **checkpoint.info}, sort_keys=True)
    tensors = {name: tensor.detach().contiguous() for name, tensor in checkpoint.tensors.items()}
    folder = path.with_name(f"{path.name}.parts")
    try:
        folder.mkdir()
        save_file(tensors, str(folder / path.name), metadata={"ternac": text})
        (folder / path.name).replace(path)
    except SafetensorError as error:  # what the package makes of an OSError
        number = re.search(r"os error (\d+)", str(error))
        code = int(number[1]) if number else errno.EIO
        raise OSError(code, os.strerror(code) if number else str(error)) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint. Raises CheckpointError if it is missing, damaged or of another format."""
    if not path.is_file():
        raise CheckpointError(f"no checkpoint at {path}", hint="train one with: ternac train --out DIR")
    try:
        with safe_open(str(path), framework="pt") as file:
            info = parse_json((file.metadata() or {}).get("ternac", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise CheckpointError(f"{path} is not a ternac checkpoint of format {FORMAT}")
    return Checkpoint(tensors, info)


def model_config(checkpoint: Checkpoint) -> ModelConfig:
    """Return the shape of the checkpoint's model. Raises UsageError if its configuration is none."""
    return from_dict(checkpoint.info.get("config", {}))[0]


def tokenizer_of(checkpoint: Checkpoint) -> bytes:
    """Return the ``tokenizer.json`` of the model's text; empty where its tokens are bytes.

    Raises CheckpointError if it is no text.
    """
    try:
        return str(checkpoint.info.get("tokenizer", "")).encode()
    except UnicodeEncodeError:
        raise CheckpointError("the checkpoint's tokenizer is no text: it has an unpaired surrogate") from None


def model_of(checkpoint: Checkpoint) -> TernaryLM:
    """Return the model in evaluation mode. Raises CheckpointError if the tensors do not fit it."""
    config, held = model_config(checkpoint), sum(t.numel() for t in checkpoint.part("model").values())
    if config.ternary_weights > held:  # before that many are allocated
        raise CheckpointError(
            f"the checkpoint's tensors do not fit its configuration: {held:,} numbers, and "
            f"{config.ternary_weights:,} ternary weights"
        )
    model = TernaryLM(config)
    try:
        model.load_state_dict(checkpoint.part("model"))
    except RuntimeError as error:
        raise CheckpointError(f"the checkpoint's tensors do not fit its configuration: {error}") from error
    return model.eval()


def pack_optimizer(model: TernaryLM, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return moments and step counts by parameter name."""
    return {
        f"adam.{key}.{name}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        for key in optimizer.state[parameter]
    }


def unpack_optimizer(model: TernaryLM, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint) -> None:
    """Invert :func:`pack_optimizer`. Raises CheckpointError if a parameter has no state."""
    for name, parameter in model.named_parameters():
        for key in ("step", "exp_avg", "exp_avg_sq"):
            tensor = checkpoint.tensors.get(f"adam.{key}.{name}")
            if tensor is None:
                raise CheckpointError(f"the checkpoint has no optimizer state for {name}")
            device = parameter.device if key != "step" or parameter.device.type == "cuda" else None
            optimizer.state[parameter][key] = tensor.clone().to(device)
