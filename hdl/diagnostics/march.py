"""March elements: one way through a memory, comparing and writing at each address; what was wrong."""

from __future__ import annotations

from collections.abc import Iterable, MutableSequence
from dataclasses import dataclass

from ternac.hdl.diagnostics.patterns import Pattern, pattern_words

__all__ = ["Errors", "MarchElement"]


@dataclass(frozen=True)
class Errors:
    """Outcome of comparisons: ``count`` of wrong words, the first one, and ``mask``: every bit that was wrong
    in any.
    """

    count: int = 0
    address: int = 0
    expected: int = 0
    found: int = 0
    mask: int = 0

    @classmethod
    def of(cls, compared: Iterable[tuple[int, int, int]]) -> Errors:
        """Return the outcome of comparisons of (address, expected, found), in this order."""
        wrong = [entry for entry in compared if entry[1] != entry[2]]
        mask = 0
        for _, expected, found in wrong:
            mask |= expected ^ found
        return cls(len(wrong), *wrong[0], mask) if wrong else cls()


@dataclass(frozen=True, kw_only=True)
class MarchElement:
    """At each of ``count`` addresses from ``first`` on, compare with ``check``, then write ``write``.

    Both are (pattern, inverted), or None; ``seed`` serves both. ``down``: addresses go down.
    """

    check: tuple[Pattern, bool] | None = None
    write: tuple[Pattern, bool] | None = None
    seed: int = 0
    first: int = 0
    count: int
    down: bool = False

    def run(
        self, memory: MutableSequence[int], bits: int, address_bits: int, *, width: int | None = None
    ) -> Errors:
        """Run it on a memory. Patterns have ``bits`` bits, of which the lowest ``width`` are used."""
        cut = (1 << (width or bits)) - 1

        def words(which: tuple[Pattern, bool] | None) -> list[int]:
            if which is None:
                return []
            pattern, invert = which
            found = pattern_words(
                pattern, bits, address_bits, self.first, self.count,
                seed=self.seed, invert=invert, down=self.down,
            )  # fmt: skip
            return [int(word) & cut for word in found]

        expected, written, compared = words(self.check), words(self.write), []
        for n in range(self.count):
            address = (self.first + (-n if self.down else n)) % (1 << address_bits)
            if expected:
                compared.append((address, expected[n], memory[address]))
            if written:
                memory[address] = written[n]
        return Errors.of(compared)
