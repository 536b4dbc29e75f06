"""The pieces of the report page: escaping, scales, one document without external resources."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from ternac.hdl.planner import report_html as html

VOID = {"meta", "circle", "line", "rect"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def test_page_is_balanced_escaped_and_self_contained() -> None:
    nasty = '<script>"&'
    curve = html.Series(nasty, [(0, 5.0), (10, 1.5)])
    page = html.page(
        nasty,
        nasty,
        [
            html.tiles([(nasty, nasty)]),
            html.section(
                nasty,
                html.text(nasty, muted=True),
                html.table([nasty, "n"], [[nasty, "1"]], numeric=[1]),
                html.bars([html.Bar(nasty, 3, nasty, whole=4), html.Bar("b", 0, "0")], nasty),
                html.line_chart([curve, html.Series("b", [(0, 5.0), (10, 1.5)])], nasty, nasty, nasty),
            ),
        ],
    )
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    assert "<script" not in page
    assert not re.search(r"(src|href|url|@import)\s*[=(]", page)
    assert "prefers-color-scheme: dark" in page


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (1.4, 5.6, [2, 3, 4, 5]), (0, 1200, [0, 500, 1000])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert html.ticks(low, high) == pytest.approx(expected)


def test_bar_of_a_whole_never_exceeds_its_track() -> None:
    figure = html.bars([html.Bar("over", 300, "300", whole=200)], "c")
    widths = [float(width) for width in re.findall(r'width="([\d.]+)"', figure)]
    assert max(widths) == 520
