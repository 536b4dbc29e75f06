"""Tokenizer files that would take a machine: found by looking, or run where they harm nothing."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from ternac import limits
from ternac.errors import OverBudget, TernacError, UsageError
from ternac.limits import Budget
from ternac.program.zoo import open_program
from ternac.text.library import Apart, InProcess, open_library
from ternac.text.tokenizer import HuggingFaceTokenizer
from ternac.text.tokenizer_check import inspect
from ternac.text.training import train_bpe

TEXT = b"the quick brown fox jumps over the lazy dog, again and again. " * 40


def file(**parts: Any) -> bytes:
    made = Tokenizer(models.BPE(vocab={"a": 0, "b": 1, "ab": 2}, merges=[("a", "b")]))
    for name, part in parts.items():
        setattr(made, name, part)
    return bytes(made.to_str().encode())


def edited(change: Callable[[dict[str, Any]], None]) -> bytes:
    data = json.loads(file())
    change(data)
    return json.dumps(data).encode()


def doubling(kind: Any, count: int) -> list[Any]:
    return [kind("a", "aa") for _ in range(count)]


BOMBS: dict[str, tuple[bytes, str]] = {
    "normalizers": (
        file(normalizer=normalizers.Sequence(doubling(normalizers.Replace, 30))),
        "1,073,741,824 characters for one, the limit is 512",
    ),
    "decoders": (
        file(decoder=decoders.Sequence(doubling(decoders.Replace, 30))),
        "1,073,741,824 characters for one",
    ),
    "nested": (
        file(normalizer=normalizers.Sequence([normalizers.Sequence(doubling(normalizers.Replace, 8))] * 3)),
        "16,777,216 characters for one",
    ),
    "in pairs": (
        file(normalizer=normalizers.Sequence([normalizers.Replace("ab", "abab")] * 20)),
        "characters for one",
    ),
    "between all characters": (
        file(normalizer=normalizers.Sequence([normalizers.Replace(Regex(""), "aa")] * 9)),
        "characters for one",
    ),
    "in front": (file(normalizer=normalizers.Prepend("a" * (4 << 20))), "4,194,304 characters for one"),
    "many steps": (
        file(normalizer=normalizers.Sequence([normalizers.Strip()] * 2000)),
        "2,000 normalizers and decoders, the limit is 1,024",
    ),
    "a long token": (
        edited(lambda data: data["model"]["vocab"].update({"c" * 70000: 3})),
        "70,000 characters for a token, the limit is 65,536",
    ),
    "a high number": (
        edited(lambda data: data["model"]["vocab"].update(c=2**32 - 1)),
        "4,294,967,296 token numbers, the limit is 1,048,576",
    ),
    "a high number added": (
        edited(lambda data: data["added_tokens"].append({"id": 2**31, "content": "c"})),
        "2,147,483,649 token numbers",
    ),
}


@pytest.mark.parametrize("case", BOMBS)
def test_a_file_that_makes_too_much_of_a_text_is_refused_before_it_is_loaded(case: str) -> None:
    data, reason = BOMBS[case]
    with pytest.raises(OverBudget, match=reason):
        HuggingFaceTokenizer(data)


WRONG: dict[str, bytes] = {
    "no JSON": b"{",
    "not UTF-8": b"\xff",
    "deep": b"[" * 100_000,
    "a list": b"[]",
    "no model": b"{}",
    "a key twice": b'{"model": {"vocab": {}}, "model": {"vocab": {}}}',
    "negative": edited(lambda data: data["model"]["vocab"].update(c=-1)),
    "a huge number": edited(lambda data: data["model"]["vocab"].update(c=2**40)),
    "a fraction": edited(lambda data: data["model"]["vocab"].update(c=1.5)),
    "a vocabulary of numbers": edited(lambda data: data["model"].update(vocab=[1, 2])),
    "steps of nothing": edited(lambda data: data.update(normalizer={"type": "Sequence"})),
    "a step of no type": edited(lambda data: data.update(decoder={"a": 1})),
    "added nothing": edited(lambda data: data.update(added_tokens=[1])),
    "empty": edited(lambda data: data["model"].update(vocab={}, merges=[])),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_tokenizer_is_refused(case: str) -> None:
    with pytest.raises(UsageError, match="is not a tokenizer|empty vocabulary"):
        HuggingFaceTokenizer(WRONG[case], "x.json")


def test_a_budget_lets_it_through() -> None:
    data = file(normalizer=normalizers.Sequence(doubling(normalizers.Replace, 10)))
    with pytest.raises(OverBudget):
        HuggingFaceTokenizer(data)
    with limits.raised(2):
        assert len(HuggingFaceTokenizer(data).encode(b"a").ids) == 1024


def test_an_expression_that_panics_is_an_error_and_the_next_text_is_read() -> None:
    made = HuggingFaceTokenizer(file(pre_tokenizer=pre_tokenizers.Split(Regex("^(a+)+$"), "isolated")))
    with pytest.raises(UsageError, match="fails on this text: .*retry-limit-in-match"):
        made.encode(b"a" * 40 + b"b")
    assert made.encode(b"ab").ids.tolist() == [2]


def test_an_expression_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = pre_tokenizers.Split(Regex("[ab]+(?=c|d)"), "isolated")  # from each place to the end and back
    made = HuggingFaceTokenizer(file(pre_tokenizer=slow), "the tokenizer")
    monkeypatch.setattr(limits, "PARSER_SECONDS", Budget("seconds in a library", 1))
    with pytest.raises(OverBudget, match="the tokenizer took more than 1 seconds of a library"):
        made.encode(b"ab" * 30_000)
    assert made.encode(b"ab").ids.tolist() == [2]


def test_files_of_known_parts_run_here_and_others_apart() -> None:
    own, shipped = train_bpe(TEXT, 60), open_program("prose").tokenizer
    for data in (file(), own, shipped):
        assert isinstance(open_library(data, "x"), InProcess)
    for part in (Regex(r"\w+"), Regex("(a|aa)+$")):
        assert isinstance(
            open_library(file(pre_tokenizer=pre_tokenizers.Split(part, "isolated")), "x"), Apart
        )


def test_both_give_the_same() -> None:
    data = train_bpe(TEXT, 60)
    here, apart = InProcess(data), Apart(data, "x")
    texts = [TEXT.decode(), "", "aé\U0001f600", "x" * 1000]
    batch = here.encode(texts)
    assert apart.vocab == here.vocab
    assert apart.encode(texts) == batch
    assert apart.decode(batch) == here.decode(batch) == texts
    assert [apart.head(text) for text in texts] == [here.head(text) for text in texts]
    assert apart.front() == here.front()
    assert apart.token_id("a") == here.token_id("a")
    assert apart.token_id("\U0001f600") is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.text("abc", min_size=1, max_size=2), st.text("abc", max_size=3)).map(
            lambda pair: normalizers.Replace(*pair)
        ),
        st.sampled_from([normalizers.Lowercase(), normalizers.NFKD(), normalizers.ByteLevel()]),
        st.text("abc", min_size=1, max_size=3).map(normalizers.Prepend),
    ),
    max_size=5,
)


@given(steps=STEPS, text=st.text("abcABé", min_size=1, max_size=12))
def test_no_text_grows_more_than_was_found(steps: list[Any], text: str) -> None:
    data = file(normalizer=normalizers.Sequence(steps))
    with limits.raised(1e6):
        growth = inspect(data, "x").growth
    made = normalizers.Sequence(steps).normalize_str(text)
    assert len(made) <= growth * (len(text) + 1)


@given(
    change=st.dictionaries(
        st.sampled_from(
            ["normalizer", "decoder", "pre_tokenizer", "post_processor", "model", "added_tokens"]
        ),
        st.recursive(
            st.none() | st.integers(-5, 5) | st.text("abRegx", max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["type", "pattern", "Regex", "content", "vocab", "normalizers", "id"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ),
        max_size=3,
    )
)
def test_any_json_is_a_tokenizer_or_a_typed_error(change: dict[str, Any]) -> None:
    with contextlib.suppress(TernacError):
        inspect(json.dumps(json.loads(file()) | change).encode(), "x")
