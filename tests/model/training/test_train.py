"""Training: learns, survives a kill bit for bit, refuses what is not its own."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from ternac.errors import CheckpointError, TrainingDiverged, UsageError
from ternac.model.net.config import PRESETS, MemoryConfig, ModelConfig, TrainConfig, from_dict, to_dict
from ternac.model.net.layers import dropout_mask
from ternac.model.net.network import TernaryLM
from ternac.model.training import checkpoint as ckpt
from ternac.model.training.data import SHAKESPEARE, read_text
from ternac.model.training.evaluate import nats_per_token
from ternac.model.training.run_folder import BEST, FINAL, LATEST
from ternac.model.training.train import Progress, Trainer, learning_rate, mask_generators

MODEL = ModelConfig(d=16, m=16, layers=2)
TRAIN = TrainConfig(steps=12, batch=4, window=32, eval_every=6, checkpoint_every=3, warmup=2, dropout=0.2)
TEXT = read_text(SHAKESPEARE)[:4000]


def _silent(now: Progress) -> None:
    """No report."""


def _train(out: Path, until: int | None = None, train: TrainConfig = TRAIN) -> Trainer:
    trainer = Trainer(MODEL, train, TEXT, out)
    trainer.run(_silent, until)
    return trainer


def _same(a: Path, b: Path) -> None:
    one, two = ckpt.load(a), ckpt.load(b)
    assert set(one.tensors) == set(two.tensors)
    for name, tensor in one.tensors.items():
        assert torch.equal(tensor, two.tensors[name]), name
    rows = [[{k: v for k, v in row.items() if k != "seconds"} for row in c.info["rows"]] for c in (one, two)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_stop_and_resume_equals_uninterrupted(tmp_path: Path, average: float) -> None:
    train = dataclasses.replace(TRAIN, average=average)
    _train(tmp_path / "whole", train=train)
    for until in (3, 6, 10, None):  # 10 is between two checkpoints of the schedule
        torch.rand(7)  # a resumed run must not depend on what the generator was at before
        _train(tmp_path / "parts", until, train)
    _same(tmp_path / "whole" / LATEST, tmp_path / "parts" / LATEST)
    _same(tmp_path / "whole" / BEST, tmp_path / "parts" / BEST)


@pytest.mark.parametrize("mask_steps", [1, 4])
def test_a_run_with_a_memory_resumes_with_its_rows(tmp_path: Path, mask_steps: int) -> None:
    memory = MemoryConfig(heads=2, slots=4, width=6)
    model = dataclasses.replace(MODEL, memory=memory)
    train = dataclasses.replace(TRAIN, repeats=0.5, mask_steps=mask_steps)
    Trainer(model, train, TEXT, tmp_path / "whole").run(_silent)
    for until in (3, 10, None):
        torch.rand(7)
        trainer = Trainer(model, train, TEXT, tmp_path / "parts")
        trainer.run(_silent, until)
    _same(tmp_path / "whole" / LATEST, tmp_path / "parts" / LATEST)
    assert trainer.state[-1].shape == (4, 32, 6) and bool(trainer.state[-1].any())
    with pytest.raises(CheckpointError, match=r"model\.memory is \{'after': 1, .* here"):
        Trainer(
            dataclasses.replace(model, memory=dataclasses.replace(memory, rate=2)),
            train,
            TEXT,
            tmp_path / "whole",
        )


def test_dropout_masks_are_kept_for_as_many_steps_as_asked() -> None:
    assert mask_generators(TRAIN, 5) == []
    config = dataclasses.replace(TRAIN, mask_steps=4)
    masks = [dropout_mask(4, 16, 0.5, generators=mask_generators(config, step)) for step in range(9)]
    for lane in range(4):
        changes = [step for step in range(1, 9) if not torch.equal(masks[step][lane], masks[step - 1][lane])]
        assert changes == [step for step in range(1, 9) if (step + lane) % 4 == 0]
    assert not torch.equal(masks[0][0], masks[0][1])


def test_an_interrupted_run_is_saved_and_continues(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    _train(tmp_path / "whole")
    for at, number in ((4, signal.SIGINT), (8, signal.SIGTERM)):
        trainer = Trainer(MODEL, TRAIN, TEXT, tmp_path / "parts")

        def interrupt(now: Progress, at: int = at, number: signal.Signals = number) -> None:
            if now.step == at:
                os.kill(os.getpid(), number)

        with pytest.raises(KeyboardInterrupt):
            trainer.run(interrupt)
        assert ckpt.load(tmp_path / "parts" / LATEST).info["step"] == trainer.step == at
    _train(tmp_path / "parts")
    _same(tmp_path / "whole" / LATEST, tmp_path / "parts" / LATEST)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("wrong", "said"),
    [("weight", "weight .* is not finite at step 3"), ("loss", "the loss is nan at step 6")],
)
def test_a_run_that_diverges_ends_and_leaves_the_checkpoint_before(
    tmp_path: Path, wrong: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if wrong == "loss":
        monkeypatch.setattr("ternac.model.training.train.nats_per_token", lambda *_, progress: math.nan)
    else:
        monkeypatch.setattr("ternac.model.training.train.learning_rate", lambda *_: math.inf)
    with pytest.raises(TrainingDiverged, match=said) as caught:
        _train(tmp_path)
    assert str(tmp_path) in caught.value.hint
    assert not (tmp_path / BEST).exists()
    assert (tmp_path / LATEST).exists() == (wrong == "loss")  # of step 3


@pytest.mark.slow
def test_kill_and_resume_equals_uninterrupted(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(TEXT.tobytes())
    flags = (
        "--preset smoke --width 16 --inner 16 --steps 60 --batch 4 --window 32 --eval-every 20 "
        "--checkpoint-every 5 --threads 1"
    )

    def command(out: str) -> list[str]:
        verb = [sys.executable, "-m", "ternac.cli", "train", str(tmp_path / "text.txt")]
        return [*verb, *flags.split(), "--out", str(tmp_path / out)]

    subprocess.run(command("whole"), check=True, capture_output=True, timeout=600)
    victim = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    latest = tmp_path / "killed" / LATEST
    deadline = time.monotonic() + 300
    while not latest.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert 0 < ckpt.load(latest).info["step"] < 60
    subprocess.run(command("killed"), check=True, capture_output=True, timeout=600)
    _same(tmp_path / "whole" / LATEST, latest)


def test_training_learns_and_writes_its_folder(tmp_path: Path) -> None:
    trainer = _train(tmp_path, train=dataclasses.replace(TRAIN, steps=40, dropout=0.0, lr=1e-2))
    losses = [row["val_nats"] for row in trainer.rows if "val_nats" in row]
    assert losses[-1] < losses[0] < 5.6
    assert trainer.best == min(losses)
    rows = list(csv.DictReader((tmp_path / "curve.csv").read_text().splitlines()))
    assert [int(r["step"]) for r in rows if r["val_nats"]] == [6, 12, 18, 24, 30, 36, 40]
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_another_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    _train(tmp_path, until=3)
    with pytest.raises(CheckpointError, match="holds another run"):
        Trainer(MODEL, dataclasses.replace(TRAIN, seed=2), TEXT, tmp_path)
    with pytest.raises(CheckpointError, match="holds another run"):
        Trainer(MODEL, TRAIN, TEXT[:-1], tmp_path)


def test_a_run_is_extended_by_the_schedule_of_its_new_length(tmp_path: Path) -> None:
    longer = dataclasses.replace(TRAIN, steps=15)
    _train(tmp_path)
    with pytest.raises(CheckpointError, match="holds a run of 12 steps, not 15") as caught:
        Trainer(MODEL, longer, TEXT, tmp_path)
    assert "--extend" in caught.value.hint
    with pytest.raises(CheckpointError, match=r"train\.steps is 12 there, 11 here"):
        Trainer(MODEL, dataclasses.replace(TRAIN, steps=11), TEXT, tmp_path, extend=True)
    with pytest.raises(CheckpointError, match=r"train\.seed is 1 there, 2 here"):
        Trainer(MODEL, dataclasses.replace(TRAIN, seed=2), TEXT, tmp_path, extend=True)
    trainer = Trainer(MODEL, longer, TEXT, tmp_path, extend=True)
    trainer.run(_silent, 13)
    assert trainer.optimizer.param_groups[0]["lr"] == learning_rate(longer, 12) > learning_rate(TRAIN, 12)
    trainer = _train(tmp_path, train=longer)  # it is a run of 15 steps by now
    assert [row["step"] for row in trainer.rows if "val_nats" in row] == [6, 12, 15]
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert recipe["extended"] == [{"at_step": 12, "from_steps": 12}]
    assert ckpt.load(tmp_path / LATEST).info["extended"] == recipe["extended"]


def test_an_evaluation_of_some_tokens_is_of_the_first_and_is_recorded(tmp_path: Path) -> None:
    trainer = Trainer(MODEL, dataclasses.replace(TRAIN, steps=6, eval_tokens=99), TEXT, tmp_path)
    seen: list[tuple[int, int]] = []
    trainer.watch = lambda done, total: seen.append((done, total))
    trainer.run(_silent)
    assert seen[-1] == (99, 99)
    model = ckpt.model_of(ckpt.load(tmp_path / BEST))
    assert trainer.best == nats_per_token(model, TEXT[3600:3700])
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    assert (recipe["validation_tokens"], recipe["held_out_tokens"]) == (99, 400)


@pytest.mark.parametrize("error", [SafetensorError("No space left on device"), OSError(28, "No space left")])
def test_a_full_disk_leaves_the_checkpoint_before(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    _train(tmp_path, until=3)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(tensors: object, path: str, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise error

    monkeypatch.setattr("ternac.model.training.checkpoint.save_file", full)
    with pytest.raises(UsageError, match=r"cannot write .*latest\.safetensors: .*No space left"):
        _train(tmp_path, until=5)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    _train(tmp_path, until=3)
    path = tmp_path / LATEST
    data = path.read_bytes()
    for bad in (b"", data[:100], data[:-5], b"\xff" * 64):
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match="cannot read checkpoint"):
            ckpt.load(path)
    with pytest.raises(CheckpointError, match="no checkpoint at"):
        ckpt.load(tmp_path / "nowhere.safetensors")
    ckpt.save(path, ckpt.Checkpoint({"model.embed": torch.zeros(2, 2)}, {"config": to_dict(MODEL, TRAIN)}))
    with pytest.raises(CheckpointError, match="do not fit"):
        ckpt.model_of(ckpt.load(path))


def test_weights_stay_within_reach_and_exponents_hold(tmp_path: Path) -> None:
    trainer = Trainer(MODEL, dataclasses.replace(TRAIN, lr=1.0, warmup=1, steps=5), TEXT, tmp_path)
    trainer.one_step()
    before = [linear.exponent for linear in trainer.linears]
    for _ in range(4):
        trainer.one_step()
    assert [linear.exponent for linear in trainer.linears] == before
    for linear in trainer.linears:
        assert float(linear.weight.detach().abs().max()) <= 1.5 * 2.0**linear.exponent


def test_average_follows_the_weights_and_is_what_is_kept(tmp_path: Path) -> None:
    train = dataclasses.replace(TRAIN, average=0.8, steps=6)
    trainer = Trainer(MODEL, train, TEXT, tmp_path)
    mean = trainer.model.embed.detach().clone()
    for step in range(1, 6):
        trainer.one_step()
        mean.lerp_(trainer.model.embed.detach(), 1.0 - min(0.8, step / (step + 10)))
    raw = trainer.model.embed.detach().clone()
    with trainer.averaged():
        assert torch.equal(trainer.model.embed.detach(), mean)
    assert torch.equal(trainer.model.embed.detach(), raw) and not torch.equal(raw, mean)
    trainer.run(_silent)
    with trainer.averaged():
        final = trainer.model.embed.detach().clone()
    assert torch.equal(ckpt.load(tmp_path / BEST).tensors["model.embed"], final)
    assert torch.equal(ckpt.load(tmp_path / FINAL).tensors["model.embed"], final)
    assert ckpt.load(tmp_path / FINAL).info["kept"] == "last"
    assert torch.equal(ckpt.load(tmp_path / LATEST).tensors["model.embed"], trainer.model.embed)
    with pytest.raises(UsageError, match=r"train\.average = 1\.0 is outside"):
        TrainConfig(average=1.0)


def test_logits_are_sharpened_in_the_training_loss_alone() -> None:
    torch.manual_seed(0)
    model = TernaryLM(MODEL, sharpen=1.25)
    tokens = torch.randint(0, 256, (9, 2))
    with torch.no_grad():
        logits, _ = model(tokens[:-1], model.initial_state(2))
        flat = logits.view(-1, 256) * 2.0**-MODEL.scales.logits
        for mode, factor in ((True, 1.25), (False, 1.0)):
            loss, _ = model.train(mode).loss(tokens[:-1], tokens[1:], model.initial_state(2))
            want = torch.nn.functional.cross_entropy(flat * factor, tokens[1:].flatten())
            assert float(loss) == pytest.approx(float(want), rel=1e-6)
    with pytest.raises(UsageError, match=r"train\.sharpen = 3\.0 is outside"):
        TrainConfig(sharpen=3.0)


def test_a_finished_run_tempers_its_logits_and_a_run_goes_on_without(tmp_path: Path) -> None:
    train = dataclasses.replace(TRAIN, temper=0.8, steps=6, eval_every=3)
    plain = _train(tmp_path / "plain", train=dataclasses.replace(train, temper=1.0))
    _train(tmp_path / "run", until=4, train=train)
    trainer = _train(tmp_path / "run", train=train)
    assert torch.equal(trainer.model.embed, plain.model.embed)  # training knows nothing of it
    assert trainer.model.config.temper == 1.0
    final = ckpt.load(tmp_path / "run" / FINAL)
    assert final.info["config"]["model"]["temper"] == 0.8
    model = ckpt.model_of(final)
    assert (
        nats_per_token(model, trainer.val_text) == trainer.rows[-1]["val_nats"] != plain.rows[-1]["val_nats"]
    )
    tokens = torch.randint(0, 256, (8, 2))
    with torch.no_grad():
        tempered, _ = model(tokens, model.initial_state(2))
        usual, _ = plain.model.eval()(tokens, model.initial_state(2))
    assert float((tempered * usual).sum() / usual.square().sum()) == pytest.approx(0.8, abs=0.02)
    assert Trainer(MODEL, train, TEXT, tmp_path / "run").step == 6
    with pytest.raises(UsageError, match=r"model\.temper = 9 is outside"):
        ModelConfig(temper=9)


def test_learning_rate_warms_up_and_cools_down() -> None:
    config = TrainConfig(steps=100, warmup=10, lr=1.0, lr_final=0.1)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)
    assert all(np.diff(rates[10:]) < 0)


def test_settings_survive_json_and_bad_ones_are_named() -> None:
    for model, train in PRESETS.values():
        assert from_dict(to_dict(model, train)) == (model, train)
    with pytest.raises(UsageError, match=r"unknown setting train\.speed"):
        from_dict({"train": {"speed": 1}})
    with pytest.raises(UsageError, match=r"model\.d = 0 is outside"):
        ModelConfig(d=0)
    for name, value in (
        ("dropout", 1.5),
        ("lr", math.nan),
        ("lr", -1.0),
        ("lr", math.inf),
        ("warmup", -1),
        ("seed", -1),
        ("clip", math.nan),
        ("temper", math.nan),
        ("eval_tokens", -1),
        ("val_fraction", math.nan),
    ):
        with pytest.raises(UsageError, match=rf"train\.{name} = {value} is outside"):
            dataclasses.replace(TRAIN, **{name: value})
    assert PRESETS["shakespeare"][0].ternary_weights == 1_155_072
    assert PRESETS["shakespeare-small"][0].ternary_weights == 301_056
