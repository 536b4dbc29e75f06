"""The tokens on which an imported model is calibrated and compared: from a text, or random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import CheckpointError, UsageError

TOKENIZER = "tokenizer.json"
STREAMS = 8
LEAST = 16  # tokens, for each of the two purposes


@dataclass(frozen=True)
class Samples:
    """Tokens for calibration [B, T] and for the report [N], and where they come from, in words."""

    calibration: npt.NDArray[Any]
    report: npt.NDArray[Any]
    origin: str


def tokenizer_name(folder: Path, vocab: int) -> str | None:
    """``"huggingface"`` if there is a tokenizer beside the checkpoint, else ``"bytes"`` if it can be that."""
    if (folder / TOKENIZER).exists():
        return "huggingface"
    return "bytes" if vocab == 256 else None


def encode(data: bytes, folder: Path, vocab: int) -> npt.NDArray[Any]:
    """The tokens of a text; UsageError or CheckpointError says what is in the way."""
    name = tokenizer_name(folder, vocab)
    if name is None:
        raise UsageError(
            f"{folder} has no {TOKENIZER}, so a text cannot be read",
            "put the model's tokenizer.json there, or give token numbers in an .npy file as --text",
        )
    if name == "bytes":
        return np.frombuffer(data, np.uint8).astype(np.int64)
    from tokenizers import Tokenizer

    try:
        ids = Tokenizer.from_file(str(folder / TOKENIZER)).encode(data.decode(), add_special_tokens=False).ids
    except UnicodeDecodeError as error:
        raise UsageError(f"the text is not UTF-8: {error}") from None
    except Exception as error:  # the package raises nothing narrower
        raise CheckpointError(f"{folder / TOKENIZER} cannot be used: {error}") from None
    return np.array(ids, np.int64)


def read_tokens(path: Path, folder: Path, vocab: int) -> npt.NDArray[Any]:
    """Tokens of a text file, or the integers of an ``.npy`` file; every one in the vocabulary."""
    try:
        if path.suffix == ".npy":
            ids = np.load(path, allow_pickle=False)
        else:
            ids = encode(path.read_bytes(), folder, vocab)
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from None
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UsageError(f"{path}: token numbers are one row of integers, not {ids.dtype}{list(ids.shape)}")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise UsageError(f"{path}: a token is not in 0..{vocab - 1}", "is the tokenizer that of the model?")
    return ids.astype(np.int64)


def samples(text: Path | None, folder: Path, vocab: int, calibration: int, report: int) -> Samples:
    """The first ``calibration`` tokens of the text for calibration, the next ``report`` ones for the report.

    A text that is shorter is cut in two halves.  Without a text both are random, uniform over the vocabulary.
    """
    if text is None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, vocab, calibration + report)
        return Samples(_streams(ids[:calibration]), ids[calibration:], "random tokens, no text was given")
    ids = read_tokens(text, folder, vocab)
    if len(ids) < 2 * LEAST:
        raise UsageError(f"{text} has {len(ids)} tokens, needs at least {2 * LEAST}")
    first = min(calibration, len(ids) // 2)
    rest = ids[first : first + report]
    origin = f"{text.name}: tokens 0..{first - 1} calibrate, {first}..{first + len(rest) - 1} are compared"
    return Samples(_streams(ids[:first]), rest, origin)


def _streams(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[N] as [B, T] with up to 8 streams, a few tokens left out at the end."""
    count = min(STREAMS, len(ids) // LEAST) or 1
    length = len(ids) // count
    return ids[: count * length].reshape(count, length)
