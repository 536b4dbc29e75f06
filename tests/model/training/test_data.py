"""Text to tokens and windows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ternac.errors import UsageError
from ternac.model.training.data import SESSION, SHAKESPEARE, Streams, question_weights, read_text, split
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
        assert streams.fresh(step).tolist() == [step == 0] * 3
    assert len(seen) == 240
    again, _ = streams.window_at(3)
    assert np.array_equal(again, Streams(streams.tokens, 3, 10, 4).window_at(3)[0])
    assert not np.array_equal(streams.window_at(0)[0], streams.window_at(8)[0])
    with pytest.raises(UsageError, match="too short for 30 streams"):
        Streams(streams.tokens, 30, 10, 0)


def test_streams_with_repeats_read_passages_again_in_sessions_of_their_own() -> None:
    text = np.random.default_rng(1).integers(0, 65536, 5000).astype(np.uint16)
    streams = Streams(text, batch=4, window=64, seed=4, repeats=0.5)
    windows = [streams.window_at(step) for step in range(40)]
    for (_, before), (x, _), step in zip(windows, windows[1:], range(1, 40), strict=False):
        fresh = streams.fresh(step)
        assert np.array_equal(fresh[[1, 3]], [(step + 1) % SESSION == 0, (step + 3) % SESSION == 0])
        going_on = ~fresh
        assert np.array_equal(x[0][going_on], before[-1][going_on])
    assert streams.fresh(0).all()
    begin = next(step for step in range(1, 40) if streams.fresh(step)[1])
    session = np.concatenate([windows[step][0][:, 1] for step in range(begin, begin + SESSION)])
    pairs = [tuple(session[i : i + 8]) for i in range(len(session) - 8)]
    again = sum(pair in pairs[:i] for i, pair in enumerate(pairs)) / len(pairs)
    assert 0.15 < again < 0.75
    plain = np.concatenate([x[:, 0] for x, _ in windows[: streams.windows_per_pass]])
    assert len(set(map(tuple, np.lib.stride_tricks.sliding_window_view(plain, 8)))) == len(plain) - 7
    assert np.array_equal(streams.window_at(21)[0], Streams(text, 4, 64, 4, 0.5).window_at(21)[0])


def test_plain_streams_share_the_text_that_repeating_ones_leave_them() -> None:
    text = np.arange(40_000, dtype=np.uint16)
    assert Streams(text, 4, 100, 1).windows_per_pass == 99
    assert Streams(text, 4, 100, 1, repeats=0.5).windows_per_pass == 199
    with pytest.raises(UsageError, match="no passages of 192 to repeat"):
        Streams(text[:150], 2, 10, 1, repeats=0.5)


def test_answers_count_once_and_questions_by_their_weight() -> None:
    text = np.frombuffer(b"a => b\nxy => cd\nq => r", np.uint8)
    found = question_weights(text, b"", 0.25)
    assert found is not None
    inside = [1 if weight == 1.0 else 0 for weight in found]
    assert "".join(str(one) for one in inside) == "00001110000011110000" + "11"
    assert set(found.tolist()) == {0.25, 1.0}
    assert question_weights(text, b"", 1.0) is None
    with pytest.raises(UsageError, match="needs lines with ' =>'"):
        question_weights(text[:1], b"", 0.5)


def test_weights_of_a_step_have_the_mean_1_and_stand_where_the_targets_do() -> None:
    text = np.frombuffer(b"ask => yes\n" * 40, np.uint8)
    streams = Streams(text, 2, 33, 1, counts=question_weights(text, b"", 0.0))
    weights = streams.weights_at(3)
    assert weights is not None and abs(float(weights.mean()) - 1.0) < 1e-6
    targets = streams.window_at(3)[1]
    assert set(targets[weights > 0].tolist()) == set(b" yes\n")
    assert set(targets[weights == 0].tolist()) == set(b"ask =>")
    assert Streams(text, 2, 33, 1).weights_at(3) is None
    with pytest.raises(UsageError, match="do not go together"):
        Streams(np.tile(text, 9), 2, 33, 1, 0.5, np.ones(9 * len(text), np.float32))
