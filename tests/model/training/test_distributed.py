"""Two local processes train as one does, go on after a kill, and leave the same kind of files."""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from traceback import StackSummary
from typing import Any

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.model.net.config import ModelConfig, TrainConfig
from ternac.model.net.layers import dropout_mask
from ternac.model.training import checkpoint as ckpt
from ternac.model.training import distributed
from ternac.model.training.data import SHAKESPEARE, read_text

ROOT = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("spread_worker.py")
EXACT = {"bf16_backward": False}  # float32 gradients, so that only the order of sums differs


def _port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _torchrun(processes: int, *words: str, restarts: int = 0) -> list[str]:
    flags = f"--nproc-per-node={processes} --max-restarts={restarts}"
    flags += f" --master-addr=127.0.0.1 --master-port={_port()}"
    return [sys.executable, "-m", "torch.distributed.run", *flags.split(), *words]


def _execute(command: list[str]) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=900, check=False, cwd=ROOT
    )


def _train(
    out: Path, processes: int, kind: str = "ddp", restarts: int = 0, **more: Any
) -> dict[int, list[Any]]:
    """Losses by step: (train, validation)."""
    words = [str(WORKER), kind, str(out), json.dumps(more)]
    done = _execute(
        _torchrun(processes, *words, restarts=restarts) if processes else [sys.executable, *words]
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in (out / "losses.jsonl").read_text().splitlines()]
    return {step: losses for step, *losses in rows}


def _close(one: dict[int, list[Any]], two: dict[int, list[Any]], tolerance: float) -> None:
    assert set(one) == set(two)
    for step, losses in one.items():
        assert losses == pytest.approx(two[step], abs=tolerance), step


@pytest.mark.slow
@pytest.mark.parametrize("kind", distributed.KINDS)
def test_two_processes_give_the_losses_of_one(kind: str, tmp_path: Path) -> None:
    one = _train(tmp_path / "one", 0, **EXACT)
    two = _train(tmp_path / "two", 2, kind, **EXACT)
    _close(one, two, 2e-5)
    files = [ckpt.load(tmp_path / run / "best.safetensors").tensors for run in ("one", "two")]
    assert set(files[0]) == set(files[1])
    for name, tensor in files[0].items():
        torch.testing.assert_close(tensor, files[1][name], atol=1e-4, rtol=1e-3)
    assert {p.name for p in (tmp_path / "two").iterdir()} == {
        "best.safetensors", "curve.csv", "curve.png", "recipe.json", "shards", "losses.jsonl",
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("kind", distributed.KINDS)
def test_compiled_kernels_and_averaged_weights(kind: str, tmp_path: Path) -> None:
    """With bfloat16 gradients a weight may fall on the other side of a threshold: close, not equal."""
    more = {"average": 0.9, "steps": 6}
    _close(_train(tmp_path / "one", 0, **more), _train(tmp_path / "two", 2, kind, **more), 0.03)
    assert (tmp_path / "two" / "final.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("kind", distributed.KINDS)
def test_a_killed_worker_is_survived(kind: str, tmp_path: Path) -> None:
    """torchrun starts both again, and they go on from step 6: every loss as without the kill, bit for bit."""
    whole = _train(tmp_path / "whole", 2, kind)
    killed = _train(tmp_path / "killed", 2, kind, restarts=1, die=8)
    assert (tmp_path / "killed" / "died").exists()
    steps = [json.loads(line)[0] for line in (tmp_path / "killed" / "losses.jsonl").read_text().splitlines()]
    assert steps[:9] in ([*range(1, 9), 7], [*range(1, 10)])  # the first process may have seen one step more
    assert steps.count(7) == 2
    assert killed == whole


@pytest.mark.slow
@pytest.mark.parametrize("kind", distributed.KINDS)
def test_a_disk_that_fills_up_leaves_the_checkpoint_before(kind: str, tmp_path: Path) -> None:
    """In every process by a typed error. Room is made, and the run goes on: losses as without."""
    whole = _train(tmp_path / "whole", 2, kind)
    words = [str(WORKER), kind, str(tmp_path / "run"), json.dumps({"full": 8})]
    done = _execute(_torchrun(2, *words))
    assert done.returncode != 0
    assert done.stderr.count("UsageError: cannot write") == 2 and "step-00000009" in done.stderr
    assert [path.name for path in (tmp_path / "run" / "shards").iterdir()] == ["step-00000006"]
    assert _train(tmp_path / "run", 2, kind) == whole


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (RuntimeError("unexpected pos 704 vs 598"), "torch says 'unexpected pos 704 vs 598'"),
    ],
)
def test_why_shards_could_not_be_written(
    cause: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's reason where torch passes it on, else torch's own words; what was written goes."""

    def fail(tensors: Any, checkpoint_id: Path) -> None:
        (checkpoint_id / "part").touch()
        raise CheckpointException("x", {1: (cause, StackSummary())})

    monkeypatch.setattr(distributed, "save_shards", fail)
    for leads in (False, True):
        folder = tmp_path / "step-5"
        folder.mkdir(exist_ok=True)
        with pytest.raises(UsageError, match=f"cannot write .*step-5: {reason}") as caught:
            distributed.write_shards({}, folder, leads=leads)
        assert "make room" in caught.value.hint
        assert folder.exists() != leads


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path) -> None:
    whole = _train(tmp_path / "whole", 2, "fsdp", **EXACT)
    for processes, kind, until in ((2, "fsdp", 3), (1, "ddp", 6), (4, "ddp", 9), (2, "fsdp", None)):
        parts = _train(tmp_path / "parts", processes, kind, until=until, **EXACT)
    _close(whole, parts, 2e-5)


@pytest.mark.slow
def test_the_verb_under_torchrun_prints_one_object(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes(SHAKESPEARE.read_bytes()[:4000])
    flags = "--preset smoke --width 16 --inner 16 --layers 1 --steps 4 --batch 4 --window 32 --json"
    words = ["train", str(tmp_path / "t.txt"), "--out", str(tmp_path / "run"), *flags.split()]
    done = _execute(_torchrun(2, "-m", "ternac.cli", *words, "--spread", "fsdp"))
    assert done.returncode == 0, done.stderr[-3000:]
    data = json.loads(done.stdout)
    assert (data["step"], data["processes"]) == (4, 2)
    assert (
        main(["export", str(tmp_path / "run"), "--check", "5", "--out", str(tmp_path / "p.safetensors")]) == 0
    )


def test_dropout_masks_are_those_of_the_whole_batch() -> None:
    torch.manual_seed(0)
    whole = dropout_mask(6, 8, 0.5)
    for number in range(3):
        torch.manual_seed(0)
        assert torch.equal(dropout_mask(2, 8, 0.5, (number, 3)), whole[2 * number : 2 * number + 2])


def test_a_batch_that_cannot_be_dealt_out_is_refused(tmp_path: Path) -> None:
    group = distributed.Group(0, 3, "ddp", "cpu", None)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a batch of 8 streams cannot be dealt out evenly to 3"):
        distributed.DistributedTrainer(
            ModelConfig(d=8, m=8), TrainConfig(batch=8), read_text(SHAKESPEARE), tmp_path, group
        )


def test_only_complete_checkpoints_count(tmp_path: Path) -> None:
    assert distributed.newest(tmp_path) is None
    for step, complete in ((3, True), (20, True), (30, False)):
        folder = tmp_path / "shards" / f"step-{step:08d}"
        folder.mkdir(parents=True)
        if complete:
            (folder / ".metadata").touch()
    found = distributed.newest(tmp_path)
    assert found is not None
    assert found.name == "step-00000020"


def test_a_run_of_several_is_not_begun_anew_by_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shards" / "step-3").mkdir(parents=True)
    (tmp_path / "shards" / "step-3" / ".metadata").touch()
    assert main(["train", "--out", str(tmp_path)]) == 2
    assert "holds a run of several processes" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--out", str(tmp_path), "--device", "gpu"]) == 2
    assert "torch finds no GPU here" in capsys.readouterr().err
