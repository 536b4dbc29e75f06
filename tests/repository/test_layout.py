"""docs/layout.md names every module and nothing that is not there; links between the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("ternac", "model", "hdl", "sim", "host")
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
LISTED = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "layout.md").read_text(), re.M)


def test_every_listed_file_exists_and_is_listed_once() -> None:
    assert LISTED
    assert [path for path in LISTED if not (ROOT / path).exists()] == []
    assert len(set(LISTED)) == len(LISTED)


def test_every_module_is_listed() -> None:
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):  # does not follow the links inside ternac/
            if path.name != "__init__.py":
                found.append(path.relative_to(ROOT).as_posix())
    assert sorted(set(found) - set(LISTED)) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
