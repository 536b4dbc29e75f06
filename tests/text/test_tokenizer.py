"""Tokenizers: every text comes back, a text has one way to be tokens, streams never show half a character."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from ternac.errors import BadProgramFile, UsageError
from ternac.program.random import random_program
from ternac.program.zoo import TEXT as TINY_SHAKESPEARE
from ternac.text import tokenizer as tk
from ternac.text.tokenizer import (
    ByteTokenizer,
    HuggingFaceTokenizer,
    encode_prompt,
    tokenizer_of,
    whole_characters,
)
from ternac.text.training import MAX_VOCAB, train_bpe

TEXT = TINY_SHAKESPEARE.read_text()[:20_000]
SMALL = train_bpe(TEXT.encode(), 96)
BPE = HuggingFaceTokenizer(SMALL)
BYTES = ByteTokenizer()


def metaspace() -> bytes:
    """A tokenizer of another family: words with a mark for the space, unknown characters byte by byte."""
    vocab = {"<unk>": 0, **{f"<0x{b:02X}>": 1 + b for b in range(256)}}
    for piece in ("\u2581", "\u2581the", "\u2581fox", "a", "b", "t", "h", "e", "f", "o", "x", "\u00e9"):
        vocab[piece] = len(vocab)
    made = Tokenizer(models.Unigram([(p, -float(i)) for i, p in enumerate(vocab)], 0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return made.to_str().encode()


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_every_text_comes_back(text: str) -> None:
    """Also characters that the training text never had, the escape itself, control characters."""
    for reader in (BPE, BYTES):
        found = reader.encode(text.encode())
        assert found.lossless
        assert reader.decode(found.ids.tolist()) == text
        assert found.chars == len(text)
        assert found.bytes == len(text.encode())
        assert all(0 <= token < reader.vocab for token in found.ids.tolist())


@given(
    st.text(alphabet="the fox\n\u00e9\u4f60\U0001f642\u241b\x00", min_size=1, max_size=40), st.integers(0, 5)
)
def test_streams_give_the_text_and_whole_characters(text: str, before: int) -> None:
    for reader in (BPE, BYTES, HuggingFaceTokenizer(metaspace())):
        ids = reader.encode(text.encode()).ids.tolist()
        whole = reader.decode(ids)
        stream = reader.stream()
        parts = [stream.feed(token) for token in ids] + [stream.finish()]
        assert "".join(parts) == whole
        assert "\ufffd" not in "".join(parts)
    ids = BPE.encode(text.encode()).ids.tolist()
    cut = min(before, len(ids))
    if (
        "\ufffd" not in (start := BPE.decode(ids[:cut]))
        and BPE.encode(start.encode()).ids.tolist() == ids[:cut]
    ):
        stream = BPE.stream(ids[:cut])
        assert start + "".join(map(stream.feed, ids[cut:])) + stream.finish() == text


def test_a_space_after_the_prompt_is_kept() -> None:
    """A decoder that strips the first space of a text must not strip that of a continuation."""
    reader = HuggingFaceTokenizer(metaspace())
    prompt, more = reader.encode(b"the").ids.tolist(), reader.encode(b"the fox").ids.tolist()
    assert more[: len(prompt)] == prompt
    stream = reader.stream(prompt)
    assert "".join(map(stream.feed, more[len(prompt) :])) == " fox"


@given(st.lists(st.integers(0, 95), max_size=60))
def test_streams_of_any_tokens_are_text(ids: list[int]) -> None:
    """What a model draws need not be UTF-8; what is shown is, and nothing waits for ever."""
    stream = BPE.stream()
    shown = "".join(map(stream.feed, ids)) + stream.finish()
    shown.encode()
    assert stream.finish() == ""


def test_one_text_one_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a text is cut into pieces changes no token, for cuts behind a line."""
    whole = BPE.encode(TEXT.encode()).ids
    for piece in (60, 97, 500):
        monkeypatch.setattr(tk, "PIECE", piece)
        assert np.array_equal(BPE.encode(TEXT.encode()).ids, whole)
    seen: list[int] = []
    BPE.encode(TEXT.encode(), seen.append)
    assert seen[-1] == len(TEXT)


def test_what_the_first_token_stands_for() -> None:
    found = BPE.encode(b"the fox")
    assert (found.head, found.head_chars) == (len(BPE.decode(found.ids[:1])),) * 2
    assert BYTES.encode("\u00e9t\u00e9".encode()).head_chars == 0  # its second byte is predicted
    assert BYTES.encode(b"ab").head_chars == 1
    assert BYTES.encode(b"a\xff").chars is None
    assert len(BPE.encode(b"").ids) == 0


def test_training() -> None:
    assert BPE.vocab == 96
    assert train_bpe(TEXT.encode(), 96) == SMALL
    assert len(BPE.encode(TEXT.encode()).ids) < 0.8 * len(TEXT)
    with pytest.raises(UsageError, match="not UTF-8: byte 3 is 0xff"):
        train_bpe(b"abc\xff", 300)
    with pytest.raises(UsageError, match="vocabulary of 20 tokens is outside"):
        train_bpe(TEXT.encode(), 20)
    with pytest.raises(UsageError, match=f"outside .*{MAX_VOCAB}"):
        train_bpe(TEXT.encode(), 70000)
    with pytest.raises(UsageError, match="gives only"):
        train_bpe(TEXT.encode(), 60000)


def test_bad_tokenizers_and_texts() -> None:
    for wrong in (b"", b"{}", b"\xff", b"[1, 2]", SMALL[: len(SMALL) // 2]):
        with pytest.raises(UsageError, match="is not a tokenizer"):
            HuggingFaceTokenizer(wrong)
    panics = json.loads(SMALL)
    panics["model"]["continuing_subword_prefix"] = "x"
    with pytest.raises(UsageError, match="is not a tokenizer"):
        HuggingFaceTokenizer(json.dumps(panics).encode())
    empty = json.loads(SMALL)
    empty["model"]["vocab"], empty["model"]["merges"] = {}, []
    with pytest.raises(UsageError, match="empty vocabulary"):
        HuggingFaceTokenizer(json.dumps(empty).encode())
    with pytest.raises(UsageError, match="not UTF-8: byte 2 is 0xfe"):
        BPE.encode(b"ab\xfe")
    lower = json.loads(SMALL)
    lower["normalizer"]["normalizers"].insert(0, {"type": "Lowercase"})
    assert not HuggingFaceTokenizer(json.dumps(lower).encode()).encode(TEXT.encode()).lossless


def test_whole_characters() -> None:
    text = "a\u00e9\u4f60\U0001f642".encode()
    for end in range(len(text) + 1):
        assert whole_characters(text[:end]) == text[:end].decode(errors="ignore").encode()
    for wrong in (b"ab\xff", b"a\xed\xac", b"a\xc3\xa0\x80", b"a\xc0"):  # not cut: for the tokenizer to name
        assert whole_characters(wrong) == wrong


def test_of_a_program() -> None:
    program = random_program(np.random.default_rng(1), d=6, m=8, layers=1, vocab=96)
    carried = replace(program, meta={"tokenizer": "huggingface"}, tokenizer=SMALL)
    assert tokenizer_of(carried).vocab == 96
    with pytest.raises(UsageError, match="96 tokens and no tokenizer"):
        tokenizer_of(program)
    assert tokenizer_of(program, assume_bytes=True).name == "bytes"
    with pytest.raises(BadProgramFile, match="has 90 tokens, its tokenizer 96"):
        tokenizer_of(replace(carried, vocab=90))
    with pytest.raises(BadProgramFile, match="is not a tokenizer"):
        tokenizer_of(replace(carried, tokenizer=b"{}"))


def test_a_broken_escape_spoils_nothing_else() -> None:
    """Drawn tokens may be an escape without digits: U+FFFD stands there, the rest stays text."""
    the = BPE.encode(b" the").ids.tolist()
    escape = BPE.encode(b"\x01").ids.tolist()[0]
    ids = [*the, escape, *the]
    assert BPE.decode(ids) == " the\ufffd the"
    stream = BPE.stream()
    assert "".join(map(stream.feed, ids)) + stream.finish() == " the\ufffd the"


def test_half_a_surrogate_pair_is_refused() -> None:
    program = random_program(np.random.default_rng(0), d=4, m=4, layers=1, vocab=256)
    with pytest.raises(UsageError, match="unpaired surrogate"):
        encode_prompt(program, BYTES, "a\ud800", begins=True)


def test_a_prompt_begins_with_the_token_that_the_program_puts_in_front_never_twice() -> None:
    base = random_program(np.random.default_rng(0), d=4, m=4, layers=1, vocab=256)

    def prompt(text: str, begins: bool, **special: object) -> list[int]:
        program = replace(base, meta={"special_tokens": {"bos": 1, "eos": [2], **special}})
        return encode_prompt(program, BYTES, text, begins=begins)

    assert prompt("ab", True, add_bos=True) == [1, 97, 98]
    assert prompt("\x01ab", True, add_bos=True) == [1, 97, 98]
    assert prompt("", True, add_bos=True) == [1]
    assert prompt("ab", False, add_bos=True) == prompt("ab", True, add_bos=False) == [97, 98]
    assert encode_prompt(base, BYTES, b"ab", begins=True) == [97, 98]
