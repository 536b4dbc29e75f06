"""Log-probabilities of tokens, in the forms of OpenAI's API."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.text.tokenizer import Tokenizer


@dataclass(frozen=True)
class Scored:
    """A token, its log-probability, and those of the likeliest in its place, likeliest first.

    ``logprob`` is None where nothing came before the token.
    """

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def score(logits: npt.NDArray[np.int32], logit_scale_bits: int, token: int, count: int) -> Scored:
    """Return the model's own log-probability of ``token``, and of the ``count`` likeliest."""
    z = logits.astype(np.int64)
    real = (z - z.max()) * 2.0**-logit_scale_bits
    log = real - math.log(float(np.exp(real).sum()))
    order = np.argsort(-z, kind="stable")[:count]
    return Scored(token, float(log[token]), tuple((int(i), float(log[i])) for i in order))


def label(tokenizer: Tokenizer, token: int) -> str:
    """Return the text of a token; of one that is no whole character ``token_id:NUMBER``."""
    text = tokenizer.decode([token])
    return f"token_id:{token}" if "\ufffd" in text or not text else text


class CompletionScores:
    """``logprobs`` of a completion's choice, at once or part by part; ``count``: how many of the likeliest
    were asked for. Offsets are those of the tokens in the choice's whole text.
    """

    def __init__(self, tokenizer: Tokenizer, count: int) -> None:
        self._tokenizer, self._count = tokenizer, count
        self._stream, self._length = tokenizer.stream(), 0

    def __call__(self, scores: Sequence[Scored]) -> dict[str, Any]:
        """Return the next part."""
        offsets = []
        for one in scores:
            offsets.append(self._length)
            self._length += len(self._stream.feed(one.token))
        return {
            "tokens": [label(self._tokenizer, one.token) for one in scores],
            "token_logprobs": [one.logprob for one in scores],
            "top_logprobs": [_top(self._tokenizer, one) for one in scores] if self._count else None,
            "text_offset": offsets,
        }


def of_chat(tokenizer: Tokenizer, scores: Sequence[Scored]) -> dict[str, Any]:
    """Return ``logprobs`` of a chat's choice."""

    def entry(token: int, logprob: float | None) -> dict[str, Any]:
        text = label(tokenizer, token)
        whole = not text.startswith("token_id:")
        return {"token": text, "logprob": logprob, "bytes": list(text.encode()) if whole else None}

    content = [
        entry(one.token, one.logprob) | {"top_logprobs": [entry(*pair) for pair in one.top]} for one in scores
    ]
    return {"content": content, "refusal": None}


def _top(tokenizer: Tokenizer, one: Scored) -> dict[str, float] | None:
    """Return the likeliest by their text, and the token itself, which may not be one of them."""
    if one.logprob is None:
        return None
    found: dict[str, float] = {}
    for token, logprob in dict((*one.top, (one.token, one.logprob))).items():
        text = label(tokenizer, token)
        found[f"token_id:{token}" if text in found else text] = logprob
    return found
