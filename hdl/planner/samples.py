"""Geometries whose builds the area model is fitted to, and others that it is checked on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ternac.compile.geometry import Geometry, preset

__all__ = ["SAMPLES", "Sample"]


@dataclass(frozen=True)
class Sample:
    """A geometry on a board; ``fitted``: its build is among those that the coefficients are fitted to."""

    board: str
    geometry: Geometry
    fitted: bool = True


_SMALL = Geometry(
    name="base", columns=4, lanes=16, chain=4, fold=2, radix=3, weight_block_bits=18, weight_depth=1024,
    x_depth=16, bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=4096, tables=4, norm_tables=4,
    logit_slots=32, contexts=2, lane_depth=64,
)  # fmt: skip
"""As few columns and lanes as show what one more of each costs, so that a fit takes minutes."""


def _ecp5(name: str, *, fitted: bool = True, **changes: Any) -> Sample:
    return Sample("ulx3s-85f", replace(_SMALL, name=name, **changes), fitted)


def _ice40(name: str, *, fitted: bool = True, **changes: Any) -> Sample:
    return Sample("icebreaker", replace(preset("icebreaker"), name=name, **changes), fitted)


_ULX3S = (
    _ecp5("base"),
    _ecp5("contexts-1", contexts=1),
    _ecp5("no-side-lane", lane_depth=0, contexts=1),
    _ecp5("columns-8", columns=8, lanes=32),
    _ecp5("share-2", columns=8, lanes=16, lane_depth=0, share=2),
    _ecp5("share-4", columns=8, lanes=16, lane_depth=0, share=4, contexts=1),
    _ecp5("shallow", bank_depth=512, bias_depth=512, embed_depth=2048, x_depth=64, tables=2, norm_tables=1,
          logit_slots=16, lane_depth=32, contexts=4),
    _ecp5("paired", fitted=False, lanes=72, weight_depth=512, weight_ram="paired"),
    Sample("ulx3s-85f", preset("ulx3s-85f"), fitted=False),
)  # fmt: skip
_ICEBREAKER = (
    Sample("icebreaker", preset("icebreaker")),
    _ice40("2x4-share-1", lanes=4, chain=1, share=1),
    _ice40("4x4-share-4", columns=4, lanes=4, chain=1, share=4),
    _ice40("2x8-contexts-2", lanes=8, chain=2, fold=2, contexts=2),
    _ice40("2x8", lanes=8, chain=2, fitted=False),
    _ice40("2x12-fold-2", fold=2, tables=4, bank_depth=256, x_depth=128, fitted=False),
)

SAMPLES: tuple[Sample, ...] = (*_ICEBREAKER, *_ULX3S)
"""The quickest board first, its largest engine last."""
