"""The logs of the tutorial: what is injected, and the areas under curves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.errors import UsageError
from ternac.run.ssh_logs import KINDS, Log, auc, main, ngram_bits, roc


def test_lines_are_those_of_the_seed_and_injected_ones_of_every_kind() -> None:
    made = list(Log(5).lines(3000, injected=True))
    assert made == list(Log(5).lines(3000, injected=True)) != list(Log(6).lines(3000, injected=True))
    assert {kind for _, kind in made} == {"", *KINDS}
    assert all(line.endswith("\n") and line.count("\n") == 1 for line, _ in made)
    assert all(kind == "" for _, kind in Log(5).lines(300))


def test_areas_under_curves() -> None:
    assert auc([3, 4], [1, 2]) == 1
    assert auc([1, 2], [3, 4]) == 0
    assert auc([1, 1], [1, 1, 1]) == 0.5
    assert auc([2, 5], [1, 2, 3]) == pytest.approx((1.5 + 3) / 6)


def test_ngrams_know_what_they_have_read() -> None:
    seen, unseen = ngram_bits(b"abcabcabc\n" * 20, [b"abcabc\n", b"cbacba\n"], 3)
    assert seen < 10 < unseen
    assert ngram_bits(b"", [b"xy"], 3) == [16]


def test_the_module_makes_logs_and_compares(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["make", str(tmp_path), "0.05"]) == 0
    labels = json.loads((tmp_path / "labels.json").read_text())
    lines = (tmp_path / "test.log").read_text().splitlines()
    assert len(lines) == 300 and labels
    scored = tmp_path / "lines"
    scored.write_text("".join(json.dumps({"bits": str(at) in labels}) + "\n" for at in range(1, 301)))
    assert roc(tmp_path, scored)["model, bits"]["all"] == 1
    assert main(["roc", str(tmp_path), str(scored)]) == 0
    assert "3-grams: all 0." in capsys.readouterr().out
    scored.write_text("")
    with pytest.raises(UsageError, match="0 lines"):
        roc(tmp_path, scored)
    assert main([]) == 2
    assert main(["roc", str(tmp_path), str(tmp_path / "none")]) == 2
    assert "write it: ternac score --lines" in capsys.readouterr().err
