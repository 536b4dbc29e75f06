"""The matrices of the published MatMul-free language models, by size."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["SHAPES", "Phase", "Shape", "share"]

Phase = tuple[tuple[str, int, int], ...]
"""Matrices (name, rows, columns) that need nothing of each other's results."""


@dataclass(frozen=True)
class Shape:
    """Width ``d``, ``layers``, width ``m`` of the gated unit, ``vocab``, from the models' configurations."""

    name: str
    d: int
    layers: int
    m: int
    vocab: int = 32000

    @property
    def layer(self) -> tuple[Phase, ...]:
        """The matrices of a block, phase by phase: what the next phase multiplies comes of the one before."""
        d, m = self.d, self.m
        return (
            (("i", d, d), ("f", d, d), ("g", d, d)),
            (("o", d, d),),
            (("gate", 2 * m, d),),
            (("down", d, m),),
        )

    @property
    def head(self) -> tuple[Phase, ...]:
        """The output layer."""
        return ((("head", self.vocab, self.d),),)

    @property
    def trits(self) -> int:
        """Ternary weights that a token reads."""
        layer = sum(rows * columns for phase in self.layer for _, rows, columns in phase)
        return self.layers * layer + self.vocab * self.d


def share(phases: tuple[Phase, ...], parts: int, group: int) -> tuple[Phase, ...]:
    """The largest of ``parts`` shares of the rows of every matrix, in whole groups of ``group`` rows."""

    def rows_of(rows: int) -> int:
        groups = -(-rows // group)
        return -(-groups // parts) * group

    return tuple(tuple((name, rows_of(rows), columns) for name, rows, columns in phase) for phase in phases)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("370m", 1024, 24, 2816),
        Shape("1.3b", 2048, 24, 5632),
        Shape("2.7b", 2560, 32, 6912),
    )
}
