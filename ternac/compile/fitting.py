"""Which shipped model an engine runs when none is named."""

from __future__ import annotations

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.errors import ProgramError
from ternac.program.zoo import DEFAULT, names, open_program

__all__ = ["largest_model"]


def largest_model(geometry: Geometry) -> str | None:
    """Name of the shipped model with the most ternary weights that fits ``geometry``; None when none does.

    Among equals the default model.
    """
    sizes = {name: open_program(name).trits for name in names()}
    for name in sorted(sizes, key=lambda name: (-sizes[name], name != DEFAULT)):
        try:
            compile_program(open_program(name), geometry)
        except ProgramError:
            continue
        return name
    return None
