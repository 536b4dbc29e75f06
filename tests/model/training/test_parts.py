"""Parts of a batch: the number of threads changes no bit, the number of parts only the order of sums."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from ternac.errors import UsageError
from ternac.model.net.config import MemoryConfig, ModelConfig, TrainConfig
from ternac.model.training.bench import bench_parts
from ternac.model.training.data import SHAKESPEARE, read_text
from ternac.model.training.parts import Parts, one_thread
from ternac.model.training.train import Progress, Trainer
from ternac.progress import Progress as Bar

MODEL = ModelConfig(d=16, m=16, layers=2)
TRAIN = TrainConfig(
    steps=4, batch=4, window=32, eval_every=9, checkpoint_every=9, warmup=2, dropout=0.2, parts=2
)
TEXT = read_text(SHAKESPEARE)[:4000]


def _silent(now: Progress) -> None:
    """No report."""


def _trained(
    out: Path, threads: int, model: ModelConfig = MODEL, until: int | None = None, **change: int | float
) -> Trainer:
    trainer = Trainer(model, dataclasses.replace(TRAIN, **change), TEXT, out)
    if trainer.parts:
        trainer.parts = Parts(trainer.model, TRAIN.parts, threads)
    trainer.run(_silent, until)
    return trainer


def _same(one: Trainer, other: Trainer) -> bool:
    pairs = zip([*one.model.parameters(), *one.state], [*other.model.parameters(), *other.state], strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


MEMORY = dataclasses.replace(MODEL, memory=MemoryConfig(heads=2, slots=4, width=8, after=1))


@pytest.mark.parametrize(
    ("model", "change"),
    [
        (MODEL, {}),
        (MODEL, {"average": 0.9, "hold_exponents": 0}),
        (MEMORY, {"repeats": 0.5, "mask_steps": 2}),
    ],
)
def test_threads_change_no_bit(tmp_path: Path, model: ModelConfig, change: dict[str, float]) -> None:
    one = _trained(tmp_path / "one", 1, model, **change)
    two = _trained(tmp_path / "two", 2, model, **change)
    assert _same(one, two)
    assert not _same(one, _trained(tmp_path / "other", 2, model, **change, seed=2))


def test_a_run_in_parts_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole = _trained(tmp_path / "whole", 2)
    _trained(tmp_path / "stopped", 2, until=2)
    assert _same(whole, _trained(tmp_path / "stopped", 1))


def test_parts_see_the_same_masks_and_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    trainers, losses = [], []
    for parts in (1, 4):
        train = dataclasses.replace(TRAIN, parts=parts, bf16_backward=False)
        trainers.append(Trainer(MODEL, train, TEXT, tmp_path / str(parts)))
        losses.append(trainers[-1].one_step())
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)
    for one, other in zip(*(trainer.model.parameters() for trainer in trainers), strict=True):
        assert one.grad is not None and other.grad is not None
        scale = float(one.grad.abs().max())
        assert float((one.grad - other.grad).abs().max()) <= 1e-5 * scale
    assert all(torch.equal(a, b) for a, b in zip(trainers[0].state, trainers[1].state, strict=True))


def test_torch_has_its_threads_again_behind_a_step() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_parts_must_divide_the_batch() -> None:
    with pytest.raises(UsageError, match="a batch of 4 streams has no 3 equal parts"):
        dataclasses.replace(TRAIN, parts=3)


def test_the_bench_compares_bits_and_finds_a_planted_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    with Bar(6, "bench", "steps") as bar:
        data = bench_parts(MODEL, TRAIN, 1, 2, bar)
    assert data["equal_bits"] and data["equal_losses"] and data["ratio"] > 0
    assert data["cpu_ratio"] > 0 and set(data["cpu_tokens_per_second"]) == {
        "one_thread",
        "parts_one_thread",
        "parts",
    }
    gradients = Parts.gradients

    def wrong(self: Parts, *arguments: object) -> object:
        found = gradients(self, *arguments)  # type: ignore[arg-type]
        if self.threads > 1:
            next(self.model.parameters()).grad[0, 0] += 1.0  # type: ignore[index]
        return found

    monkeypatch.setattr(Parts, "gradients", wrong)
    with Bar(6, "bench", "steps") as bar:
        assert not bench_parts(MODEL, TRAIN, 1, 2, bar)["equal_bits"]
