"""Byte-level BPE tokenizers of any size, as `tokenizer.json`, in which every text can be written.

A vocabulary usually starts with all 256 bytes. An engine's embedding memory may hold no more than that, so
here bytes that are rare in the training text have no token of their own: such a byte is written as an escape
and two hexadecimal digits, three tokens. The file says all of this in parts of the `tokenizers` package,
which loads it as any other.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ternac.errors import UsageError
from ternac.text.tokenizer import PIECE
from ternac.text.tokenizer_check import ESCAPE, WORDS

RARE = 50_000
"""A byte that is fewer than one in this many has no token of its own."""
MAX_VOCAB = 65535
SAMPLE = 1 << 24
"""Bytes of the text, spread over all of it, that merges are counted on."""
_HEX = b"0123456789abcdef"


def byte_characters() -> list[str]:
    """Return the character that stands for each byte in byte-level tokenizers: itself if it is visible."""
    seen = {*range(33, 127), *range(161, 173), *range(174, 256)}
    hidden = iter(range(256, 512))
    return [chr(byte) if byte in seen else chr(next(hidden)) for byte in range(256)]


def train_bpe(data: bytes, vocab: int) -> bytes:
    """Return the ``tokenizer.json`` of a byte-level BPE with ``vocab`` tokens, trained on UTF-8 ``data``.

    Raises UsageError if the text is not UTF-8 or too short for ``vocab`` tokens, or if the vocabulary is too
    small for the bytes that occur.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the text is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}",
            "convert it; a model over bytes needs no tokenizer",
        ) from None
    counts = np.bincount(np.frombuffer(data, np.uint8), minlength=256)
    own = {byte for byte in range(256) if counts[byte] * RARE >= max(1, len(data))} | set(_HEX)
    if not len(own) + 1 <= vocab <= MAX_VOCAB:
        raise UsageError(
            f"a vocabulary of {vocab} tokens is outside {len(own) + 1}..{MAX_VOCAB}",
            f"{len(own)} bytes occur often enough to need a token, and the others share one",
        )
    character = byte_characters()
    rare = [(character[byte], f"{ESCAPE}{byte:02x}") for byte in range(256) if byte not in own]
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.Sequence(
        [normalizers.ByteLevel(), *(normalizers.Replace(char, escaped) for char, escaped in rare)]
    )
    made.pre_tokenizer = pre_tokenizers.Split(Regex(WORDS), "isolated")
    lost = "".join(character[byte] for byte in "\ufffd".encode())  # an escape without its digits
    made.decoder = decoders.Sequence(
        [
            decoders.Fuse(),
            *(decoders.Replace(escaped, char) for char, escaped in [*rare, (lost, ESCAPE)]),
            decoders.ByteLevel(),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab,
        special_tokens=[],
        show_progress=False,
        initial_alphabet=[ESCAPE, *(character[byte] for byte in sorted(own))],
        limit_alphabet=len(own) + 1,
    )
    made.train_from_iterator(_sample(text), trainer)
    if made.get_vocab_size() < vocab:
        raise UsageError(
            f"the text gives only {made.get_vocab_size()} tokens, not {vocab}", "use a longer text, or fewer"
        )
    return str(made.to_str(pretty=False)).encode() + b"\n"


def _sample(text: str) -> Iterator[str]:
    """Yield pieces spread evenly over the text, about `SAMPLE` characters in all."""
    every = max(1, len(text) // SAMPLE)
    for at in range(0, len(text), PIECE * every):
        yield text[at : at + PIECE]
