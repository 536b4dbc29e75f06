"""Bits of surprise of each line of a text, by a program's predictions, and a threshold for them.

All numbers are integers, in 1 / `ternac.run.coding.UNIT` bit, so that a line that is reported on one machine
is reported on every other one. The lines of a text are read in order by one session; each is cut into tokens
for itself, so that a file and a log that grows give the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ternac.errors import UsageError
from ternac.files import read_json, write_json
from ternac.run.coding import UNIT, costs
from ternac.run.texts import Coder
from ternac.text.exact import split
from ternac.text.tokenizer import tokenizer_of

__all__ = ["MEASURES", "Line", "Surprise", "Threshold", "quantile"]

MEASURES = {
    "bits": "of the whole line",
    "rate": "per byte of the line",
    "peak": "of the line's most surprising token",
}
"""What a threshold is for, in bits."""
BYTE_COST = 8 * UNIT
"""What a byte costs that is in no token."""


@dataclass(frozen=True)
class Line:
    """A line with its end, if it has one: ``cost`` of all, ``peak`` of its most surprising token;
    ``readable`` unless bytes of it are in no token.
    """

    bytes: int
    tokens: int
    cost: int
    peak: int
    readable: bool

    def measure(self, name: str) -> int:
        """Return one of `MEASURES`."""
        return {"bits": self.cost, "rate": self.cost // max(1, self.bytes), "peak": self.peak}[name]


class Surprise:
    """Reads the lines of one text.

    Raises UsageError if the program has no tokenizer and is not over bytes.
    """

    def __init__(self, coder: Coder) -> None:
        self._tokenizer = tokenizer_of(coder.program, assume_bytes=True)
        self._vocab = coder.program.vocab
        self._reading = coder.begin()

    def read(self, line: bytes) -> Line:
        """Read the next line. A byte in no token costs 8 bits, and the model does not see it."""
        parts = split(self._tokenizer, self._vocab, line)
        cost, peak = BYTE_COST * len(parts.rest), BYTE_COST if parts.rest else 0
        if len(parts.tokens):
            each = costs(self._reading.advance(parts.tokens))
            cost, peak = cost + int(each.sum()), max(peak, int(each.max()))
        return Line(len(line), len(parts.tokens), cost, peak, not parts.rest)


def quantile(values: Sequence[int], part: float) -> int:
    """Return the smallest value that at least ``part`` of the values do not exceed.

    Raises UsageError if there are none, or ``part`` is no part.
    """
    if not values or not 0 < part <= 1:
        raise UsageError(
            f"no quantile {part} of {len(values)} lines",
            "give a file with lines, and a part above 0, up to 1",
        )
    rank = -(-int(part * (1 << 32)) * len(values) >> 32)  # rounded up
    return sorted(values)[max(1, min(rank, len(values))) - 1]


@dataclass(frozen=True)
class Threshold:
    """Lines whose ``measure`` is above ``cost`` are anomalies. ``program``: hash of the program whose costs
    they are (empty: a number that the user gave); ``quantile`` and ``lines``: of the text that it is from.
    """

    measure: str
    cost: int
    program: str = ""
    quantile: float = 0.0
    lines: int = 0

    def exceeded(self, line: Line) -> bool:
        """Tell whether a line is an anomaly."""
        return line.measure(self.measure) > self.cost

    def save(self, path: str | Path) -> None:
        """Write it as JSON."""
        write_json(path, asdict(self), indent=2)

    @classmethod
    def load(cls, path: str | Path, program: str) -> Threshold:
        """Read what `save` wrote, for the program with that hash. Raises UsageError if it is of another
        one, or not a threshold.
        """
        hint = "make one: ternac score CLEAN --calibrate FILE"
        data: dict[str, Any] = read_json(path, UsageError, hint)
        kinds = {"measure": str, "cost": int, "program": str, "quantile": float, "lines": int}
        fine = set(data) == set(kinds) and all(type(data[name]) is kind for name, kind in kinds.items())
        if not fine or data["measure"] not in MEASURES or data["cost"] < 0:
            raise UsageError(f"{path} is no threshold of ternac score", hint)
        if data["program"] != program:
            raise UsageError(
                f"{path} was made with the program {data['program']}, and this one is {program}", hint
            )
        return cls(**data)
