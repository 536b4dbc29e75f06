"""``ternac verify --presets``: a row per combination; the quick form here, all presets marked slow."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from ternac.cli import main as cli
from ternac.compile.geometry import PRESETS
from ternac.compile.machine import Machine
from ternac.host import verify as module
from ternac.run.compare import cycle_divergence


def run(args: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    status = cli.main(["verify", *args, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_both_codes_of_the_compiled_image(capsys: pytest.CaptureFixture[str]) -> None:
    """Every preset's memories and microcode, without the RTL."""
    status, data = run(["--all-geometries", "--executors", "numpy,isa", "--tokens", "3"], capsys)
    assert (status, data["mismatches"]) == (0, 0)
    got = [(row["geometry"], row["weight_code"], row["sessions"]) for row in data["rows"]]
    expected = [
        (name, code, 1)
        for name, geometry in PRESETS.items()
        for code in geometry.codes
        for _ in range(2 if geometry.rows else 1)  # with rows a program with memories, too
    ]
    assert got == expected
    assert got[-1] == ("ulx3s-85f-sdram", "five", 1)
    models = {row["geometry"]: row["model"] for row in data["rows"]}
    assert models["ulx3s-85f"] == "shakespeare"
    assert models["icebreaker"] == "shakespeare-small"
    assert models["tiny"].startswith("random")


def test_a_wrong_trit_of_one_code_fails(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = Machine.__init__

    def planted(self: Machine, image: Any) -> None:
        honest(self, image)
        if image.geometry.weight_code == "five":
            self.trits = np.where(self.trits > 0, -1, self.trits).astype(np.int8)

    monkeypatch.setattr(Machine, "__init__", planted)
    status, data = run(["--geometries", "tiny", "--executors", "numpy,isa", "--tokens", "3"], capsys)
    assert status == 1
    assert [row["mismatches"] for row in data["rows"]] == [0, 1]


def test_cycles_of_a_closed_form_and_of_a_lower_bound() -> None:
    for got, exact, wrong in ((99, True, True), (101, True, True), (99, False, True), (101, False, False)):
        found = cycle_divergence(7, 100, got, "rtl", exact=exact)
        assert (found is not None) == wrong
    assert cycle_divergence(7, 100, 100, "rtl", exact=True) is None
    named = cycle_divergence(7, 100, 99, "rtl", exact=False)
    assert named is not None and (named.kind, named.expected, named.got) == ("cycles", 100, 99)


def test_unknown_preset(capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(["--geometries", "huge", "--tokens", "3"], capsys)
    assert status == 2
    assert "no geometry is called 'huge'" in data["error"]["message"]


def test_tiny_with_its_rtl(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Both codes, one session, and five on three contexts; a draw that goes wrong in one session is found."""
    args = ["--geometries", "tiny", "--tokens", "6"]
    status, data = run(args, capsys)
    assert (status, data["mismatches"]) == (0, 0)
    assert [(row["weight_code"], row["sessions"]) for row in data["rows"]] == [
        ("two_bit", 1), ("two_bit", 5), ("five", 1), ("five", 5),
    ]  # fmt: skip
    assert all(row["cycles"]["rtl"] > 0 for row in data["rows"])

    honest = module.choose

    def planted(logits: Any, sampling: Any, rng: int) -> tuple[int, int]:
        token, following = honest(logits, sampling, rng)
        return (token if sampling.greedy else token ^ 1), following

    monkeypatch.setattr(module, "choose", planted)
    status, data = run(args, capsys)
    assert status == 1
    assert [row["mismatches"] for row in data["rows"]] == [0, 1, 0, 1]


@pytest.mark.slow
def test_all_presets_with_their_rtl(capsys: pytest.CaptureFixture[str]) -> None:
    status, data = run(["--all-geometries", "--tokens", "4"], capsys)
    assert (status, data["mismatches"]) == (0, 0)
    programs = sum(len(geometry.codes) * (2 if geometry.rows else 1) for geometry in PRESETS.values())
    assert len(data["rows"]) == 2 * programs  # each alone and in five sessions
    assert {"torch", "numpy", "isa", "rtl"} == {e for row in data["rows"] for e in row["executors"]}
