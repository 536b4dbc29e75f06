"""Tensors of a checkpoint: `.safetensors` files, one or many, read lazily."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import CheckpointError
from ternac.files import read_json

Floats = npt.NDArray[np.float32]
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
_TYPES = ("BF16", "F16", "F32")


class Source(Protocol):
    """Tensors by name; only names and shapes are read before a tensor is asked for."""

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def floats(self, name: str) -> Floats:
        """Return the tensor as float32. Raises CheckpointError if a value is not finite."""

    def trits(self, name: str) -> tuple[npt.NDArray[np.int8], float]:
        """Return the matrix as trits, and what a trit is worth (1 / s_w)."""


def quantize(weight: Floats) -> tuple[npt.NDArray[np.int8], float]:
    """Quantize as the models do: trits ``clamp(round(W s), -1, 1)``, ``s = 1 / max(mean |W|, 1e-5)``.

    Returns the trits and ``1 / s`` (a float32 value).  The mean is taken in float64.  Rounds half to even.
    """
    mean = np.float32(max(float(np.abs(weight).mean(dtype=np.float64)), 1e-5))
    scaled = weight * (np.float32(1) / mean)
    return np.clip(np.rint(scaled, out=scaled), -1, 1).astype(np.int8), float(mean)


def check_finite(name: str, values: Floats) -> Floats:
    """Return the values. Raises CheckpointError if one is NaN or infinite."""
    bad = values.size - int(np.isfinite(values).sum())
    if bad:
        raise CheckpointError(f"tensor {name}: {bad} of {values.size} values are not finite numbers")
    return values


class SafetensorsFolder:
    """Tensors of a folder: ``model.safetensors``, or shards with ``model.safetensors.index.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, Any] = {}
        self._home: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        index = _read_index(folder)
        names = sorted(set(index.values())) if index else [SINGLE]
        for file in names:
            handle = self._open(file)
            for name in handle.keys():  # noqa: SIM118
                if name in self._home:
                    raise CheckpointError(f"tensor {name} is in {self._home[name]} and in {file}")
                part = handle.get_slice(name)
                if part.get_dtype() not in _TYPES:
                    raise CheckpointError(
                        f"tensor {name} is {part.get_dtype()}, needs one of {', '.join(_TYPES)}"
                    )
                self._home[name], self.shapes[name] = file, tuple(part.get_shape())
        for name, file in index.items():
            if self._home.get(name) != file:
                found = self._home.get(name, "no file")
                raise CheckpointError(
                    f"{INDEX} has tensor {name} in {file}, it is in {found}", "get the checkpoint again"
                )

    def _open(self, file: str) -> Any:
        from safetensors import SafetensorError, safe_open

        path = self.folder / file
        try:
            handle = safe_open(path, framework="pt")  # torch knows bfloat16, NumPy does not
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read {path}: {error}", "get the checkpoint again") from None
        self._files[file] = handle
        return handle

    def floats(self, name: str) -> Floats:
        """See :class:`Source`."""
        from safetensors import SafetensorError

        try:
            values = self._files[self._home[name]].get_tensor(name).float().numpy()
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"cannot read tensor {name}: {error}") from None
        return check_finite(name, values)

    def trits(self, name: str) -> tuple[npt.NDArray[np.int8], float]:
        """See :class:`Source`."""
        return quantize(self.floats(name))


def _read_index(folder: Path) -> dict[str, str]:
    """Return the file of each tensor of a sharded checkpoint; empty for a single file."""
    path = folder / INDEX
    if not path.exists():
        if not (folder / SINGLE).exists():
            raise CheckpointError(
                f"{folder} has neither {SINGLE} nor {INDEX}",
                "weights in other formats: convert them with save_pretrained(safe_serialization=True)",
            )
        return {}
    found = read_json(path, CheckpointError).get("weight_map")
    if not found or not isinstance(found, dict) or not all(isinstance(file, str) for file in found.values()):
        raise CheckpointError(
            f"{path} is no index of shards: weight_map is empty or no map of names to files"
        )
    for file in set(found.values()):
        if file in ("", ".", "..") or Path(file).name != file or not file.isprintable():  # or a surrogate
            raise CheckpointError(f"{path}: shard {file!r} is not a plain file name")
    return found


def check_tensors(source: Source, wanted: Mapping[str, tuple[int, ...]]) -> None:
    """Raises CheckpointError if the source has other tensors than ``wanted``, or other shapes."""
    missing = [name for name in wanted if name not in source.shapes]
    extra = [name for name in source.shapes if name not in wanted]
    for what, names in (("missing", missing), ("not part of an MMfreeLM model", extra)):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise CheckpointError(
                f"tensors {what}: {', '.join(names[:3])}{more}",
                "does config.json belong to these weights (layers, lower bounds)?",
            )
    for name, shape in wanted.items():
        if tuple(source.shapes[name]) != shape:
            raise CheckpointError(
                f"tensor {name} is {list(source.shapes[name])}, the configuration says {list(shape)}"
            )
