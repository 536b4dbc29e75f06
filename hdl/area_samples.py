"""Geometries whose builds the area model is fitted to, and others that it is checked on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ternac.geometry import Geometry, preset

__all__ = ["SAMPLES", "Sample"]


@dataclass(frozen=True)
class Sample:
    """A geometry on a board; ``fitted``: its build is among those that the coefficients are fitted to."""

    board: str
    geometry: Geometry
    fitted: bool = True


def _from(base: str, name: str, **changes: Any) -> Geometry:
    return replace(preset(base), name=name, **changes)


def _ecp5(name: str, **changes: Any) -> Geometry:
    """A small relative of the ULX3S preset: 4 columns of 16 lanes unless said otherwise."""
    return _from("ulx3s-85f", name, **({"columns": 4, "lanes": 16} | changes))


_ULX3S = (
    Sample("ulx3s-85f", _ecp5("base")),
    Sample("ulx3s-85f", _ecp5("contexts-1", contexts=1)),
    Sample("ulx3s-85f", _ecp5("columns-8", columns=8, lanes=32)),
    Sample("ulx3s-85f", _ecp5("no-side-lane", lane_depth=0, contexts=1)),
    Sample("ulx3s-85f", _ecp5("share-2", columns=8, lanes=16, lane_depth=0, share=2)),
    Sample("ulx3s-85f", _ecp5("share-4", columns=8, lanes=16, lane_depth=0, share=4, contexts=1)),
    Sample("ulx3s-85f", _ecp5("paired", lanes=72, weight_depth=512, weight_ram="paired")),
    Sample("ulx3s-85f", _ecp5("deep", bank_depth=2048, bias_depth=2048, embed_depth=8192, weight_depth=2048,
                              x_depth=32, lane_depth=128, logit_slots=64, weight_block_bits=9)),
    Sample("ulx3s-85f", _ecp5("shallow", bank_depth=512, bias_depth=512, embed_depth=2048, x_depth=64,
                              tables=2, norm_tables=1, logit_slots=16, lane_depth=32, contexts=4)),
    Sample("ulx3s-85f", preset("ulx3s-85f")),
    Sample("ulx3s-85f", _from("ulx3s-85f", "16x32-chain-8", columns=16, lanes=32, chain=8, fold=1, radix=2,
                              lane_depth=0, contexts=1, embed_depth=2048), fitted=False),
    Sample("ulx3s-85f", _from("ulx3s-85f", "12x24-share-2", columns=12, lanes=24, lane_depth=0, share=2),
           fitted=False),
    Sample("ulx3s-85f", _from("ulx3s-85f", "8x48-contexts-4", columns=8, lanes=48, contexts=4,
                              bank_depth=2048, lane_depth=128, radix=2), fitted=False),
    Sample("ulx3s-85f", preset("ulx3s-85f-wide"), fitted=False),
)  # fmt: skip


def _ice40(name: str, **changes: Any) -> Geometry:
    return _from("icebreaker", name, **changes)


_ICEBREAKER = (
    Sample("icebreaker", preset("icebreaker")),
    Sample("icebreaker", _ice40("2x8", lanes=8, chain=2)),
    Sample("icebreaker", _ice40("2x4-share-1", lanes=4, chain=1, share=1)),
    Sample("icebreaker", _ice40("4x4-share-4", columns=4, lanes=4, chain=1, share=4)),
    Sample("icebreaker", _ice40("2x8-contexts-2", lanes=8, chain=2, fold=2, contexts=2)),
    Sample("icebreaker", _ice40("deep", lanes=6, bank_depth=1024, bias_depth=512, x_depth=128, tables=4,
                                logit_slots=64, program_depth=1024)),
    Sample("icebreaker", _ice40("2x6", lanes=6), fitted=False),
    Sample("icebreaker", _ice40("4x4-share-4-shallow", columns=4, lanes=4, chain=1, share=4, bank_depth=256,
                                bias_depth=512), fitted=False),
    Sample("icebreaker", _ice40("2x12-fold-2", fold=2, tables=4, bank_depth=256, x_depth=128), fitted=False),
)  # fmt: skip

SAMPLES: tuple[Sample, ...] = (*_ICEBREAKER, *_ULX3S)
"""The quickest board first, its largest engine last."""
