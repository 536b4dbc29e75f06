"""Files of a training run, what they record of its text, and the checkpoints of a program; without torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternac.errors import UsageError
from ternac.files import parse_json, read_json
from ternac.model.training.data import SHAKESPEARE, Corpus, read_corpus, split
from ternac.text.tokenizer import ByteTokenizer, Encoded, HuggingFaceTokenizer

LATEST, BEST, FINAL = "latest.safetensors", "best.safetensors", "final.safetensors"
CHECKPOINT = "checkpoint.safetensors"
"""The weights in an exported folder; those of ``x.safetensors`` are ``x.checkpoint.safetensors``."""
SHARDS = "shards"
INFO = "ternac.json"
"""In the newest folder of `SHARDS`: what the header of `LATEST` says in a run of one process."""
SHIPPED = "model/data/tinyshakespeare.txt"
"""How the shipped text is recorded, wherever it is installed."""
_MAX_HEADER = 100_000_000  # the limit of the safetensors package


def checkpoint_of(program: Path) -> Path:
    """Return the name of the checkpoint that belongs to a program file."""
    return program.with_name(f"{program.stem}.{CHECKPOINT}")


def next_checkpoint_of(program: Path) -> Path:
    """Return where the checkpoint of a program file lies until the program itself is written."""
    return program.with_name(f"{program.stem}.next.{CHECKPOINT}")


def checkpoints_beside(path: Path) -> list[Path]:
    """Return the checkpoints that a program in ``path``, a file or a folder, may have come from."""
    folder = path if path.is_dir() else path.parent
    found = [
        checkpoint_of(path),
        next_checkpoint_of(path),
        *(folder / name for name in (CHECKPOINT, FINAL, BEST, LATEST)),
    ]
    return [each for each in found if each.is_file()]


def read_info(path: Path) -> dict[str, Any]:
    """Return the plain data in the header of a checkpoint; nothing if the file is none."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = parse_json(file.read(size)) if size <= _MAX_HEADER else {}
        info = parse_json(header["__metadata__"]["ternac"])
    except (OSError, ValueError, TypeError, LookupError):
        return {}
    return info if isinstance(info, dict) else {}


def progress_of(folder: Path) -> tuple[int, int] | None:
    """Return the step that a run has reached and the steps it is to take; None if the folder holds no run."""
    info = read_info(folder / LATEST)
    if not info:
        shards = sorted((folder / SHARDS).glob("step-*"), reverse=True)
        complete = next((each for each in shards if (each / ".metadata").is_file()), None)
        try:
            info = read_json(complete / INFO) if complete else {}
        except UsageError:
            info = {}
    try:
        return int(info["step"]), int(info["config"]["train"]["steps"])
    except (LookupError, TypeError, ValueError, OverflowError):
        return None


@dataclass(frozen=True)
class TextRecord:
    """What a checkpoint records of the text of its run."""

    tokens_sha256: str
    val_fraction: float
    """Part of the tokens, at the end, that training never saw."""
    path: str = ""
    """As it was given; empty where the checkpoint does not say."""
    text_bytes: int = 0

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> TextRecord | None:
        """Return the record in a checkpoint's data, None if there is none."""
        try:
            fraction = float(info["config"]["train"].get("val_fraction", 0.1))
            text = info.get("text", {})
            return cls(
                str(info["text_sha256"]), fraction, str(text.get("path", "")), int(text.get("bytes", 0))
            )
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
            return None

    @property
    def name(self) -> str:
        """Return the file's name, or what is known instead."""
        return Path(self.path).name or f"a text whose tokens have the sha256 {self.tokens_sha256[:12]}..."

    @property
    def source(self) -> Path:
        """Return where the text should be. Raises UsageError if the checkpoint does not say."""
        if self.path == SHIPPED:
            return SHAKESPEARE
        if not self.path:
            raise UsageError("the checkpoint does not name the text of its run", "name it: --text FILE")
        return Path(self.path)

    def read(self, path: Path, tokenizer: bytes) -> Corpus:
        """Read the text of the run. Raises UsageError if it is not there, or another one."""
        if not path.exists():
            raise UsageError(f"the text of the run is not at {path}", "name it: --text FILE")
        corpus = read_corpus(path, tokenizer)
        if corpus.digest != self.tokens_sha256:
            raise UsageError(
                f"{path} is not the text of the run, which is {self.name}: its tokens have the sha256 "
                f"{corpus.digest[:12]}..., not {self.tokens_sha256[:12]}...",
                "name the text that the model was trained on; of another one only the whole can be measured, "
                "without --split",
            )
        return corpus

    def part(self, corpus: Corpus, which: str) -> Encoded:
        """Return the part for training (``"train"``) or the one that was held out (``"val"``)."""
        train, val = split(corpus.tokens, self.val_fraction)
        return encoded(corpus, 0, len(train)) if which == "train" else encoded(corpus, len(train))

    def words(self, which: str) -> str:
        """Return a part in words: "the last 10%"."""
        share = self.val_fraction if which == "val" else 1.0 - self.val_fraction
        return f"the {'last' if which == 'val' else 'first'} {100 * share:.4g}%"


def record_beside(path: Path) -> TextRecord | None:
    """Return what the checkpoints of a program, a file or a folder, record of their text, if any."""
    found = [record for each in checkpoints_beside(path) if (record := TextRecord.of(read_info(each)))]
    return found[0] if found else None


def encoded(corpus: Corpus, start: int, stop: int | None = None) -> Encoded:
    """Return some tokens of a text with the bytes and characters that they stand for.

    Not ``lossless`` where the pieces cannot be told apart, as where a character is cut by a token's end.
    """
    ids = corpus.tokens[start:stop]
    if not corpus.tokenizer:
        whole = ByteTokenizer().encode(corpus.tokens.tobytes()).chars is not None
        begins = (ids & 0xC0) != 0x80  # bytes that begin a character
        chars = int(begins.sum()) if whole else None
        return Encoded(ids, len(ids), chars, min(1, len(ids)), int(begins[:1].sum()), True)
    tokenizer = HuggingFaceTokenizer(corpus.tokenizer)
    first, rest, all_of_it = (tokenizer.decode(part.tolist()) for part in (ids[:1], ids[1:], ids))
    before, after = corpus.tokens[:start], corpus.tokens[len(corpus.tokens) if stop is None else stop :]
    around = [tokenizer.decode(part.tolist()) for part in (before, after)]
    sizes = [len(text.encode()) for text in (*around, all_of_it)]
    exact = first + rest == all_of_it and sum(sizes) == corpus.text_bytes
    head = first if exact else ""
    return Encoded(ids, sizes[-1], len(all_of_it), len(head.encode()), len(head), exact)
