"""Chat messages as a prompt, and tokens as text that ends at a stop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ternac.text.tokenizer import TextStream

TURN_END = "\n\n"
"""Ends a turn of a chat: a model that writes it has finished."""


@dataclass(frozen=True)
class Turn:
    """One message of a chat."""

    speaker: str
    content: str


def chat_prompt(turns: Iterable[Turn], answering: str, *, open_turn: bool = False) -> str:
    """Write each turn as ``SPEAKER:``, a line end, its content and an empty line, then ``answering:`` and a
    line end.

    Plays are written like this, which the shipped models were trained on. ``open_turn``: the text so far ends
    inside a turn, which is ended first.
    """
    said = "".join(f"{turn.speaker}:\n{turn.content.strip()}{TURN_END}" for turn in turns)
    return f"{TURN_END if open_turn else ''}{said}{answering}:\n"


class Reader:
    """Turns tokens into text in whole characters, up to the first of ``stops``, which is left out.

    Text that may be the beginning of a stop is held back until that is decided.
    """

    def __init__(self, stream: TextStream, stops: Sequence[str] = ()) -> None:
        self._stream, self._stops = stream, tuple(stops)
        self._held = ""
        self.stopped_by: str | None = None

    @property
    def stopped(self) -> bool:
        """A stop (``stopped_by``) was found."""
        return self.stopped_by is not None

    def feed(self, token: int) -> str:
        """Return the text that is certain now. After a stop nothing more may be fed."""
        return self._certain(self._stream.feed(token))

    def finish(self) -> str:
        """Return the text that was held back, at the end of the tokens."""
        if self.stopped:
            return ""
        text = self._certain(self._stream.finish())
        text, self._held = text + self._held, ""
        return text

    def _certain(self, new: str) -> str:
        text = self._held + new
        ends = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if ends:
            end, self.stopped_by = min(ends)
            self._held = ""
            return text[:end]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """Return the number of characters at the end of ``text`` that begin ``stop``."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
