"""Tokens on which an imported model is calibrated and compared: from a text, or random."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import CheckpointError, UsageError
from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer

TOKENIZER = "tokenizer.json"
STREAMS = 8
LEAST = 16  # tokens, for each of the two purposes


@dataclass(frozen=True)
class Samples:
    """Tokens for calibration [B, T] and for the report [N], and where they come from, in words."""

    calibration: npt.NDArray[Any]
    report: npt.NDArray[Any]
    origin: str


@dataclass(frozen=True)
class Reader:
    """Encoder of text: by ``tokenizer.json`` (its bytes), by ``"bytes"``, or none."""

    name: str | None
    json: bytes = b""

    @classmethod
    def in_folder(cls, folder: Path, vocab: int) -> Reader:
        """Return a folder's encoder: its tokenizer, else bytes. Raises CheckpointError if neither fits."""
        path = folder / TOKENIZER
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return cls("bytes") if vocab == 256 else cls(None)
        except OSError as error:
            raise CheckpointError(f"cannot read {path}: {error.strerror}") from None
        try:
            found = HuggingFaceTokenizer(data, str(path)).vocab
        except UsageError as error:
            raise CheckpointError(str(error), error.hint) from None
        if found > vocab:
            raise CheckpointError(f"{path} has {found} tokens, the model {vocab}", "is it the model's own?")
        return cls("huggingface", data)

    def encode(self, data: bytes) -> npt.NDArray[Any]:
        """Return the tokens of a text. Raises UsageError if it cannot be encoded."""
        if self.name is None:
            raise UsageError(
                f"there is no {TOKENIZER} in the checkpoint's folder, so a text cannot be read",
                "put the model's tokenizer.json there, or give token numbers in an .npy file as --text",
            )
        tokenizer = HuggingFaceTokenizer(self.json) if self.json else ByteTokenizer()
        return tokenizer.encode(data).ids


def read_tokens(path: Path, reader: Reader, vocab: int) -> npt.NDArray[Any]:
    """Read the tokens of a text file, or the integers of an ``.npy`` file; all are in the vocabulary."""
    try:
        if path.suffix == ".npy":
            ids = np.load(
                path, mmap_mode="r", allow_pickle=False
            )  # its header cannot claim more than is there
        else:
            ids = reader.encode(path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise UsageError(
            f"cannot read {path}: {error}", "give a text, or one row of integers as numpy.save writes it"
        ) from None
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise UsageError(f"{path}: token numbers are one row of integers, not {ids.dtype}{list(ids.shape)}")
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab:
        raise UsageError(f"{path}: a token is not in 0..{vocab - 1}", "is the tokenizer that of the model?")
    return ids.astype(np.int64)


def samples(text: Path | None, reader: Reader, vocab: int, calibration: int, report: int) -> Samples:
    """Return the first ``calibration`` tokens of the text, and the next ``report`` ones.

    A text that is shorter is cut in two halves.  Without a text both are random, uniform over the vocabulary.
    """
    if text is None:
        rng = np.random.default_rng(0)
        ids = rng.integers(0, vocab, calibration + report)
        return Samples(_streams(ids[:calibration]), ids[calibration:], "random tokens, no text was given")
    ids = read_tokens(text, reader, vocab)
    if len(ids) < 2 * LEAST:
        raise UsageError(f"{text} has {len(ids)} tokens, needs at least {2 * LEAST}")
    first = min(calibration, len(ids) // 2)
    rest = ids[first : first + report]
    origin = f"{text.name}: tokens 0..{first - 1} calibrate, {first}..{first + len(rest) - 1} are compared"
    return Samples(_streams(ids[:first]), rest, origin)


def _streams(ids: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return [N] tokens as [B, T] with up to 8 streams; a few tokens at the end are dropped."""
    count = min(STREAMS, len(ids) // LEAST) or 1
    length = len(ids) // count
    return ids[: count * length].reshape(count, length)
