"""The configuration of an MMfreeLM checkpoint (Hugging Face layout), and the tensors that it must have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternac.errors import CheckpointError
from ternac.files import read_json
from ternac.program.numerics import MAX_DIM

MODEL_TYPE = "hgrn_bit"
NORM_EPS = 1e-6  # of the norm inside each projection, and of g_norm; the blocks' own is in the configuration

ATTN = ("i_proj", "f_proj", "g_proj", "o_proj")
MLP = ("gate_proj", "down_proj")

_FIXED: dict[str, tuple[Any, ...]] = {  # what the published models have; others compute something else
    "num_heads": (1,), "expand_ratio": (1,), "use_short_conv": (False,), "share_conv_kernel": (False, True),
    "hidden_act": ("swish", "silu"), "tie_word_embeddings": (False,),
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """Sizes of a model: vocabulary, width, layers, inner width of the MLP; eps of the blocks' norms."""

    vocab: int
    d: int
    layers: int
    m: int
    eps: float = 1e-6
    lower_bound: bool = True

    @property
    def trits(self) -> int:
        """Number of ternary weights."""
        shapes = self.tensors()
        return sum(math.prod(shapes[name]) for name in self.matrices())

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor of the checkpoint, by name."""
        d, m = self.d, self.m
        found: dict[str, tuple[int, ...]] = {"model.embeddings.weight": (self.vocab, d)}
        if self.lower_bound:
            found["model.lower_bounds"] = (self.layers, d)
        for index in range(self.layers):
            at = f"model.layers.{index}."
            found |= {f"{at}attn_norm.weight": (d,), f"{at}mlp_norm.weight": (d,)}
            found[f"{at}attn.g_norm.weight"] = (d,)
            for name in ATTN:
                found |= _linear(f"{at}attn.{name}", d, d)
            found |= _linear(f"{at}mlp.gate_proj", 2 * m, d) | _linear(f"{at}mlp.down_proj", d, m)
        return found | {"model.norm.weight": (d,)} | _linear("lm_head", self.vocab, d)

    def matrices(self) -> tuple[str, ...]:
        """Return the names of the ternary matrices."""
        return tuple(n for n in self.tensors() if n.endswith("_proj.weight") or n == "lm_head.weight")


def _linear(name: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (rows, columns), f"{name}.norm.weight": (columns,)}


def read_config(folder: Path) -> Config:
    """Return the configuration in ``folder/config.json``. Raises CheckpointError if it is damaged."""
    path = folder / "config.json"
    hint = "DIR is the folder of a checkpoint: config.json and .safetensors files"
    return parse_config(read_json(path, CheckpointError, hint), str(path))


def parse_config(data: dict[str, Any], where: str) -> Config:
    """Return the configuration of the fields of ``config.json``; ``where`` names it in errors."""
    kind = data.get("model_type", MODEL_TYPE)
    if kind != MODEL_TYPE:
        raise CheckpointError(
            f"{where}: model_type is {kind!r}, not {MODEL_TYPE!r}",
            "only MatMul-free language models (MMfreeLM) have a recurrence that a program can keep",
        )
    for name, allowed in _FIXED.items():
        value = data.get(name, allowed[0])
        if value not in allowed or isinstance(value, bool) != isinstance(allowed[0], bool):
            raise CheckpointError(f"{where}: {name} is {value!r}, the published models have {allowed[0]!r}")
    size = _sizes(data, where)
    m = data.get("intermediate_size")
    if m is None:  # as the model's own code derives it
        ratio = data.get("hidden_ratio") or 4
        if not isinstance(ratio, (int, float)) or isinstance(ratio, bool) or not 0 < ratio < 64:
            raise CheckpointError(f"{where}: hidden_ratio is {ratio!r}")
        m = 256 * math.ceil(int(size["hidden_size"] * ratio * 2 / 3) / 256)
    _whole(m, "intermediate_size", where)
    eps = data.get("rms_norm_eps", 1e-6)
    if not isinstance(eps, float) or not 0 <= eps <= 0.1:
        raise CheckpointError(f"{where}: rms_norm_eps is {eps!r}")
    bound = data.get("use_lower_bound", True)
    if not isinstance(bound, bool):
        raise CheckpointError(f"{where}: use_lower_bound is {bound!r}")
    return Config(size["vocab_size"], size["hidden_size"], size["num_hidden_layers"], m, eps, bound)


def _sizes(data: dict[str, Any], where: str) -> dict[str, int]:
    names = ("vocab_size", "hidden_size", "num_hidden_layers")
    return {name: _whole(data.get(name), name, where) for name in names}


def _whole(value: Any, name: str, where: str) -> int:
    limit = 1024 if name == "num_hidden_layers" else MAX_DIM
    if type(value) is not int or not 1 <= value <= limit:
        raise CheckpointError(f"{where}: {name} is {value!r}, needs a whole number in 1..{limit}")
    return value
