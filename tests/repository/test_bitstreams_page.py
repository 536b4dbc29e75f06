"""docs/bitstreams.md says of each shipped bitstream what its manifest says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MANIFESTS = sorted((ROOT / "bitstreams").glob("*/*/manifest.json"))
PAGE = " ".join((ROOT / "docs" / "bitstreams.md").read_text(encoding="utf-8").split())


def stated(manifest: dict[str, object], page: str) -> bool:
    """Whether the page has the cells and the routed clock of a manifest within one sentence or two."""
    cells, clock = re.escape(f"{manifest['comb']:,}"), re.escape(f"{manifest['fmax_mhz']}")
    return re.search(rf"\b{cells}\b.{{0,160}}\b{clock}\b", page) is not None


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: "-".join(path.parts[-3:-1]))
def test_cells_and_clock(path: Path) -> None:
    manifest = json.loads(path.read_text())
    assert stated(manifest, PAGE)
    assert not stated(manifest | {"comb": manifest["comb"] + 1}, PAGE)
    assert not stated(manifest | {"fmax_mhz": manifest["fmax_mhz"] + 0.01}, PAGE)
