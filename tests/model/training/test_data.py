"""Text to tokens and windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.model.training.data import SHAKESPEARE, Streams, read_text, split
from ternac.run import evaluate


def test_file_and_folder(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "2.txt").write_bytes(b"two")
    (tmp_path / "a.txt").write_bytes(b"one\xff")
    (tmp_path / "c.md").write_bytes(b"no")
    assert read_text(tmp_path).tobytes() == b"one\xfftwo"
    assert read_text(tmp_path / "a.txt").tobytes() == b"one\xff"
    with pytest.raises(UsageError, match="no such file"):
        read_text(tmp_path / "missing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"no \*\.txt file"):
        read_text(tmp_path / "empty")


def test_split_is_that_of_eval() -> None:
    text = read_text(SHAKESPEARE)
    train, val = split(text, 0.1)
    assert (len(text), len(val)) == (1_115_394, 111_540)
    assert val.tobytes() == evaluate.split(text.tobytes(), "val")
    assert train.tobytes() == evaluate.split(text.tobytes(), "train")
    with pytest.raises(UsageError, match="too short to split"):
        split(text[:3], 0.1)


def test_windows_follow_each_other_and_cover_the_text() -> None:
    streams = Streams(np.arange(250, dtype=np.uint8), batch=3, window=10, seed=4)
    assert streams.windows_per_pass == 8
    seen: set[int] = set()
    last = np.zeros((1, 3), np.int64)
    for step in range(8):
        x, y = streams.window_at(step)
        assert x.shape == y.shape == (10, 3)
        assert np.array_equal(x[1:], y[:-1])
        assert np.array_equal((x + 1) % 250, y)
        if step:
            assert np.array_equal(x[0], last[-1])
        last = y
        seen |= set(x.ravel().tolist())
        assert streams.starts_pass(step) == (step == 0)
    assert len(seen) == 240
    again, _ = streams.window_at(3)
    assert np.array_equal(again, Streams(streams.tokens, 3, 10, 4).window_at(3)[0])
    assert not np.array_equal(streams.window_at(0)[0], streams.window_at(8)[0])
    with pytest.raises(UsageError, match="too short for 30 streams"):
        Streams(streams.tokens, 30, 10, 0)
