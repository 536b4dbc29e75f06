"""The documentation site: every page is in its navigation, and it builds."""

from __future__ import annotations

import importlib.util
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
HOOKS = runpy.run_path(str(DOCS / "hooks.py"))
CONFIG: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def pages(entry: Any) -> Iterator[str]:
    """The pages named in a part of the navigation."""
    if isinstance(entry, str):
        yield entry
    for part in entry if isinstance(entry, list) else entry.values() if isinstance(entry, dict) else []:
        yield from pages(part)


def test_navigation_names_every_page_once() -> None:
    """Pages of ``docs/``, of elsewhere and generated ones; API and journal pages hang on one page each."""
    named = list(pages(CONFIG["nav"]))
    written = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    there = written | set(HOOKS["OUTSIDE"].values()) | {"commands.md", "modules.md", "python.md"}
    folders = ("journal/", "decisions/")
    assert len(named) == len(set(named))
    assert set(named) <= there
    missing = there - set(named)
    assert {page for page in missing if not page.startswith(folders)} == set()
    for page in missing:  # linked from the page of its folder
        index = DOCS / Path(page).parent / "README.md"
        assert f"]({Path(page).name})" in index.read_text(), f"{page} is not in {index.name}"


def test_pages_outside_the_folder_exist() -> None:
    assert [path for path in HOOKS["OUTSIDE"] if not (ROOT / path).exists()] == []


def test_figures_are_those_of_the_script() -> None:
    """After a change of the script, or of a number that it draws: ``python docs/figures/draw.py``."""
    drawn = runpy.run_path(str(DOCS / "figures" / "draw.py"))["all_figures"]()
    assert {path.name for path in (DOCS / "figures").glob("*.svg")} == set(drawn)
    for name, svg in drawn.items():
        assert (DOCS / "figures" / name).read_text() == svg, name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.stem)
def test_a_page_begins_with_a_figure(page: Path) -> None:
    """Right below the title."""
    lines = page.read_text().split("\n")
    assert lines[0].startswith("# ")
    assert re.match(r"!\[.{10,}\]\(\S+\.(svg|png)\)$", lines[2]), f"{page.name}: {lines[2]}"


def test_nothing_is_loaded_from_other_servers() -> None:
    """Neither fonts, which the theme would take from Google, nor scripts."""
    assert CONFIG["theme"]["font"] is False
    assert "extra_javascript" not in CONFIG
    assert "extra_css" not in CONFIG


def test_the_command_reference_has_every_verb() -> None:
    from ternac.cli.main import VERBS

    page = HOOKS["command_reference"]()
    titles = re.findall(r"^## (.+)$", page, re.M)
    assert [title for title in titles if " " not in title] == list(VERBS)
    assert "bench hdl" in titles or "bench engine" in titles
    for title in titles:
        assert f"usage: ternac {title}" in page


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None, reason="mkdocs is not installed: pip install 'ternac[docs]'"
)
def test_the_site_builds(tmp_path: Path) -> None:
    """Strictly: a link or a module that is not there fails; no page asks another server for anything."""
    command = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="(https?://[^"]+)', page.read_text())
        assert "<!-- run" not in page.read_text(), f"{page.name} shows what is for the tests"
        assert loaded + re.findall(r'<link[^>]*\shref="(https?://[^"]+)', page.read_text()) == []
    assert (tmp_path / "api" / "ternac.host.html").exists()
