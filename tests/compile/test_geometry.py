"""Geometries by name and from JSON: every form that `ternac explore` writes; errors name the field."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ternac.compile.geometry import PRESETS, read_geometry
from ternac.errors import UsageError

OWN = replace(PRESETS["icebreaker"], name="2x10-own", lanes=10, chain=1)
OTHER = replace(OWN, name="other", x_depth=128)
FRONT = {"front": [{"name": g.name, "comb": 1, "geometry": asdict(g)} for g in (OWN, OTHER)]}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_by_name_and_by_its_fields(name: str) -> None:
    assert read_geometry(name) is PRESETS[name]
    assert read_geometry(json.dumps(asdict(PRESETS[name]))) == PRESETS[name]


@pytest.mark.parametrize("data", [asdict(OWN), FRONT["front"][0], FRONT])
def test_every_form_of_a_file(data: Any, tmp_path: Path) -> None:
    path = tmp_path / "geometry.json"
    path.write_text(json.dumps(data))
    assert read_geometry(str(path)) == OWN
    assert read_geometry(f"{path}:2x10-own") == OWN
    with pytest.raises(UsageError, match="no geometry 'missing'"):
        read_geometry(f"{path}:missing")


def test_one_of_many_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a:b.txt"
    path.write_text(json.dumps(FRONT))
    assert read_geometry(str(path)) == OWN
    assert read_geometry(f"{path}:other") == OTHER


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lanes": "10"}, 'lanes is "10", needs a whole number'),
        ({"lanes": True}, "lanes is true, needs a whole number"),
        ({"lanes": 10.0}, "lanes is 10.0, needs a whole number"),
        ({"lanes": 0}, "lanes must be at least 1, not 0"),
        ({"lanes": 9}, "columns 2 must divide lanes 9"),
        ({"weight_ram": 3}, "weight_ram is 3, needs a text"),
        ({"speed": 3}, "a geometry has no field 'speed'"),
        ({"name": "../x"}, "name is '../x'"),
        ({"name": "tiny"}, "tiny is a preset with other parameters"),
        ({"lanes": None}, "lanes is null"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_geometry(json.dumps({**asdict(OWN), **change}))
    assert message in str(caught.value) and caught.value.hint


def test_a_missing_field_is_named() -> None:
    data = asdict(OWN)
    del data["bank_depth"]
    with pytest.raises(UsageError, match="the field 'bank_depth' is missing"):
        read_geometry(json.dumps(data))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "is not JSON"),
        (b"[1]", "a JSON object is needed"),
        (b'{"front": []}', "no geometry"),
        (b"\xff", "cannot read"),
    ],
)
def test_a_file_that_is_none(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(text)
    with pytest.raises(UsageError, match=message):
        read_geometry(str(path))


def test_an_unknown_name_lists_the_presets() -> None:
    for name in ("huge", "", ":", "/", "x:y"):
        with pytest.raises(UsageError) as caught:
            read_geometry(name)
        assert "no geometry" in str(caught.value)
    with pytest.raises(UsageError, match="no geometry is called 'huge'") as caught:
        read_geometry("huge")
    assert all(name in caught.value.hint for name in PRESETS)
    with pytest.raises(UsageError, match="there is no geometry file nowhere.json"):
        read_geometry("nowhere.json")
