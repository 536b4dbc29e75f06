"""Schedule of a whole token: what it counts, its bounds, and the tables of docs/wide.md."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from ternac.cli import main as cli
from ternac.compile.stream_layout import Encoding, matrix_words
from ternac.hdl.wide.schedule import Timing, constant_bytes, token_schedule
from ternac.program.mmfree import SHAPES, Shape

PAGE = (Path(__file__).parents[3] / "docs" / "wide.md").read_text()
SMALL = Shape("small", 64, 2, 160, vocab=100)


def bound(shape: Shape, ports: int = 1) -> float:
    """The cycles in which 128-bit ports send the weights at 1.6 bits."""
    return shape.trits / 5 / 16 / ports


@pytest.mark.parametrize("shape", [*SHAPES.values(), SMALL], ids=lambda shape: shape.name)
def test_every_word_is_counted_once(shape: Shape) -> None:
    phases = [*shape.layer] * shape.layers + [*shape.head]
    sizes = [(rows // 2 if name == "gate" else rows, columns, 1 + (name == "gate"))
             for phase in phases for name, rows, columns in phase]  # fmt: skip
    words = sum(times * matrix_words(rows, columns, 16, Encoding.FIVE) for rows, columns, times in sizes)
    token = token_schedule(shape)
    constants, row = constant_bytes(shape)
    assert token.beats == words
    assert token.constant_beats == -(-(constants + row) // 16)
    matrices = 7 * shape.layers + 1
    slow = 6 * Encoding.FIVE.rows > shape.d // 16  # sums leave more slowly than they come
    if not slow:
        parts = words + matrices + sum(token.waits.values()) + -(-constants // 16)
        assert token.cycles == parts


@pytest.mark.parametrize("name", SHAPES)
def test_eight_lanes_keep_the_published_models_near_the_bound(name: str) -> None:
    token = token_schedule(SHAPES[name])
    assert token.port_busy >= 0.95
    assert token.cycles <= 1.05 * bound(SHAPES[name])


def test_half_the_lanes_do_not() -> None:
    shape = SHAPES["370m"]
    assert token_schedule(shape, timing=Timing(lanes=4)).cycles > 1.05 * bound(shape)


def test_waits_hold_the_elements_that_the_page_counts() -> None:
    """15 d + 3 m a layer: twice the elements a cycle save half of that; and 35 d + 6 m in all."""
    shape = SHAPES["370m"]
    slow, fast = (sum(token_schedule(shape, timing=Timing(lanes=n)).waits.values()) for n in (1, 2))
    strips = (6 + 3 + 2 + 3) * 64 / 2
    head = 7 * shape.d  # the embedding's SUMSQ, and what the first layer waits for
    assert slow - fast == shape.layers * ((15 * shape.d + 3 * shape.m) / 2 + strips) + head / 2
    elements = shape.layers * (35 * shape.d + 6 * shape.m) + head
    assert token_schedule(shape, timing=Timing(lanes=1)).lanes_busy == elements


@pytest.mark.parametrize("part", ["op", "root", "inverse", "rescale"])
def test_slower_parts_make_longer_tokens(part: str) -> None:
    usual = Timing()
    slower = replace(usual, **{part: getattr(usual, part) + 10})
    assert token_schedule(SMALL, timing=slower).cycles > token_schedule(SMALL, timing=usual).cycles


def test_sums_that_leave_slowly_hold_the_stream() -> None:
    usual, slow = token_schedule(SMALL), token_schedule(SMALL, timing=Timing(rescale_every=20))
    assert slow.cycles - usual.cycles > 14 * 7 * SMALL.d


def test_sessions_take_turns_in_the_lanes() -> None:
    shape = SHAPES["370m"]
    one, four = token_schedule(shape), token_schedule(shape, batch=4)
    wide = token_schedule(shape, batch=4, timing=Timing(lanes=32))
    assert four.beats == one.beats
    assert four.lanes_busy == 4 * one.lanes_busy
    assert one.cycles < wide.cycles < four.cycles < 1.1 * one.cycles


def rows_of(first: str) -> list[list[str]]:
    """The cells of a table's rows."""
    table = PAGE[PAGE.index(first) :].split("\n\n")[0].split("\n")[2:]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


def test_the_page_has_the_figures_of_one_port() -> None:
    rows = rows_of("| lanes | 370M")
    assert len(rows) == 6
    for lanes, *cells in rows:
        found = []
        for shape in SHAPES.values():
            token = token_schedule(shape, timing=Timing(lanes=int(lanes)))
            found += [f"{token.cycles / bound(shape) - 1:.1%}", f"{token.port_busy:.1%}"]
        assert cells == found


def test_the_page_has_the_figures_of_sessions_and_ports() -> None:
    rows = rows_of("| | 370M | 1.3B")
    assert len(rows) == 8
    for what, *cells in rows:
        sessions, ports, lanes = (int(number) for number in re.findall(r"\d+", what))
        settings = {"ports": ports, "batch": sessions, "timing": Timing(lanes=lanes)}
        found = [token_schedule(shape, **settings).cycles / bound(shape, ports) for shape in SHAPES.values()]  # type: ignore[arg-type]
        assert cells == [f"{over - 1:.1%}" for over in found]


def test_the_command_prints_each_op_and_labels_it_an_estimate(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "stream", "--size", "1.3b", "--whole", "--tokens", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["origin"].startswith("estimate") and found["simulated"] is False
    assert found["cycles_per_token"] == token_schedule(SHAPES["1.3b"]).cycles
    ops = [step["op"] for step in found["steps"] if step["before"] == "gate, up"]
    assert ops[1:] == "root RMSNORM SCALE SUMSQ root RMSNORM SCALE inverse QUANT".split()
    assert (
        cli.main(["bench", "stream", "--whole", "--tokens", "0", "--lanes", "2"]) == 1
    )  # over the bound by more than 5%
    said = capsys.readouterr().out
    assert "before down:" in said and "estimate" in said


@pytest.mark.parametrize(("words", "message"), [
    (["--whole", "--layers", "3"], "--layers has no effect with --whole"),
    (["--whole", "--tokens", "0", "--seed", "3"], "--seed has no effect with --whole without a simulation"),
    (["--whole", "--ports", "4", "--tokens", "1"], "one session at a time on one port"),
    (["--whole", "--lanes", "3"], "--lanes is 3, must divide 16"),
    (["--tokens", "3"], "--tokens has no effect with a simulation of the products"),
    (["--lanes", "3"], "--lanes has no effect with a simulation of the products"),
    (["--whole", "--lanes", "0"], "--lanes is 0"),
])  # fmt: skip
def test_what_has_no_effect_is_refused(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bench", "stream", *words]) == 2
    assert message in capsys.readouterr().err
