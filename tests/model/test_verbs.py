"""``ternac train`` and ``ternac export`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.cli import main
from ternac.executor import NumpyExecutor
from ternac.model.data import SHAKESPEARE
from ternac.program import load


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny run, made by the verb."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_bytes(SHAKESPEARE.read_bytes()[:4000])
    flags = (
        "--preset smoke --width 16 --m 16 --layers 1 --steps 6 --batch 4 --window 32 --eval-every 3 --json"
    )
    assert main(["train", str(folder / "text.txt"), "--out", str(folder / "run"), *flags.split()]) == 0
    return folder / "run"


def test_export_to_a_file(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "tiny.safetensors"
    assert main(["export", str(run), "--out", str(out), "--check", "20", "--name", "tiny", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    program = load(out)
    assert (program.name, program.hash, program.trits) == ("tiny", data["hash"], data["ternary_weights"])
    assert data["checked_tokens"] == 20
    executor = NumpyExecutor(program)
    assert executor.step(executor.open(), [65]).shape == (1, 256)


@pytest.mark.slow
def test_export_to_a_folder_is_complete(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "mine"
    assert main(["export", str(run), "--out", str(folder), "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "program.safetensors", "checkpoint.safetensors", "recipe.json", "curve.csv", "curve.png", "card.md",
    }  # fmt: skip
    card = (folder / "card.md").read_text()
    assert data["hash"] in card
    assert f"{data['nats_per_token']:.4f} nats" in card
    first = (folder / "program.safetensors").read_bytes()
    assert main(["export", str(folder), "--json"]) == 0
    assert (folder / "program.safetensors").read_bytes() == first


def test_train_says_what_it_did_and_goes_on(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = str(run.parent / "text.txt")
    flags = "--preset smoke --width 16 --m 16 --layers 1 --steps 6 --batch 4 --window 32 --eval-every 3"
    assert main(["train", text, "--out", str(run), *flags.split()]) == 0
    spoken = capsys.readouterr().out
    assert "going on from step 6 of 6" in spoken
    assert "next: ternac export" in spoken


def test_export_takes_the_last_average_of_a_finished_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = str(run.parent / "text.txt"), str(tmp_path / "mean")
    flags = "--preset smoke --width 16 --m 16 --layers 1 --steps 6 --batch 4 --window 32 --average 0.5 --json"
    assert main(["train", text, "--out", out, *flags.split(), "--until", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"].endswith("best.safetensors")
    assert main(["train", text, "--out", out, *flags.split()]) == 0
    final = json.loads(capsys.readouterr().out)["checkpoint"]
    assert final.endswith("final.safetensors")
    hashes = []
    for source in (out, final):
        flags = f"--out {tmp_path}/one.safetensors --name one --check 4 --json"
        assert main(["export", source, *flags.split()]) == 0
        hashes.append(json.loads(capsys.readouterr().out)["hash"])
    assert hashes[0] == hashes[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "nowhere.txt"], "no such file"),
        (["train", "--steps", "0"], r"train.steps must be at least 1"),
        (["train", "--threads", "0"], "--threads is 0"),
        (["export", "nowhere.safetensors"], "no checkpoint at"),
        (["export", "--check", "-1"], "--check is -1"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err
