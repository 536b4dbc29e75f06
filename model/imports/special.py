"""The tokens that begin and end a text, as a checkpoint's files or a GGUF file's metadata name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ternac.errors import CheckpointError
from ternac.files import read_json
from ternac.model.export.gguf import GGML, metadata
from ternac.program.special import MAX_EOS, SpecialTokens
from ternac.text.tokenizer import HuggingFaceTokenizer

CONFIG, GENERATION, TOKENIZER_CONFIG = "config.json", "generation_config.json", "tokenizer_config.json"
DIGITS = 8
"""More than the number of a token has."""
_GGUF_EOS = ("eos_token_id", "eot_token_id", "eom_token_id")


@dataclass(frozen=True)
class _Named:
    """What one source says; None: nothing."""

    bos: int | None = None
    eos: tuple[int, ...] | None = None
    add_bos: bool | None = None


def of_folder(folder: Path, vocab: int, tokenizer: bytes) -> SpecialTokens:
    """Return the special tokens of a checkpoint in Hugging Face layout; ``tokenizer``: its tokenizer.json.

    A text begins with the token that `tokenizer_config.json` names, else `generation_config.json`, else
    `config.json`. It ends with those of `generation_config.json`, else of `config.json`, and with that of
    `tokenizer_config.json`. A prompt gets the first in front where ``add_bos_token`` says so; without that,
    where the tokenizer itself would put it there.

    Raises CheckpointError if a file is damaged, or a token is outside the vocabulary or unknown.
    """
    text = _of_tokenizer(folder / TOKENIZER_CONFIG, vocab, tokenizer)
    generation, model = (_of_config(folder / name, vocab) for name in (GENERATION, CONFIG))
    return _combine(text, [generation, model], folder / TOKENIZER_CONFIG)


def of_gguf(reader: Any, path: Path, vocab: int, tokenizer: bytes) -> SpecialTokens:
    """Return those of a GGUF file's metadata; what it leaves open, the tokenizer's files beside it say.

    Raises CheckpointError if a token is outside the vocabulary or unknown.
    """

    def field(name: str) -> Any:
        return metadata(reader, f"{GGML}.{name}")

    where = f"{path}: {GGML}"
    eos = [token for name in _GGUF_EOS for token in _tokens(field(name), f"{where}.{name}", vocab) or ()]
    bos = _token(field("bos_token_id"), f"{where}.bos_token_id", vocab)
    add = _flag(field("add_bos_token"), f"{where}.add_bos_token")
    text = _of_tokenizer(path.parent / TOKENIZER_CONFIG, vocab, tokenizer)
    bos = text.bos if bos is None else bos
    first = _Named(bos, tuple(eos) or text.eos, text.add_bos if add is None else add)
    return _combine(first, [], path)


def _combine(text: _Named, configs: list[_Named], where: Path) -> SpecialTokens:
    bos = next((named.bos for named in (text, *configs) if named.bos is not None), None)
    eos = next((named.eos for named in configs if named.eos is not None), ())
    if text.add_bos and bos is None:
        raise CheckpointError(
            f"{where}: a prompt gets a token in front (add_bos_token), and no file says which",
            "name it: bos_token_id in config.json",
        )
    eos = (*eos, *(text.eos or ()))
    if len(set(eos)) > MAX_EOS:
        raise CheckpointError(f"{where.parent}: {len(set(eos))} tokens end a text, limit {MAX_EOS}")
    return SpecialTokens.of(bos, eos, add_bos=bool(text.add_bos))


def _of_config(path: Path, vocab: int) -> _Named:
    data = _read(path)
    bos = _token(data.get("bos_token_id"), f"{path}: bos_token_id", vocab)
    eos = _tokens(data.get("eos_token_id"), f"{path}: eos_token_id", vocab)
    return _Named(bos, eos)


def _of_tokenizer(path: Path, vocab: int, tokenizer: bytes) -> _Named:
    data = _read(path)
    reader = HuggingFaceTokenizer(tokenizer) if tokenizer else None

    def named(key: str) -> int | None:
        value = data.get(key)
        text = value.get("content") if isinstance(value, dict) else value
        if text is None:
            return None
        if not isinstance(text, str):
            raise CheckpointError(f"{path}: {key} is {str(value)[:40]}, needs a text")
        token = reader.token_id(text) if reader else _added(data).get(text)
        if token is None and reader is None:
            return None  # a file of a tokenizer that is not there
        if token is None:
            raise CheckpointError(
                f"{path}: {key} is {text!r}, which is no token of tokenizer.json", "are both of one model?"
            )
        return _token(token, f"{path}: {key}", vocab)

    bos, eos = named("bos_token"), named("eos_token")
    add = _flag(data.get("add_bos_token"), f"{path}: add_bos_token")
    if add is None and reader is not None and (front := reader.front()):
        if len(front) > 1:
            raise CheckpointError(
                f"{path.parent}: tokenizer.json puts {len(front)} tokens in front of a text, a program one",
                "take a tokenizer.json that puts one there, or none",
            )
        bos, add = front[0], True
    return _Named(bos, None if eos is None else (eos,), add)


def _added(data: Mapping[str, Any]) -> dict[str, int]:
    """Return the tokens of ``added_tokens_decoder`` by their text."""
    entries = data.get("added_tokens_decoder")
    if not isinstance(entries, dict):
        return {}
    return {
        str(entry.get("content")): int(token)
        for token, entry in entries.items()
        if isinstance(entry, dict) and token.isascii() and token.isdigit() and len(token) <= DIGITS
    }


def _read(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; an empty one where there is no file."""
    return read_json(path, CheckpointError) if path.exists() else {}


def _flag(value: Any, where: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise CheckpointError(f"{where} is {str(value)[:40]}, needs true or false")
    return value


def _token(value: Any, where: str, vocab: int) -> int | None:
    """Return a token; None where nothing is said."""
    if value is not None and (type(value) is not int or not 0 <= value < vocab):
        raise CheckpointError(
            f"{where} is {str(value)[:40]}, the model has tokens 0..{vocab - 1}",
            "is the file the model's own? null says that there is none",
        )
    return value


def _tokens(value: Any, where: str, vocab: int) -> tuple[int, ...] | None:
    """Return a token, or a list of them; None where nothing is said."""
    if value is None:
        return None
    given = value if isinstance(value, list) else [value]
    return tuple(token for one in given if (token := _token(one, where, vocab)) is not None)
