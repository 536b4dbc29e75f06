"""Tokens that are no text: the one that a text begins with, and those that end it.

They are an entry of a program's ``meta``, ``"special_tokens": {"add_bos": false, "bos": 1, "eos": [2]}``,
which is there only if there is one of them. ``docs/program.md`` is the page for people.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

KEY = "special_tokens"
MAX_EOS = 64


@dataclass(frozen=True)
class SpecialTokens:
    """``bos``: the token that a text begins with. ``eos``: the tokens that end one, ascending. ``add_bos``: a
    prompt that begins a session gets ``bos`` in front.
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    add_bos: bool = False

    @classmethod
    def of(cls, bos: int | None = None, eos: Iterable[int] = (), *, add_bos: bool = False) -> SpecialTokens:
        """Return the tokens with ``eos`` in any order."""
        return cls(bos, tuple(sorted(set(eos))), add_bos)

    @classmethod
    def parse(cls, meta: Mapping[str, Any], vocab: int) -> SpecialTokens:
        """Read them from a program's meta; without an entry there are none.

        Raises ValueError if the entry is not as `meta` writes it, or a token is outside the vocabulary.
        """
        if KEY not in meta:
            return cls()
        entry = meta[KEY]
        if not isinstance(entry, dict) or set(entry) != {"add_bos", "bos", "eos"}:
            raise ValueError(f"{KEY} is not an object of add_bos, bos and eos")
        bos, eos, add_bos = entry["bos"], entry["eos"], entry["add_bos"]
        if type(add_bos) is not bool or (add_bos and bos is None):
            raise ValueError(f"{KEY}: add_bos is {str(add_bos)[:40]}, bos {str(bos)[:40]}")
        if not isinstance(eos, list) or len(eos) > MAX_EOS:
            raise ValueError(f"{KEY}: eos is not a list of at most {MAX_EOS} tokens")
        for token in (*([] if bos is None else [bos]), *eos):
            if type(token) is not int or not 0 <= token < vocab:
                raise ValueError(f"{KEY}: token {str(token)[:40]} is outside 0..{vocab - 1}")
        found = cls.of(bos, eos, add_bos=add_bos)
        if found.meta != {KEY: entry}:
            raise ValueError(f"{KEY}: eos is not ascending, or there is no token")
        return found

    @property
    def meta(self) -> dict[str, Any]:
        """Return the entry of a program's meta; nothing if there is no token."""
        if self.bos is None and not self.eos:
            return {}
        return {KEY: {"add_bos": self.add_bos, "bos": self.bos, "eos": list(self.eos)}}

    def begin(self, tokens: list[int]) -> list[int]:
        """Return a prompt as it begins a session: with ``bos`` where `add_bos`, unless it begins with it."""
        if not self.add_bos or self.bos is None or tokens[:1] == [self.bos]:
            return tokens
        return [self.bos, *tokens]
