"""The runner of netlists: what it sees, what means nothing, and what it proves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.mutants.rtl import __main__ as tool
from tests.mutants.rtl.blocks import BLOCKS, Block

MASKED = {"y": "valid", "pair": "pair.0"}
TOY = Block(
    "toy", "tests.mutants.toy_block:ToyBlock", ("tests/mutants/toy_block_tests.py",), MASKED, mutants=30
)


def verdicts(folder: Path, **options: Any) -> dict[str, str]:
    found = tool.check(Block(**{**vars(TOY), **options}), folder)
    return {row["mutant"].partition(" -ctrl ")[0]: row["verdict"] for row in found["mutants"]}


@pytest.mark.slow
def test_what_the_stimulus_reaches_is_killed_and_what_means_nothing_is_masked(tmp_path: Path) -> None:
    """The planted faults: tests that never set a bit, and a mask that is left out."""
    found = verdicts(tmp_path / "masked")
    kinds = {verdict.split()[0].strip(",") for verdict in found.values()}
    assert kinds >= {"killed", "masked", "unseen"}
    assert all("0." in verdict for verdict in found.values() if verdict.startswith("killed"))
    plain = verdicts(tmp_path / "plain", when={})
    masked = {name for name, verdict in found.items() if verdict.startswith("masked")}
    assert masked and all(plain[name].startswith("killed") for name in masked)
    assert not any(verdict.startswith("masked") for verdict in plain.values())


def test_reasons_hold_for_their_netlist_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "equivalent.json"
    file.write_text(
        json.dumps({"toy": {"netlist": tool.digest(b"text"), "mutants": {"m": "it is the same"}}})
    )
    monkeypatch.setattr(tool, "EQUIVALENT", file)
    assert tool.reasons("toy", "text") == {"m": "it is the same"}
    assert tool.reasons("toy", "another text") == tool.reasons("other", "text") == {}


def test_what_is_called_equivalent_is_of_a_block_and_has_a_reason() -> None:
    known = json.loads(tool.EQUIVALENT.read_text())
    assert set(known) <= {block.name for block in BLOCKS}
    for block in known.values():
        assert all(len(reason.split()) >= 4 for reason in block["mutants"].values())
