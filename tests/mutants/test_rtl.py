"""The list of netlists' mutants that are the original: each is of one netlist, and has a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.mutants.rtl import __main__ as tool
from tests.mutants.rtl.blocks import BLOCKS


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
