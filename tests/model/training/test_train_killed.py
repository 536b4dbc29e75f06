"""A run that is killed again and again ends with the tensors, the optimizer and the curve of a whole one."""

from __future__ import annotations

import csv
import multiprocessing
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import SHAKESPEARE, read_text
from ternac.model.training.run_folder import BEST, FINAL, LATEST
from ternac.model.training.train import Progress, Trainer

KILLS = 50
LONGEST = 0.015
"""Seconds after which a process is killed that has done as many steps as were drawn."""
MODEL = ModelConfig(d=8, m=8, layers=1)
TRAIN = TrainConfig(
    steps=130, batch=2, window=16, eval_every=10, eval_tokens=64, checkpoint_every=2, warmup=2, dropout=0.2,
    average=0.9,
)  # fmt: skip
TEXT = read_text(SHAKESPEARE)[:3000]


def _train(out: Path, steps: object = None) -> None:
    def report(now: Progress) -> None:
        if steps is not None:
            steps.value += 1  # type: ignore[attr-defined]

    Trainer(MODEL, TRAIN, TEXT, out).run(report)


def _killed(out: Path, rng: random.Random) -> bool:
    """Run in a process that is killed after some steps, wherever it then is; False if it was done before."""
    context = multiprocessing.get_context("fork")
    # Without a lock: a process that is killed while it holds one would keep it for ever.
    steps = context.Value("i", 0, lock=False)
    process = context.Process(target=_train, args=(out, steps))
    process.start()
    wanted = rng.randrange(1, 4)
    while steps.value < wanted and process.is_alive():
        time.sleep(0.0005)
    time.sleep(rng.uniform(0, LONGEST))
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def _equal(one: Path, two: Path) -> None:
    a, b = ckpt.load(one), ckpt.load(two)
    assert a.tensors.keys() == b.tensors.keys()
    assert any(name.startswith("adam.exp_avg_sq.") for name in a.tensors) or one.name != LATEST
    for name, tensor in a.tensors.items():
        assert torch.equal(tensor, b.tensors[name]), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in c.info["rows"]] for c in (a, b)]
    assert rows[0] == rows[1]


@pytest.mark.slow
def test_runs_killed_at_fifty_points_end_as_one_that_is_not(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # forks: torch's threads would not be there
    rng, kills, runs, points = random.Random(3), 0, 0, set[int]()
    try:
        _train(tmp_path / "whole")
        while kills < KILLS:
            out, runs = tmp_path / f"killed{runs}", runs + 1
            while _killed(out, rng):
                kills += 1
                assert kills < 20 * KILLS, "it never ends"
                if (out / LATEST).exists():
                    points.add(ckpt.load(out / LATEST).info["step"])
            _equal_runs(tmp_path / "whole", out)
    finally:
        torch.set_num_threads(threads)
    assert len(points) > 15


def _equal_runs(whole: Path, killed: Path) -> None:
    for name in (LATEST, BEST, FINAL):
        _equal(whole / name, killed / name)
    curves = [[*csv.DictReader((out / "curve.csv").read_text().splitlines())] for out in (whole, killed)]
    columns = [[{k: v for k, v in row.items() if k != "seconds"} for row in curve] for curve in curves]
    assert columns[0] == columns[1]
    left = {path.name for path in killed.iterdir()} - {path.name for path in whole.iterdir()}
    assert not left, "of the processes that were killed nothing is left"


def test_a_run_that_resumes_with_another_optimizer_state_is_caught(tmp_path: Path) -> None:
    """The planted fault: one element of the second moments is lost in a checkpoint."""
    short = TrainConfig(**{**TRAIN.__dict__, "steps": 8})
    for name in ("whole", "parts"):
        Trainer(MODEL, short, TEXT, tmp_path / name).run(lambda now: None, 4)
    saved = ckpt.load(tmp_path / "parts" / LATEST)
    name = next(name for name in saved.tensors if name.startswith("adam.exp_avg_sq."))
    flat = saved.tensors[name].view(-1)
    flat[int(flat.argmax())] = 0
    ckpt.save(tmp_path / "parts" / LATEST, saved)
    for folder in ("whole", "parts"):
        Trainer(MODEL, short, TEXT, tmp_path / folder).run(lambda now: None)
    with pytest.raises(AssertionError):
        _equal(tmp_path / "whole" / LATEST, tmp_path / "parts" / LATEST)
