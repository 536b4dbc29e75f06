"""Files of a checkpoint's folder that are no JSON, or name what cannot be: errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.errors import CheckpointError
from ternac.model.imports.mmfreelm_config import read_config
from ternac.model.imports.source import INDEX, SafetensorsFolder
from ternac.model.imports.special import of_folder

NO_JSON = {"deep": b"[" * 100_000, "latin": b'{"a": "\xff"}', "digits": b'{"a": ' + b"9" * 5000 + b"}"}


@pytest.mark.parametrize("case", NO_JSON)
def test_what_is_no_json_is_named(tmp_path: Path, case: str) -> None:
    for name in ("config.json", INDEX, "tokenizer_config.json"):
        (tmp_path / name).write_bytes(NO_JSON[case])
    with pytest.raises(CheckpointError, match="config.json is not JSON"):
        read_config(tmp_path)
    with pytest.raises(CheckpointError, match=f"{INDEX} is not JSON"):
        SafetensorsFolder(tmp_path)
    with pytest.raises(CheckpointError, match="tokenizer_config.json is not JSON"):
        of_folder(tmp_path, 10, b"")


@pytest.mark.parametrize("name", ["\ud800.safetensors", "a\0b", "..", "../up", "", "a\nb"])
def test_a_shard_that_is_no_plain_name_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"tensor": name}}))
    with pytest.raises(CheckpointError, match="is not a plain file name|is no index"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("weights", [[], {}, None, "a", ["a"], {"a": 1}])
def test_an_index_of_nothing_is_refused(tmp_path: Path, weights: object) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weights}))
    with pytest.raises(CheckpointError, match="is no index of shards"):
        SafetensorsFolder(tmp_path)


@pytest.mark.parametrize("number", ["²", "9" * 5000, "-1", ""])
def test_numbers_of_added_tokens_that_are_none_are_skipped(tmp_path: Path, number: str) -> None:
    about = {"bos_token": "x", "added_tokens_decoder": {number: {"content": "x"}, "7": {"content": "x"}}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(about))
    assert of_folder(tmp_path, 10, b"").bos == 7
