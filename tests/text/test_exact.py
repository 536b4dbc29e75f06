"""Any bytes become tokens and a rest, and come back."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.text.exact import MOST_LINES, Parts, blocks, join, split
from ternac.text.tokenizer import ByteTokenizer, HuggingFaceTokenizer, Tokenizer
from ternac.text.training import train_bpe

TEXT = "the quick brown fox\njumps over the lazy dog\n" * 20


@cache
def own() -> Tokenizer:
    return HuggingFaceTokenizer(train_bpe(TEXT.encode(), 60))


@cache
def lossy() -> Tokenizer:
    """It makes letters small and loses those that it does not know."""
    from tokenizers import Tokenizer as Rust
    from tokenizers import decoders, models, normalizers

    made = Rust(models.BPE(vocab={letter: at for at, letter in enumerate("abcdefgh \n")}, merges=[]))
    made.normalizer, made.decoder = normalizers.Lowercase(), decoders.Fuse()
    return HuggingFaceTokenizer(made.to_str().encode())


TOKENIZERS = {"bytes": ByteTokenizer, "own": own, "lossy": lossy}


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200) | st.text("abcABC\n é", max_size=99).map(str.encode), st.integers(1, 256))
def test_any_bytes_come_back(name: str, data: bytes, vocab: int) -> None:
    tokenizer = TOKENIZERS[name]()
    vocab = vocab if name == "bytes" else tokenizer.vocab
    parts = split(tokenizer, vocab, data)
    assert join(tokenizer, parts) == data
    assert not len(parts.tokens) or parts.tokens.max() < vocab


def test_only_lines_that_do_not_fit_go_to_the_rest() -> None:
    data = b"a bad\na BAD\ncafe\nfade\n\xff\xfe\ndeaf\n"
    parts = split(lossy(), lossy().vocab, data)
    assert parts.rest == b"a BAD\n\xff\xfe\n"
    assert parts.runs == (6, 6, 10, 3, 5)
    assert join(lossy(), parts) == data
    assert split(own(), 60, b"\xffx\nthe dog\n").runs == (0, 3, 8)
    assert split(own(), 60, TEXT.encode()).runs == ()


def test_what_is_no_text_goes_to_the_rest_whole() -> None:
    data = b"A\n" * (MOST_LINES + 1)
    parts = split(lossy(), lossy().vocab, data)
    assert (len(parts.tokens), parts.rest) == (0, data)


def test_parts_that_do_not_add_up_are_refused() -> None:
    tokens = np.frombuffer(b"abc", np.uint8)
    for parts in (Parts(tokens, b"x"), Parts(tokens, b"x", (3, 2)), Parts(tokens, b"x", (2, 1))):
        with pytest.raises(ValueError):
            join(ByteTokenizer(), parts)


@given(st.binary(max_size=300), st.integers(4, 50), st.integers(1, 60))
def test_blocks_are_the_stream_whatever_comes_at_a_time(data: bytes, size: int, piece: int) -> None:
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    found = list(blocks(pieces, size))
    assert b"".join(found) == data
    assert found == list(blocks([data], size))
    assert all(1 <= len(block) <= size for block in found)


def test_blocks_end_behind_lines_and_characters() -> None:
    assert list(blocks([b"0123456\n89abc"], 10)) == [b"0123456\n", b"89abc"]
    assert list(blocks(["012345678é".encode()], 10)) == [b"012345678", "é".encode()]
