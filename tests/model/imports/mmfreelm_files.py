"""Checkpoints in the layout of MMfreeLM, written by the tests: random, of any size, single or sharded.

python -m tests.model.imports.mmfreelm_files FOLDER --size 370m --outliers 0.01
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from ternac.model.imports.mmfreelm_config import Config, parse_config
from ternac.program.mmfree import SHAPES, Shape

SMALL = {"vocab_size": 43, "hidden_size": 21, "num_hidden_layers": 3, "intermediate_size": 37}


def config_json(**change: Any) -> dict[str, Any]:
    """The fields of a published configuration, small sizes, with ``change``."""
    return {
        "architectures": ["HGRNBitForCausalLM"], "attn_mode": "fused_recurrent", "bos_token_id": 1,
        "conv_size": 4, "eos_token_id": 2, "expand_ratio": 1, "hidden_act": "swish", "hidden_ratio": 4,
        "initializer_range": 0.02, "max_position_embeddings": 2048, "model_type": "hgrn_bit", "num_heads": 1,
        "rms_norm_eps": 1e-06, "share_conv_kernel": True, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_cache": True, "use_lower_bound": True, "use_short_conv": False,
        **SMALL, **change,
    }  # fmt: skip


def random_tensors(config: Config, seed: int = 0, outliers: float = 0.0) -> dict[str, torch.Tensor]:
    """Every tensor in float32: normal weights, log-normal norm weights of both signs.

    ``outliers``: share of channels in which norm weights are 20 times as large.
    """
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in config.tensors().items():
        if name.endswith("norm.weight"):
            values = rng.lognormal(0.0, 0.4, shape) * rng.choice([-1, 1], shape, p=[0.05, 0.95])
            if outliers:
                values *= np.where(rng.random(shape) < outliers, 20.0, 1.0)
        elif name == "model.lower_bounds":
            values = rng.normal(0.0, 0.5, shape)
        else:
            values = rng.normal(0.0, 0.02, shape)
        found[name] = torch.from_numpy(values.astype(np.float32))
    return found


def write(
    folder: Path,
    tensors: dict[str, torch.Tensor],
    config: dict[str, Any],
    shards: int = 1,
    dtype: torch.dtype = torch.bfloat16,
) -> Path:
    """Write a checkpoint folder; with more than one shard there is an index."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    ready = {name: values.to(dtype).contiguous() for name, values in tensors.items()}
    if shards == 1:
        save_file(ready, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    home: dict[str, str] = {}
    for part in range(shards):
        file = f"model-{part + 1:05d}-of-{shards:05d}.safetensors"
        mine = {name: ready[name] for name in list(ready)[part::shards]}
        save_file(mine, folder / file, metadata={"format": "pt"})
        home |= dict.fromkeys(mine, file)
    index = {"metadata": {"total_size": 0}, "weight_map": home}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def checkpoint(folder: Path, seed: int = 0, shards: int = 1, outliers: float = 0.0, **change: Any) -> Path:
    """A whole random checkpoint."""
    data = config_json(**change)
    return write(folder, random_tensors(parse_config(data, "test"), seed, outliers), data, shards)


def main() -> None:
    """Write a random checkpoint of a published size, or a small one, in two shards."""
    sizes_of = {**SHAPES, "small": Shape("small", 96, 6, 256, 512)}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=sorted(sizes_of), default="370m")
    parser.add_argument("--outliers", type=float, default=0.0, help="share of channels 20 times as large")
    args = parser.parse_args()
    shape = sizes_of[args.size]
    sizes = {"vocab_size": shape.vocab, "hidden_size": shape.d, "num_hidden_layers": shape.layers}
    checkpoint(args.folder, shards=2, outliers=args.outliers, intermediate_size=shape.m, **sizes)


if __name__ == "__main__":
    main()
