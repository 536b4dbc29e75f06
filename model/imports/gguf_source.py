"""MMfreeLM models in GGUF files: tensors under their Hugging Face names, matrices as trits or as floats.

llama.cpp knows no such architecture, so no names but the checkpoint's own exist.  Sizes follow from shapes.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import CheckpointError
from ternac.model.export.gguf import TYPES, padded, text_field, unpack
from ternac.model.imports.mmfreelm_config import Config
from ternac.model.imports.source import Floats, check_finite, quantize

_SIGN = "model.layers.0.attn.i_proj.weight"


class GgufSource:
    """Tensors of a GGUF reader; a `ternac.model.imports.source.Source`."""

    def __init__(self, reader: Any) -> None:
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.shapes = {name: tuple(int(n) for n in t.shape)[::-1] for name, t in self._tensors.items()}

    def fit(self, wanted: dict[str, tuple[int, ...]]) -> None:
        """Give padded rows their real length (`unpack` checks the padding when they are read)."""
        for name, shape in wanted.items():
            tensor = self._tensors.get(name)
            if tensor is not None and tensor.tensor_type.name in TYPES and len(shape) == 2:
                if self.shapes[name] == (shape[0], padded(shape[1])):
                    self.shapes[name] = shape

    def floats(self, name: str) -> Floats:
        """Return the tensor as float32. Raises CheckpointError for an unknown type or infinite values."""
        from gguf import quants

        tensor = self._tensors[name]
        try:
            values = quants.dequantize(tensor.data, tensor.tensor_type)
        except (NotImplementedError, ValueError) as error:
            raise CheckpointError(f"tensor {name}: {error}") from None
        return check_finite(name, np.array(values, np.float32).reshape(self.shapes[name]))

    def trits(self, name: str) -> tuple[npt.NDArray[np.int8], float]:
        """Return the trits of TQ blocks, or those of floats by the models' own quantizer."""
        tensor, (rows, columns) = self._tensors[name], self.shapes[name]
        kind = tensor.tensor_type.name
        if kind in TYPES:
            return unpack(tensor.data.reshape(rows, -1), columns, kind, name)
        if kind not in ("F32", "F16", "BF16"):
            raise CheckpointError(f"tensor {name} is {kind}: neither trits nor the original weights")
        return quantize(self.floats(name))


def open_source(reader: Any, path: Path) -> tuple[Config, GgufSource]:
    """Return configuration and tensors of an MMfreeLM model. Raises CheckpointError if the file is none."""
    source = GgufSource(reader)
    if _SIGN not in source.shapes:
        raise _refusal(reader, source, path)
    shapes = source.shapes
    found = (re.match(r"model\.layers\.(\d{1,4})\.", name) for name in shapes)
    layers = 1 + max(int(match[1]) for match in found if match)
    vocab, d = (*shapes.get("model.embeddings.weight", (0, 0)), 0)[:2]
    m = shapes.get("model.layers.0.mlp.gate_proj.weight", (0,))[0] // 2
    if not vocab or not d or not m:
        raise CheckpointError(f"{path}: embedding or MLP of layer 0 is missing")
    config = Config(vocab, d, layers, m, lower_bound="model.lower_bounds" in shapes)
    source.fit(config.tensors())
    return config, source


def _refusal(reader: Any, source: GgufSource, path: Path) -> CheckpointError:
    """Return the error that says why this model cannot become a program."""
    kind = text_field(reader, "general.architecture") or "unknown"
    attends = any(re.search(r"attn_(q|k|qkv|kv_a)|self_attn\.(q|k|qkv)_proj", name) for name in source.shapes)
    if attends:
        return CheckpointError(
            f"{path}: architecture {kind!r} is a transformer: it attends to all earlier tokens, through a "
            "softmax over a cache that grows, and a program has neither",
            "only MatMul-free recurrent models (MMfreeLM) and files of ternac export can be imported; "
            "ternary weights alone do not make a model recurrent",
        )
    return CheckpointError(
        f"{path}: architecture {kind!r} is not one that can be imported",
        f"an MMfreeLM model has tensors such as {_SIGN}; ternac export writes files that can be read back",
    )
