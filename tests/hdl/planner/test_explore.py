"""The explore verb: a front that nothing beats, geometries that hold the model, reasons when none does."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, Mem
from ternac.errors import DoesNotFit
from ternac.hdl.boards.boards import board
from ternac.hdl.cells.tech import Technology
from ternac.hdl.engine.schedule import batch_cycles, schedule
from ternac.hdl.planner import space as explore_space
from ternac.hdl.planner.area import area
from ternac.hdl.planner.explore import GOALS, Point, explore, front, search
from ternac.hdl.planner.space import Shape, shapes_of, sized
from ternac.program.file import load, save
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.random_memory import random_memory_program

FEW = {
    "ulx3s-85f": [
        Shape(4, 16, 1, 0, 1),
        Shape(4, 16, 2, 32, 1),
        Shape(4, 32, 1, 0, 2),
        Shape(8, 64, 4, 32, 1),
    ],
    "icebreaker": [Shape(2, 4, 1, 0, 2), Shape(2, 8, 1, 0, 2), Shape(2, 4, 2, 0, 2), Shape(1, 4, 1, 0, 1)],
    "tang-nano-20k": [Shape(2, 8, 1, 0, 2), Shape(2, 16, 1, 0, 1), Shape(2, 8, 2, 0, 2)],
}


@pytest.fixture
def model(tmp_path: Path) -> str:
    program = random_program(np.random.default_rng(1), 24, 48, 2, 256)
    path = tmp_path / "small.safetensors"
    save(replace(program, meta={"tokenizer": "bytes"}), path)
    return str(path)


@pytest.fixture
def few_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search of seconds."""
    by_tech = {board(name).tech: shapes for name, shapes in FEW.items()}
    monkeypatch.setattr("ternac.hdl.planner.explore.shapes_of", lambda tech: by_tech[tech])


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = cli.main(["explore", *args, "--json"])
    return status, json.loads(capsys.readouterr().out)


def figures(point: Point) -> tuple[float, int, int]:
    return point.together, point.cycles, point.area.comb


@pytest.mark.parametrize("name", FEW)
@pytest.mark.usefixtures("few_shapes")
def test_nothing_found_beats_the_front_and_the_front_beats_the_rest(name: str, model: str) -> None:
    target = board(name)
    _, best, points = explore(load(Path(model)), target, "throughput")
    assert best
    for one in best:
        assert not any(
            all(a <= b for a, b in zip(figures(other), figures(one), strict=True))
            and figures(other) != figures(one)
            for other in points
        )
    on_front = {figures(p) for p in best}
    for point in points:
        assert figures(point) in on_front or any(
            all(a <= b for a, b in zip(figures(one), figures(point), strict=True)) for one in best
        )


@pytest.mark.parametrize("name", FEW)
@pytest.mark.usefixtures("few_shapes")
def test_every_point_compiles_the_model_and_fits_the_chip(
    name: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    target = board(name)
    status, data = run([model, "--board", name], capsys)
    assert status == 0
    program = load(Path(model))
    assert data["front"]
    for row in data["front"]:
        geometry = Geometry(**row["geometry"])
        image = compile_program(program, geometry, contexts=geometry.contexts)
        assert len(image.entries) == row["sessions"]
        assert schedule(image).cycles == row["cycles_per_token"]
        if row["sessions"] > 1:
            cycles = batch_cycles(image, row["sessions"], 12)
            assert row["cycles_per_token_together"] == pytest.approx(cycles / 12 / row["sessions"], abs=0.01)
        found = area(geometry, target)
        assert (row["comb"], row["ff"], row["bram"]) == (found.comb, found.ff, found.bram)
        assert found.excess(target.resources) == []
        assert row["tokens_per_second"] == pytest.approx(
            data["clock_mhz"] * 1e6 / row["cycles_per_token_together"], rel=1e-3
        )
    assert "estimate" in data["origin"]
    assert "assumption" in data["clock_origin"]
    # the board's own engine, if it has logits for a program of bytes
    holds = target.engine.logit_slots * target.engine.columns >= program.vocab
    assert (data["today"] and data["today"]["name"]) == (target.geometry if holds else None)


@pytest.mark.usefixtures("few_shapes")
def test_goal_chooses_what_comes_first_and_the_front_stays(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {goal: run([model, "--goal", goal], capsys)[1]["front"] for goal in GOALS}
    names = [sorted(row["name"] for row in front_) for front_ in rows.values()]
    assert names[0] == names[1] == names[2]
    for goal, key, best in (
        ("throughput", "tokens_per_second", max),
        ("latency", "cycles_per_token", min),
        ("area", "comb", min),
    ):
        assert rows[goal][0][key] == best(row[key] for row in rows[goal])


@pytest.mark.usefixtures("few_shapes")
def test_same_question_same_answer_and_picture(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    answers = []
    for suffix in ("png", "svg", "png"):
        out = tmp_path / f"front.{suffix}"
        answers.append((run([model, "--out", str(out)], capsys)[1], out.read_bytes()))
    assert answers[0] == answers[2]
    assert answers[0][1].startswith(b"\x89PNG")
    assert b"<svg" in answers[1][1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["front.png", "front.svg", "small.safetensors"]


@pytest.mark.usefixtures("few_shapes")
def test_sessions_and_clock_are_taken(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, data = run([model, "--sessions", "2", "--clock", "80"], capsys)
    assert {row["sessions"] for row in data["front"]} == {2}
    assert data["clock_mhz"] == 80
    assert data["clock_origin"].startswith("given")


@pytest.mark.parametrize(
    ("args", "kind", "message"),
    [
        (["--board", "nexys"], "UsageError", "nexys"),
        (["--goal", "beauty"], "UsageError", "beauty"),
        (["--sessions", "5"], "UsageError", "--sessions is 5"),
        (["--clock", "-1"], "UsageError", "-1 MHz makes no sense"),
        (["--clock", "nan"], "UsageError", "--clock is 'nan', needs a number"),
        (["--out", "front.gif"], "UsageError", "must end in .png, .svg, .pdf"),
        (["--out", "/dev/null/x/front.png"], "UsageError", "cannot make the folder"),
        (["no-such-model"], "UsageError", "no-such-model"),
        (["--model", "x"], "UsageError", "--model is now MODEL"),
    ],
)
def test_wrong_arguments_are_refused(
    args: list[str], kind: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status, data = run(args, capsys)
    assert status == 2
    assert data["error"]["type"] == kind
    assert message in data["error"]["message"]


@pytest.mark.usefixtures("few_shapes")
def test_model_that_no_engine_holds_is_refused_with_what_is_too_small(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "large.safetensors"
    save(random_program(np.random.default_rng(2), 192, 384, 3, 256), path)
    status, data = run([str(path), "--board", "icebreaker"], capsys)
    assert status == 2
    assert data["error"]["type"] == "DoesNotFit"
    assert "no engine on icebreaker holds" in data["error"]["message"]
    assert "2x4 has 16384" in data["error"]["message"]


def test_interrupting_leaves_nothing_behind(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ternac.hdl.planner.explore.sized", interrupted)
    status, data = run([model, "--out", str(tmp_path / "front.png")], capsys)
    assert status == 130
    assert data["error"]["type"] == "Interrupted"
    assert not (tmp_path / "front.png").exists()


def test_memories_are_just_deep_enough(model: str) -> None:
    """The embedding's is what it takes, the others' are a block RAM's own."""
    program = load(Path(model))
    ((geometry, _), *_) = sized(program, Shape(4, 16, 2, 32, 1), Technology.ECP5)
    compile_program(program, geometry, contexts=2)
    small = compile_program(program, geometry, contexts=2).memories
    assert geometry.embed_depth == small[Mem.EMBED].shape[1] == 2048
    for field, least in (("bank_depth", 1024), ("bias_depth", 1024), ("weight_depth", 1024), ("x_depth", 16)):
        assert getattr(geometry, field) == least
    assert geometry.logit_slots * geometry.columns == 256
    with pytest.raises(DoesNotFit, match="logits"):
        compile_program(program, replace(geometry, logit_slots=48))


def test_shapes_are_legal_and_differ() -> None:
    for tech in (Technology.ECP5, Technology.ICE40):
        shapes = shapes_of(tech)
        assert len(set(shapes)) == len(shapes) > 50
        assert all(s.lanes % s.columns == 0 and s.columns % s.share == 0 for s in shapes)
        assert {s.contexts for s in shapes} == set(explore_space.CONTEXTS)


def test_front_of_points_by_hand() -> None:
    def point(name: str, together: float, cycles: int, comb: int) -> Point:
        found = replace(AREA, comb=comb)
        return Point(replace(GEOMETRY, name=name), 1, cycles, together, found)

    points = [
        point("fast", 10, 30, 900), point("small", 50, 60, 100), point("beaten", 50, 60, 101),
        point("near", 40, 20, 500), point("same", 40, 20, 500),
    ]  # fmt: skip
    assert [p.geometry.name for p in front(points, "throughput")] == ["fast", "near", "small"]
    assert [p.geometry.name for p in front(points, "latency")] == ["near", "fast", "small"]
    assert [p.geometry.name for p in front(points, "area")] == ["small", "near", "fast"]


GEOMETRY = Geometry(
    name="by hand", columns=4, lanes=16, chain=4, weight_block_bits=18, weight_depth=1024, x_depth=16,
    bank_depth=1024, bias_depth=1024, bias_bits=16, embed_depth=2048,
)  # fmt: skip
AREA = area(GEOMETRY, board("ulx3s-85f"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shipped"), [("ulx3s-85f", "shakespeare"), ("icebreaker", "shakespeare-small")]
)
def test_whole_search_on_shipped_models_says_how_far_it_is(name: str, shipped: str) -> None:
    calls: list[tuple[int, int]] = []
    program: Program = load(Path(__file__).resolve().parents[3] / f"model/zoo/{shipped}/program.safetensors")
    points, looked_at = search(program, board(name), None, lambda done, total: calls.append((done, total)))
    assert 0 < len(points) <= looked_at
    assert calls[0] == (0, len(calls) - 1)
    assert calls[-1] == (len(calls) - 1, len(calls) - 1)
    assert max(p.geometry.macs for p in front(points, "throughput")) >= (1152 if name == "ulx3s-85f" else 20)


def test_a_program_with_a_memory_gets_as_many_rows_as_it_needs() -> None:
    program = random_memory_program(np.random.default_rng(4), loop="", narrow=True)
    for geometry, _ in sized(program, Shape(4, 16, 2, 32, 1), Technology.ECP5):
        image = compile_program(program, geometry)
        assert image.row_start(1) + image.row_words <= geometry.rows
    with pytest.raises(DoesNotFit, match="needs rows, and those two columns with a pipeline each"):
        next(sized(program, Shape(4, 16, 1, 0, 2), Technology.ECP5))
