"""``ternac train`` and ``ternac export`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ternac.cli.main import main
from ternac.model.training.data import SHAKESPEARE
from ternac.program.file import load
from ternac.run.numpy_executor import NumpyExecutor

SMALL = "--preset smoke --width 16 --inner 16 --layers 1"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished tiny run, made by the verb."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_bytes(SHAKESPEARE.read_bytes()[:4000])
    flags = f"{SMALL} --steps 6 --batch 4 --window 32 --eval-every 3 --json"
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
    flags = f"{SMALL} --steps 6 --batch 4 --window 32 --eval-every 3"
    assert main(["train", text, "--out", str(run), *flags.split()]) == 0
    spoken = capsys.readouterr().out
    assert "resuming at step 6 of 6" in spoken
    assert "next: ternac export" in spoken


def test_export_takes_the_last_average_of_a_finished_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = str(run.parent / "text.txt"), str(tmp_path / "mean")
    flags = f"{SMALL} --steps 6 --batch 4 --window 32 --average 0.5 --json"
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


def test_a_tokenizer_goes_from_training_to_the_program(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of 256 tokens, which could be taken for bytes."""
    text, tokenizer, out = run.parent / "text.txt", tmp_path / "tok.json", tmp_path / "run"
    short = tmp_path / "short.txt"
    short.write_bytes(text.read_bytes()[:200])
    assert main(["tokenizer", "train", str(text), "--vocab", "256", "--out", str(tokenizer)]) == 0
    flags = f"{SMALL} --steps 2 --batch 2 --window 16 --eval-every 2"
    words = ["train", str(text), *flags.split(), "--out", str(out)]
    assert main([*words, "--tokenizer", str(tokenizer)]) == 0
    assert main([*words, "--json"]) == 2  # as bytes it is another run
    capsys.readouterr()
    for source in (out, tmp_path / "shipped"):
        program = tmp_path / f"{source.name}.safetensors"
        words = ["export", str(source), "--name", "x", "--check", "20", "--out", str(program)]
        assert main([*words, "--json"]) == 0
        assert load(program).tokenizer == tokenizer.read_bytes()
        if source == out:
            target = ["--text", str(short), "--name", "x", "--check", "5", "--out", str(tmp_path / "shipped")]
            assert main(["export", str(out), *target]) == 0
            assert (tmp_path / "shipped" / "program.safetensors").read_bytes() == program.read_bytes()


def test_what_a_card_says_comes_from_a_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, about = tmp_path / "val.txt", tmp_path / "about.toml"
    text.write_bytes(SHAKESPEARE.read_bytes()[4000:4300])
    keys = ("text", "command", "validation", "measure", "data", "limits")
    about.write_text("".join(f'{key} = "my {key}"\n' for key in keys))
    words = ["export", str(run), "--text", str(text), "--about", str(about), "--check", "5", "--json"]
    assert main([*words, "--out", str(tmp_path / "mine")]) == 0
    data = json.loads(capsys.readouterr().out)
    assert main([*words, "--out", str(tmp_path / "torch"), "--measure", "torch", "--name", "mine"]) == 0
    by_torch = json.loads(capsys.readouterr().out)
    assert by_torch["nats_per_token"] == pytest.approx(data["nats_per_token"], rel=1e-12)
    assert by_torch["hash"] == data["hash"]
    card = (tmp_path / "mine" / "card.md").read_text()
    for key in ("validation", "measure", "data", "limits"):
        assert f"my {key}" in card
    assert f"{data['nats_per_token']:.4f} nats per character" in card
    recipe = json.loads((tmp_path / "mine" / "recipe.json").read_text())
    assert (recipe["text"], recipe["command"]) == ("my text", "my command")
    about.write_text('text = "only"\n')
    assert main([*words, "--out", str(tmp_path / "other")]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "UsageError"
    assert "does not say what a card needs" in error["message"]
    assert not (tmp_path / "other").exists()
