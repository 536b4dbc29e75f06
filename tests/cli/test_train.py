"""``ternac train`` and ``ternac export`` from the command line."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import SafetensorError

from ternac.cli.main import main
from ternac.model.export import ship
from ternac.model.net.config import PRESETS
from ternac.model.training.data import SHAKESPEARE
from ternac.model.training.run_folder import SHIPPED, TextRecord
from ternac.model.training.train import Trainer
from ternac.program.file import load
from ternac.run.evaluate import evaluate
from ternac.run.numpy_executor import NumpyExecutor
from ternac.text.tokenizer import HuggingFaceTokenizer

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
    assert "program.safetensors; next: ternac run" in spoken


def test_export_takes_the_last_average_of_a_finished_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, out = str(run.parent / "text.txt"), str(tmp_path / "mean")
    flags = f"{SMALL} --steps 6 --batch 4 --window 32 --average 0.5 --json"
    assert main(["train", text, "--out", out, *flags.split(), "--until", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["checkpoint"].endswith("latest.safetensors")
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
        (["train", ""], "the name of a file is empty"),
        (["train", "--out", ""], "the name of a file is empty"),
        (["train", "--lr", "nan"], "train.lr = nan is outside"),
        (["train", "--lr", "-1"], "train.lr = -1.0 is outside"),
        (["train", "--seed", "-1"], "train.seed = -1 is outside"),
        (["train", "--out", __file__], "test_train.py is a file, and a folder is needed"),
        (["train", "--out", "/proc/nowhere/run"], "cannot make the folder /proc/nowhere/run"),
        (["train", "--tokenizer", __file__], "is not a tokenizer"),
        (["export", "--out", "/proc/nowhere/mine"], "/proc/nowhere"),
        (["export", "--out", __file__], "test_train.py is a file"),
        (["export", "--format", "gguf", "--unfinished"], "--unfinished is not for --format gguf"),
        (["train", "--threads", "0"], "--threads is 0"),
        (["export", "nowhere.safetensors"], "no checkpoint at"),
        (["export", "--check", "-1"], "--check is -1"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_a_run_and_what_it_is_exported_to_are_models_for_every_executor(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = tmp_path / "run", tmp_path / "elsewhere" / "run.safetensors"
    for out in (folder, file):
        assert main(["export", str(run), "--out", str(out), "--check", "5"]) == 0
    capsys.readouterr()
    hashes = set()
    for model in (folder, file, run):
        assert main(["verify", str(model), "--executors", "torch,numpy,isa", "--tokens", "4", "--json"]) == 0
        hashes.add(json.loads(capsys.readouterr().out)["program_hash"])
    assert len(hashes) == 1
    file.with_name("run.checkpoint.safetensors").unlink()
    assert main(["verify", str(file), "--executors", "torch,numpy", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "CheckpointError"
    assert "run.checkpoint.safetensors" in error["hint"]


def test_the_held_out_part_of_ones_own_text_belongs_to_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, file = run.parent / "text.txt", tmp_path / "x.safetensors"
    assert main(["export", str(run), "--out", str(file), "--check", "5"]) == 0
    (tmp_path / "held.txt").write_bytes(text.read_bytes()[3600:])
    (tmp_path / "moved.txt").write_bytes(text.read_bytes())
    capsys.readouterr()

    def loss(*words: str) -> dict[str, Any]:
        assert main(["eval", *words, "--json"]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    want = loss(str(run), "--text", str(tmp_path / "held.txt"))
    assert (want["tokens"], want["split"]) == (399, None)
    for words in ([str(run)], [str(file), "--text", str(tmp_path / "moved.txt"), "--split", "val"]):
        found = loss(*words)
        assert found["nats_per_char"] == want["nats_per_char"]
        assert (found["tokens"], found["split"]) == (399, "val")
    assert loss(str(run), "--split", "train")["tokens"] == 3599
    assert loss(str(run), "--limit", "50")["tokens"] == 49
    capsys.readouterr()
    assert main(["eval", str(run), "--text", str(tmp_path / "held.txt"), "--split", "val"]) == 2
    assert "held.txt is not the text of the run, which is text.txt" in capsys.readouterr().err
    (tmp_path / "alone.safetensors").write_bytes(file.read_bytes())
    assert main(["eval", str(tmp_path / "alone.safetensors"), "--text", str(text), "--split", "val"]) == 2
    assert "records which text" in capsys.readouterr().err


def test_a_card_tells_the_truth_about_ones_own_text(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, other = run.parent / "text.txt", tmp_path / "other.txt"
    other.write_bytes(b"Something else. " * 20)
    capsys.readouterr()
    cards = []
    for words in ([], ["--text", str(text)], ["--text", str(other)]):
        out = ["--out", str(tmp_path / "mine"), "--check", "5", "--json"]
        assert main(["export", str(run), *words, *out]) == 0
        data, card = json.loads(capsys.readouterr().out), (tmp_path / "mine" / "card.md").read_text()
        assert f"{data['nats_per_token']:.4f} nats" in card
        cards.append(card)
        assert "`text.txt`, 4,000 bytes: the first 90% for training, the last 10% for validation" in card
        for wrong in ("Shakespeare", "Elizabethan", "Apache"):
            assert wrong not in card
    assert cards[0] == cards[1]
    assert "all 399 predicted tokens of the last 10% of `text.txt`" in cards[0]
    assert "--split val" in cards[0]
    assert "all 319 predicted tokens of the whole of `other.txt`" in cards[2]
    recipe = json.loads((tmp_path / "mine" / "recipe.json").read_text())
    assert recipe["text"].endswith("text.txt, 4,000 bytes")
    assert "--preset smoke --width 16 --inner 16 --layers 1 --steps 6" in recipe["command"]


@pytest.mark.parametrize(
    ("path", "command"),
    [
        ("my text.txt", "ternac eval x --text 'my text.txt' --split val"),
        (SHIPPED, "ternac eval x --split val"),
    ],
)
def test_a_card_names_a_command_that_works(path: str, command: str) -> None:
    about = ship.about_run("x", {}, TextRecord("0" * 64, 0.25, path, 400), None)
    assert about.measure == command
    assert "400 bytes: the first 75% for training, the last 25% for validation" in about.data
    assert ("public domain" in about.data) == (path == SHIPPED)


def test_an_interrupted_run_says_where_it_is_and_the_same_command_goes_on(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, file = tmp_path / "run", tmp_path / "x.safetensors"
    words = ["train", str(run.parent / "text.txt"), "--out", str(out), *SMALL.split()]
    words += "--steps 6 --batch 4 --window 32 --eval-every 3 --json".split()
    step = Trainer.one_step

    def interrupted(self: Trainer) -> float:
        if self.step == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "one_step", interrupted)
    assert main(words) == 130
    said = capsys.readouterr()
    error = json.loads(said.out)["error"]
    assert error["type"] == "Interrupted"
    assert error["message"] == f"saved at step 4 in {out}; repeat the command to continue"
    monkeypatch.undo()

    export = ["export", str(out), "--out", str(file), "--check", "5", "--json"]
    assert main(export) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], "step 4 of 6" in error["message"]) == ("UsageError", True)
    assert "--unfinished" in error["hint"]
    assert not file.exists()
    assert main([*export, "--unfinished"]) == 0
    assert json.loads(capsys.readouterr().out)["unfinished"] is True
    card = ["export", str(out), "--out", str(tmp_path / "card"), "--unfinished"]
    assert main(card) == 0
    assert "The run was not finished**: step 4 of 6" in (tmp_path / "card" / "card.md").read_text()
    capsys.readouterr()

    assert main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["step"], data["finished"], data["program"]) == (6, True, str(out / "program.safetensors"))
    assert (out / "program.safetensors").read_bytes() == (run / "program.safetensors").read_bytes()
    words[words.index("--steps") + 1] = "7"
    assert main(words) == 2
    assert "--extend" in json.loads(capsys.readouterr().out)["error"]["hint"]
    assert main([*words, "--extend"]) == 0
    assert json.loads(capsys.readouterr().out)["extended"] == [{"at_step": 6, "from_steps": 6}]


def test_many_passes_over_a_text_are_warned_of(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = tmp_path / "short.txt"
    short.write_bytes((run.parent / "text.txt").read_bytes()[:200])
    flags = f"{SMALL} --batch 2 --window 32 --steps 80 --until 1 --out {tmp_path / 'run'}"
    assert main(["train", str(short), *flags.split()]) == 0
    said = capsys.readouterr().out
    assert "warning: 40 passes over the text" in said
    assert f"saved at step 1 in {tmp_path / 'run'}; repeat the command without --until to continue" in said
    assert main(["export", str(run), "--out", str(tmp_path / "a.safetensors"), "--check", "2"]) == 0


def test_an_export_that_fails_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    out = tmp_path / "mine"
    monkeypatch.setattr("ternac.model.export.ship.write_text", full)
    assert main(["export", str(run), "--out", str(out), "--check", "5", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], "No space left" in error["message"]) == ("UsageError", True)
    assert str(out) in error["message"]
    assert "make room" in error["hint"]

    def full_disk(tensors: object, path: str, metadata: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("ternac.model.training.checkpoint.save_file", full_disk)
    for name in ("mine", "mine.safetensors"):
        assert main(["export", str(run), "--out", str(tmp_path / name), "--check", "5", "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["message"].startswith(f"cannot write {tmp_path / 'mine'}")
        assert error["message"].endswith(": No space left on device")
        assert "make room" in error["hint"]
    assert list(tmp_path.iterdir()) == []


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
    capsys.readouterr()
    assert main(["eval", str(tmp_path / "run.safetensors"), "--split", "val", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ids = HuggingFaceTokenizer(tokenizer.read_bytes()).encode(text.read_bytes()).ids
    held = ids[int(0.9 * len(ids)) :]
    assert (found["tokens"], found["lossless"]) == (len(held) - 1, True)
    assert found["nats_per_token"] == pytest.approx(
        evaluate(NumpyExecutor(load(program)), held).nats_per_token
    )
    want = len(text.read_bytes()) - len(
        HuggingFaceTokenizer(tokenizer.read_bytes()).decode(ids[: -len(held) + 1])
    )
    assert found["text_bytes"] == want
    text = tmp_path / "latin.txt"
    text.write_bytes("Größe ".encode("latin-1") * 500)
    for words in (
        ["train", str(text), "--tokenizer", str(tokenizer), "--out", str(tmp_path / "new")],
        ["eval", str(program), "--text", str(text)],
        ["export", str(out), "--text", str(text), "--out", str(tmp_path / "new")],
    ):
        assert main([*words, "--json"]) == 2
        error = json.loads(capsys.readouterr().out)["error"]
        assert error["type"] == "UsageError"
        assert error["message"] == f"{text}: the text is not UTF-8: byte 2 is 0xf6"
    assert not (tmp_path / "new").exists()


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


def test_a_model_with_a_memory_is_trained_exported_and_given_other_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, text = tmp_path / "run", tmp_path / "text.txt"
    text.write_bytes(SHAKESPEARE.read_bytes()[:4000])
    flags = f"{SMALL} --steps 4 --batch 4 --window 32 --repeats 0.5 --mask-steps 2 --json"
    words = ["train", str(text), "--out", str(out), "--memory", "heads=2,slots=4,width=6", *flags.split()]
    assert main(words) == 0
    command = json.loads((out / "recipe.json").read_text())["command"]
    for option in ("--memory heads=2,slots=4,width=6 ", "--repeats 0.5 --mask-steps 2 "):
        assert option in command
    program = load(out / "program.safetensors")
    assert [(memory.rows, memory.width) for memory in program.memories.values()] == [(32, 6)]
    large = tmp_path / "large.safetensors"
    capsys.readouterr()
    export = ["export", str(out), "--out", str(large), "--check", "20", "--json"]
    assert main([*export, "--rows", "128", "--rows-seed", "7"]) == 0
    assert json.loads(capsys.readouterr().out)["checked_tokens"] == 20
    resized = load(large)
    assert [memory.rows for memory in resized.memories.values()] == [128]
    assert resized.meta["memory"] == {"rows": 128, "seed": 7}
    assert main(["eval", str(large), "--text", str(text), "--limit", "300", "--executor", "torch"]) == 0
    assert main([*export, "--rows", "128", "--rows-seed", "7", "--even"]) == 0
    even = load(large)
    assert even.meta["memory"] == {"rows": 128, "seed": 7, "even": 3584}
    changed = {name for name in even.consts if not np.array_equal(even.consts[name], resized.consts[name])}
    assert changed == {name for name in even.consts if name.endswith((".Wa1", ".Wa2"))}
    weights, again = tmp_path / "large.checkpoint.safetensors", tmp_path / "again" / "program.safetensors"
    assert main(["export", str(weights), "--out", str(again), "--check", "5"]) == 0  # it has the maps
    assert load(again).hash == even.hash
    assert main([*export, "--even"]) == 0
    assert load(large).meta["memory"] == {"rows": 32, "seed": 1, "even": 3584}
    assert main([*export, "--rows", "128", "--rows-seed", "7", "--even"]) == 0
    assert main(["eval", str(large), "--text", str(text), "--limit", "300", "--executor", "torch"]) == 0
    for more, message in (
        (["--rows", "100"], "a memory of 2 heads cannot have 100 rows"),
        (["--rows-seed", "7"], "--rows-seed chooses maps for --rows"),
    ):
        assert main([*export, *more]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["train", "--memory", "rows=9"], "--memory: rows=9 is not NAME=N"),
        (["train", "--memory", "heads"], "--memory: 'heads' is not NAME=N"),
        (["train", "--memory", "heads=3"], "model.memory.heads = 3 is not a power of two"),
        (["train", "--memory", "after=4"], "model.memory.after = 4, but the model has 3 blocks"),
        (["train", "--repeats", "1"], "train.repeats = 1.0 is outside [0, 1)"),
        (["export", "shakespeare", "--rows", "2048"], "the model has no memory"),
    ],
)
def test_mistakes_about_memories_are_named(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "--out", str(tmp_path / "x")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_preset_with_a_memory_has_no_more_trits_than_the_one_without() -> None:
    hybrid, plain = (PRESETS[name][0] for name in ("hybrid", "shakespeare"))
    assert 0.9 * plain.ternary_weights < hybrid.ternary_weights <= plain.ternary_weights
    assert hybrid.memory is not None
    assert hybrid.memory.rows * hybrid.memory.width == 48 * 1024
