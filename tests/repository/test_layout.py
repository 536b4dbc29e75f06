"""Every module says what it is for, and links between the pages lead somewhere."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HOOKS = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "model" / "zoo").glob("*/*.md")),
]


def test_the_module_list_has_every_module_and_its_purpose() -> None:
    """The generated page has a line for each file, and no line is empty."""
    page = HOOKS["module_list"]()
    packages = HOOKS["packages"]().values()
    count = 0
    for folder in HOOKS["FOLDERS"]:
        for path in (ROOT / folder).rglob("*.py"):  # does not follow the links inside ternac/
            if path.name == "__init__.py":
                assert f"## `{path.parent.relative_to(ROOT)}/`\n\n{HOOKS['first_sentence'](path)}" in page
                assert HOOKS["first_sentence"](path), f"{path.relative_to(ROOT)} has no docstring"
            elif not path.name.startswith("_"):
                assert path.parent in packages
                count += 1
    lines = re.findall(r"^\| `(\S+\.py)` \| (.*) \|$", page, re.M)
    assert len(lines) == count > 200
    assert [name for name, purpose in lines if not purpose] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"
