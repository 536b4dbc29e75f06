"""The link's payloads: their bytes are those of docs/link.md, field by field."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ternac import link
from ternac.link import (
    BATCH,
    IDENTITY,
    MEMBER,
    READ,
    RUN,
    WRITE,
    BatchAnswer,
    BatchMember,
    BatchRequest,
    Choice,
    Identity,
    Layout,
    ReadRequest,
    RunAnswer,
    RunRequest,
    WriteRequest,
)

PAGE = (Path(__file__).parents[2] / "docs" / "link.md").read_text()
NAMES = {
    "frame bytes": "frame_bytes",
    "clock": "clock_hz",
    "bitstream ID,": "bitstream_id",
    "geometry hash,": "geometry_hash",
    "program hash,": "program_hash",
}


def section(title: str) -> str:
    return PAGE.split(f"### {title}\n")[1].split("\n### ")[0].split("\n## ")[0]


def table(title: str) -> list[tuple[int, str, str]]:
    """(offset, name, type) of every row of fixed size."""
    rows = []
    for at, text in re.findall(r"^\| (\d+) \| (.*?) \|", section(title), re.M):
        text = "flags u8" if text.startswith("s u5") else text
        found = re.fullmatch(r"(.*?) (u8|u16|u32|\d+ bytes)", text)
        if found:
            rows.append((int(at), NAMES.get(found[1], found[1]), found[2]))
    return rows


def rows_of(layout: Layout) -> list[tuple[int, str, str]]:
    return [(layout.offsets[name], name, kind) for name, kind in layout.fields]


@pytest.mark.parametrize(("title", "layout"), [("1 HELLO", IDENTITY), ("4 RUN", RUN), ("6 BATCH", BATCH)])
def test_the_tables_of_the_page_are_the_layouts(title: str, layout: Layout) -> None:
    assert table(title) == rows_of(layout)


@pytest.mark.parametrize(("title", "layout"), [("2 WRITE", WRITE), ("3 READ", READ)])
def test_the_short_layouts_of_the_page(title: str, layout: Layout) -> None:
    first_line = re.findall(r"^    (.*)", section(title), re.M)[0]
    assert re.findall(r"(\w+) (u8|u16|u32)\b", first_line) == list(layout.fields)


def test_what_the_page_says_of_sizes_and_flags() -> None:
    assert f"| {RUN.size} | tokens u16 ... | at least one, at most {link.MAX_PROMPT};" in PAGE
    assert f"| {BATCH.size} | sessions | {MEMBER.size} bytes for each of 1 to" in PAGE
    assert "rng u32, session_base u16, token u16" in PAGE
    assert (link.SHIFT_MASK, link.FOLLOWS, link.GREEDY_FLAG) == (0b11111, 1 << 6, 1 << 7)
    assert f"1 to {link.MAX_BATCH_TOKENS}, for each session" in PAGE
    assert [f"| {s.value} | {s.name} |" in PAGE for s in link.Status] == [True] * len(link.Status)
    assert [f"### {c.value} {c.name}\n" in PAGE for c in link.Command] == [True] * len(link.Command)


def test_bytes_of_every_payload() -> None:
    """Written by hand from the page."""
    draw, argmax = Choice(False, 200, 4, 50), Choice(True, 128, 0, 0)
    run = RunRequest(0x0203, [1, 258], 5, draw, rng=0x01020304, follows=True)
    batch = BatchRequest([BatchMember(7, 16, 258), BatchMember(8, 32, 1)], 0x0102, 5, argmax)
    for payload, wire in (
        (WriteRequest(6, 2, 0x0304, b"xy"), "06 02 0403 7879"),
        (ReadRequest(9, 2, 0x0304), "09 02 0403"),
        (run, "04030201 3200 c8 05 44 0302 0100 0201"),
        (batch, "0000 80 05 80 0201 07000000 1000 0201 08000000 2000 0100"),
    ):
        assert payload.encode() == bytes.fromhex(wire)  # type: ignore[attr-defined]
        assert type(payload).decode(payload.encode()) == payload  # type: ignore[attr-defined]
    answer = RunAnswer([1, 258], 7, 1000)
    assert answer.encode() == bytes.fromhex("0100 0201 07000000 e8030000")
    assert RunAnswer.decode(answer.encode(), 2) == answer
    many = BatchAnswer([([1, 258], 7), ([3, 4], 9)], 1000)
    assert many.encode() == bytes.fromhex("0100 0201 07000000 0300 0400 09000000 e8030000")
    assert BatchAnswer.decode(many.encode(), 2, 2) == many


def test_an_identity_there_and_back() -> None:
    identity = Identity(bytes(range(16)), bytes(8), 25_000_000, bytes(range(1, 17)), window=2)
    assert len(identity.encode()) == IDENTITY.size == 48
    assert Identity.decode(identity.encode()) == identity
    with pytest.raises(ValueError, match="48 bytes, not 47"):
        Identity.decode(identity.encode()[:-1])
    with pytest.raises(ValueError, match="geometry_hash 8 bytes"):
        Identity(bytes(16), bytes(9), 0, bytes(16)).encode()


def test_answers_of_a_wrong_length() -> None:
    with pytest.raises(ValueError, match="RUN of 3 tokens answers 8 bytes"):
        RunAnswer.decode(bytes(8), 3)
    with pytest.raises(ValueError, match="BATCH of 2 x 3 tokens answers 5 bytes"):
        BatchAnswer.decode(bytes(5), 2, 3)
