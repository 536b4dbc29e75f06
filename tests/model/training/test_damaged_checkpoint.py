"""A checkpoint's header that is no configuration: typed errors, whatever JSON it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from ternac.errors import CheckpointError, TernacError, UsageError
from ternac.model.training import checkpoint
from ternac.model.training.run_folder import LATEST, TextRecord, progress_of, read_info

DEEP = "[" * 100_000


def damaged(path: Path, header: str) -> Path:
    save_file({"model.embed": torch.zeros(1)}, str(path), metadata={"ternac": header})
    return path


WRONG: dict[str, tuple[Any, str]] = {
    "no object": ([], r"the configuration is '\[\]', needs an object"),
    "nothing": (None, "the configuration is 'None', needs an object"),
    "model a text": ({"model": "x"}, "setting model is 'x', needs an object"),
    "width a text": ({"model": {"d": "64"}}, "setting model.d is '64', needs int"),
    "width a fraction": ({"model": {"d": 64.5}}, "setting model.d is '64.5', needs int"),
    "width true": ({"model": {"d": True}}, "setting model.d is 'True', needs int"),
    "temper a text": ({"model": {"temper": "1"}}, "setting model.temper is '1', needs float"),
    "scales a list": ({"model": {"scales": [1]}}, "setting model.scales is"),
    "scale a text": ({"model": {"scales": {"embed": "5"}}}, "setting model.scales.embed is '5', needs int"),
    "memory a text": ({"model": {"memory": "big"}}, "setting model.memory is 'big', needs an object"),
    "train a list": ({"train": [1]}, "setting train is"),
    "unknown": ({"model": {"depth": 1}}, "unknown setting model.depth"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_type_in_the_configuration_is_named(tmp_path: Path, case: str) -> None:
    config, reason = WRONG[case]
    path = damaged(tmp_path / LATEST, json.dumps({"format": 1, "config": config}))
    with pytest.raises(UsageError, match=reason):
        checkpoint.model_of(checkpoint.load(path))


def test_a_header_nested_too_deep_is_refused(tmp_path: Path) -> None:
    path = damaged(tmp_path / LATEST, DEEP)
    with pytest.raises(CheckpointError, match="nested too deep"):
        checkpoint.load(path)
    assert read_info(path) == {}
    assert progress_of(tmp_path) is None


def test_a_tokenizer_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = damaged(tmp_path / LATEST, json.dumps({"format": 1, "tokenizer": "\ud800"}))
    with pytest.raises(TernacError, match="unpaired surrogate"):
        checkpoint.tokenizer_of(checkpoint.load(path))


@pytest.mark.parametrize("number", ["Infinity", "[]", '"x"'])
def test_numbers_that_are_none_say_nothing(tmp_path: Path, number: str) -> None:
    header = (
        f'{{"step": {number}, "text_sha256": "0", "text": {{"bytes": {number}}}, "config": {{"train": '
        f'{{"steps": {number}}}}}}}'
    )
    path = damaged(tmp_path / LATEST, header)
    assert progress_of(tmp_path) is None
    assert TextRecord.of(read_info(path)) is None
