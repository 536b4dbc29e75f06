"""Every module says what it is for, and links between the pages lead somewhere."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from urllib.parse import urlsplit

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


def plain(text: str) -> str:
    """A page without what no reader follows: fenced blocks, code in sentences."""
    return re.sub(r"``[^`]*``|`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))


def targets(text: str) -> list[str]:
    """What the links and images of a page's text point at."""
    return re.findall(r"\]\(([^)\s]+)[^)]*\)", plain(text)) + re.findall(r"<(\w+://[^>\s]+)>", plain(text))


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub and the site make them."""
    found: dict[str, int] = {}
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for heading in re.findall(r"^#+ (.+)$", text, re.M):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found[name] = found.get(name, 0) + 1
    return {name for name, count in found.items() if count == 1}


def broken(page: Path, text: str) -> list[str]:
    """The links of a page's text that lead nowhere, or to a heading that is not there or there twice."""
    found = []
    for target in targets(text):
        if "://" in target or target.startswith("mailto:"):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        fits = there.exists() and there.resolve().is_relative_to(ROOT)
        if not fits or (anchor and (there.suffix != ".md" or anchor not in anchors(there))):
            found.append(target)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page, page.read_text()) == []


def test_a_link_that_leads_nowhere_is_found() -> None:
    page = ROOT / "docs" / "server.md"
    good = "[a](numerics.md#from-logits-to-a-token) ![b](figures/server.svg) [c](#devices) [d](https://a.org)"
    bad = ["nowhere.md", "figures/none.svg", "numerics.md#nowhere", "#nowhere", "../../x.md", "hooks.py#x"]
    assert broken(page, good) == []
    assert broken(page, " ".join(f"[x]({target})" for target in bad) + " `[y](code.md)`") == bad


def test_addresses_of_other_servers_are_well_formed() -> None:
    """No test asks them; ``python -m tests.repository.test_layout`` lists them."""
    for page in PAGES:
        for address in filter(lambda target: "://" in target, targets(page.read_text())):
            parts = urlsplit(address)
            assert parts.scheme == "https", address
            assert re.fullmatch(r"([\w-]+\.)+[a-z]{2,}", parts.netloc), address
            assert re.fullmatch(r"[\w./~%?=&+:-]*", parts.path + parts.query + parts.fragment), address


def test_pages_that_the_code_names_are_there() -> None:
    """In docstrings, comments, help and hints: a page, and its heading where one is named."""
    named = 0
    for folder in (*HOOKS["FOLDERS"], "tests", "docs/examples"):
        for path in (ROOT / folder).rglob("*.py"):  # does not follow the links inside ternac/
            for page, anchor in re.findall(r"\bdocs/([\w/-]+\.md)(?:#([\w-]+))?", path.read_text()):
                at = ROOT / "docs" / page
                assert at.exists(), f"{path.relative_to(ROOT)} names docs/{page}"
                assert not anchor or anchor in anchors(at), (
                    f"{path.relative_to(ROOT)} names docs/{page}#{anchor}"
                )
                named += 1
    assert named > 20


if __name__ == "__main__":
    for page in PAGES:
        for address in sorted({target for target in targets(page.read_text()) if "://" in target}):
            sys.stdout.write(f"{page.relative_to(ROOT)}  {address}\n")
