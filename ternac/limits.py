"""The home of all limits on files: how large one may be, and what it may cost. docs/limits.md is the page.

What a file may *be* is part of its format and does not change. What it may *cost* - work, memory, time of a
library - is a budget: a file from elsewhere that exceeds it is refused before the cost arises, with both
numbers, and `raised` (``--budget`` on the command line) lets one through that its user trusts. Where a
budget has two numbers, the second is for each byte of the file: an honest file costs about what it weighs.

The limits of a request to the server are in `ternac.host.server.limits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ternac.errors import OverBudget, UsageError

# ---- what a file may be -------------------------------------------------------------------------------

MAX_TEXT = 1 << 30
"""Bytes of text that are read at once; a longer one needs a limit."""
MAX_JSON = 1 << 26
"""Bytes of a JSON file: a configuration, an index of shards."""
MAX_FILE = 1 << 31
"""Bytes of a program file."""
MAX_HEADER = 1 << 23
"""Bytes of its header."""
MAX_DEPTH = 32
"""Levels of ``meta``."""
MAX_META = 1 << 18
"""Bytes of ``meta``, as JSON."""
MAX_OPS = 65535
MAX_INS = 64
"""Inputs of an op."""
MAX_STEPS = 1 << 20
"""Ops that a token may run, with those of loops as often as a request may ask for."""
MAX_CONSTS = 16384
MAX_STATES = 4096
MAX_STATE_WORDS = 1 << 24
"""Words of all states of a session, without its memories."""
MAX_MEMORY_BYTES = 1 << 26
"""Bytes of all memories of a session: 64 MiB, eight times the largest that was ever trained with."""
MAX_TRITS = 1 << 33
MAX_TOKENIZER = 1 << 26
"""Bytes of a tokenizer.json."""

# ---- what a file may cost -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """The most that a file of ``size`` bytes may need: ``fixed + per_byte * size``, in ``unit``."""

    unit: str
    fixed: int
    per_byte: int = 0

    def limit(self, size: int = 0) -> int:
        """Return the number, as `raised` has it now."""
        return int((self.fixed + self.per_byte * size) * _factor)

    def require(self, needed: int, what: str, size: int = 0) -> None:
        """Raise OverBudget, which begins with ``what``, if ``needed`` is more than a file may cost."""
        limit = self.limit(size)
        if needed > limit:
            factor = -(-needed // max(1, self.limit(size) / _factor))
            raise OverBudget(
                f"{what} needs {needed:,} {self.unit}, the limit is {limit:,}",
                f"if you trust it, raise the limits: --budget {int(factor)}, or ternac.limits.raised",
                resource=self.unit,
                needed=needed,
                limit=limit,
            )


STEPS = Budget("ops a token", 1 << 15)
"""With loops as often as a request may ask for. A model of 32 layers has about 1,100."""
WORK = Budget("operations a token", 1 << 30, 512)
"""In multiply-adds: about a second of one thread. A ternary model does 5 for a byte, one with loops so many
times that."""
CHECK_WORK = Budget("bytes to look through", 1 << 28, 64)
"""Bytes of constants that its check reads, again for each op that uses them."""
MEMORY = Budget("bytes of memory", 1 << 28, 32)
"""To open it and run one token, in the executor that needs most: it keeps 25 bytes for a byte of trits."""
GGUF_ITEMS = Budget("metadata items and tensors", 1 << 15)
"""Of a GGUF file, elements of short arrays among them: the package needs up to 0.1 ms for each. A model of 32
layers has about 600."""
GGUF_ELEMENTS = Budget("elements of arrays", 1 << 23)
"""Of a GGUF file's metadata, which are only walked over. A vocabulary of 256,000 tokens has 0.8 million."""
PARSER_SECONDS = Budget("seconds in a library", 20)
"""For one call of a library on data of a file from elsewhere, in a process of its own."""
PARSER_MEMORY = Budget("bytes in a library", 1 << 31, 16)
"""Address space of such a process, of which the interpreter itself takes a few hundred megabytes."""
TOKENIZER_IDS = Budget("token numbers", 1 << 20)
"""Highest number of a token, plus one. A program has at most 65,535; other models have 256,000."""
TOKENIZER_STEPS = Budget("normalizers and decoders", 1 << 10)
"""One after the other, on every text. A byte-level tokenizer of `ternac tokenizer train` has up to 260."""
TOKENIZER_GROWTH = Budget("characters for one", 1 << 9)
"""That a normalizer or decoder may make of a character. Unicode's own go up to 18, bytes up to 4."""
TOKENIZER_TEXT = Budget("characters for a token", 1 << 16)
"""That the longest token may decode to."""

_factor = 1.0


@contextmanager
def raised(factor: float) -> Iterator[None]:
    """Let files that are read in the block, in any thread of this process, cost ``factor`` times as much.

    Raises UsageError unless that is at least 1.
    """
    global _factor
    if not 1 <= factor < 1e9:
        raise UsageError(f"the budget is {factor:g} times the usual one, needs 1 to 1e9")
    before = _factor
    _factor = factor
    try:
        yield
    finally:
        _factor = before
