"""The tokens that begin and end a text, from the files of a checkpoint or the metadata of a GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gguf import GGUFWriter
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from ternac.cli import main as cli
from ternac.errors import BadProgramFile, CheckpointError
from ternac.host.device import Device
from ternac.model.export.gguf import open_gguf
from ternac.model.imports.special import of_folder, of_gguf
from ternac.program.file import load
from ternac.program.special import SpecialTokens
from ternac.text.tokenizer import encode_prompt, tokenizer_of
from tests.model.imports import mmfreelm_files as files

VOCAB = 43
LETTERS = "abcdefghijklmnopqrstuvwxyz ,.:"


def tokenizer_json(front: str | None = None, behind: str | None = None) -> bytes:
    """Letters and marks; with ``front`` and ``behind`` a post-processor that puts them around a text."""
    vocab = {text: number for number, text in enumerate(("<unk>", "<s>", "</s>", "<|end|>", *LETTERS))}
    made = Tokenizer(models.BPE(vocab=vocab, merges=[], unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens(["<unk>", "<s>", "</s>", "<|end|>"])
    if front or behind:
        around = [(mark, vocab[mark]) for mark in (front, behind) if mark]
        single = " ".join(filter(None, (front, "$A", behind)))
        made.post_processor = processors.TemplateProcessing(single=single, special_tokens=around)
    return bytes(made.to_str().encode())


def write(folder: Path, **contents: Any) -> Path:
    """Write files: ``config={...}`` into config.json and so on; None: no such file."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        if data is not None:
            text = data if isinstance(data, str) else json.dumps(data)
            (folder / f"{name}.json").write_text(text)
    return folder


def found(folder: Path, tokenizer: bytes = b"") -> SpecialTokens:
    return of_folder(folder, VOCAB, tokenizer)


def test_the_configuration_names_them(tmp_path: Path) -> None:
    config = {"bos_token_id": 1, "eos_token_id": 2}
    assert found(write(tmp_path, config=config)) == SpecialTokens(1, (2,))
    several = {"bos_token_id": None, "eos_token_id": [3, 2, 3]}
    assert found(write(tmp_path, config=several)) == SpecialTokens(None, (2, 3))
    assert found(write(tmp_path, config={})) == SpecialTokens()
    assert found(write(tmp_path, config={"eos_token_id": []})) == SpecialTokens()


def test_the_generation_s_configuration_comes_first(tmp_path: Path) -> None:
    config = {"bos_token_id": 1, "eos_token_id": 2}
    folder = write(tmp_path, config=config, generation_config={"eos_token_id": [3, 4]})
    assert found(folder) == SpecialTokens(1, (3, 4))
    assert found(write(folder, generation_config={"bos_token_id": 5})) == SpecialTokens(5, (2,))


def test_the_tokenizer_s_own_come_with_them(tmp_path: Path) -> None:
    """By their text, plain or as an object; the one that begins a text comes first, each may end one."""
    about = {"bos_token": {"content": "<s>"}, "eos_token": "<|end|>", "add_bos_token": True}
    folder = write(tmp_path, config={"bos_token_id": 9, "eos_token_id": 2}, tokenizer_config=about)
    assert found(folder, tokenizer_json()) == SpecialTokens(1, (2, 3), True)
    assert found(folder) == SpecialTokens(9, (2,), True)  # no tokenizer: its marks have no numbers
    added = {"added_tokens_decoder": {"1": {"content": "<s>"}, "7": {"content": "<|end|>"}}}
    assert found(write(folder, tokenizer_config={**about, **added})) == SpecialTokens(1, (2, 7), True)


@pytest.mark.parametrize("says", [None, True, False])
@pytest.mark.parametrize("front", [None, "<s>"])
def test_a_prompt_gets_the_first_where_the_files_say_so(
    tmp_path: Path, says: bool | None, front: str | None
) -> None:
    """add_bos_token decides; where it is not there, what tokenizer.json itself puts in front. Never both."""
    about: dict[str, Any] = {"bos_token": "<s>", **({} if says is None else {"add_bos_token": says})}
    folder = write(tmp_path, config={"bos_token_id": 1, "eos_token_id": 2}, tokenizer_config=about)
    special = found(folder, tokenizer_json(front, "</s>"))
    assert special.add_bos == (bool(front) if says is None else says)
    assert special.bos == 1


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "eos outside": ({"config": {"eos_token_id": 50256}}, r"config.json: eos_token_id is 50256, .* 0\.\.42"),
    "eos negative": ({"config": {"eos_token_id": -1}}, "eos_token_id is -1"),
    "eos in a list": ({"generation_config": {"eos_token_id": [2, 43]}}, "generation_config.json: .* is 43"),
    "eos text": ({"config": {"eos_token_id": "2"}}, "eos_token_id is 2, the model has tokens"),
    "bos true": ({"config": {"bos_token_id": True}}, "bos_token_id is True"),
    "bos list": ({"config": {"bos_token_id": [1]}}, r"bos_token_id is \[1\]"),
    "unknown text": ({"tokenizer_config": {"eos_token": "<eot>"}}, "'<eot>', which is no token of tokenizer"),
    "text a number": ({"tokenizer_config": {"bos_token": 1}}, "bos_token is 1, needs a text"),
    "add_bos of what": ({"tokenizer_config": {"add_bos_token": True}}, "and no file says which"),
    "add_bos a text": ({"tokenizer_config": {"add_bos_token": "yes"}}, "add_bos_token is yes, needs true or"),
    "no JSON": ({"generation_config": "{"}, "generation_config.json is not JSON"),
    "no object": ({"tokenizer_config": "[]"}, "tokenizer_config.json is not a JSON object"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_they_cannot_be_is_refused_by_name(tmp_path: Path, case: str) -> None:
    contents, reason = BAD[case]
    with pytest.raises(CheckpointError, match=reason):
        found(write(tmp_path, **contents), tokenizer_json())


def test_two_tokens_in_front_are_refused(tmp_path: Path) -> None:
    made = Tokenizer.from_str(tokenizer_json().decode())
    around = [("<s>", 1), ("<|end|>", 3)]
    made.post_processor = processors.TemplateProcessing(single="<s> <|end|> $A", special_tokens=around)
    with pytest.raises(CheckpointError, match="puts 2 tokens in front of a text, a program one"):
        found(write(tmp_path, config={}), made.to_str().encode())


def gguf_file(path: Path, fill: Callable[[GGUFWriter], None]) -> Any:
    writer = GGUFWriter(path, "mmfreelm")
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return open_gguf(path)


def test_the_metadata_of_a_gguf_file_names_them(tmp_path: Path) -> None:
    def fill(writer: GGUFWriter) -> None:
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_eot_token_id(4)
        writer.add_add_bos_token(True)

    path = tmp_path / "m.gguf"
    assert of_gguf(gguf_file(path, fill), path, VOCAB, b"") == SpecialTokens(1, (2, 4), True)
    with pytest.raises(CheckpointError, match=r"ggml.eot_token_id is 4, the model has tokens 0\.\.3"):
        of_gguf(open_gguf(path), path, 4, b"")


@pytest.mark.parametrize("value", ["\x01\x02\x03", ["\x01\x02\x03"]])
def test_a_gguf_text_that_is_not_utf_8_is_named(tmp_path: Path, value: Any) -> None:
    def fill(writer: GGUFWriter) -> None:
        name = "tokenizer.ggml.bos_token_id"
        writer.add_array(name, value) if isinstance(value, list) else writer.add_string(name, value)

    path = tmp_path / "m.gguf"
    gguf_file(path, fill)
    path.write_bytes(path.read_bytes().replace(b"\x01\x02\x03", b"\xff\xfe\x80"))
    with pytest.raises(BadProgramFile, match="metadata text tokenizer.ggml.bos_token_id is damaged"):
        of_gguf(open_gguf(path), path, VOCAB, b"")


def test_what_a_gguf_file_leaves_open_its_tokenizer_says(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    reader = gguf_file(path, lambda writer: writer.add_eos_token_id(2))
    assert of_gguf(reader, path, VOCAB, tokenizer_json("<s>")) == SpecialTokens(1, (2,), True)
    write(tmp_path, tokenizer_config={"bos_token": "<s>", "eos_token": "<|end|>", "add_bos_token": False})
    assert of_gguf(reader, path, VOCAB, tokenizer_json("<s>")) == SpecialTokens(1, (2,), False)
    nothing = gguf_file(tmp_path / "n.gguf", lambda writer: None)
    assert of_gguf(nothing, tmp_path / "n.gguf", VOCAB, tokenizer_json()) == SpecialTokens(1, (3,), False)


def imported(folder: Path, out: Path, *more: str) -> int:
    return cli.main(["import", "mmfreelm", str(folder), "--out", str(out), "--tokens", "0", *more, "--json"])


def test_a_checkpoint_with_its_files_becomes_a_program_that_stops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Imported, through GGUF and back, run by the verb: begins with <s> once, ends at one of the list."""
    folder = files.checkpoint(tmp_path / "m")
    (folder / "tokenizer.json").write_bytes(tokenizer_json("<s>"))
    about = {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True, "add_eos_token": False}
    write(folder, tokenizer_config=about)
    plain = tmp_path / "plain.safetensors"
    assert imported(folder, plain) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["special_tokens"] == {"add_bos": True, "bos": 1, "eos": [2]}
    program = load(plain)
    tokenizer = tokenizer_of(program)
    assert encode_prompt(program, tokenizer, "to be", begins=True)[:2] == [1, 23]
    assert encode_prompt(program, tokenizer, "<s>to be", begins=True).count(1) == 1
    with Device.open("numpy", program) as device, device.session() as session:
        whole = list(session.tokens([1, 23, 18], 40, ignore_eos=True, seed=1))
    last = next(i for i in range(1, 40) if whole[i] not in whole[:i])

    out = tmp_path / "ends.safetensors"
    write(folder, generation_config={"eos_token_id": [2, whole[last]]})
    assert imported(folder, out) == 0
    capsys.readouterr()
    ends = load(out)
    assert ends.special == SpecialTokens.of(1, [2, whole[last]], add_bos=True)
    assert ends.hash != program.hash
    gguf, back = tmp_path / "m.gguf", tmp_path / "back.safetensors"
    assert cli.main(["export", str(out), "--format", "gguf", "--out", str(gguf)]) == 0
    assert cli.main(["import", "gguf", str(gguf), "--out", str(back)]) == 0
    assert back.read_bytes() == out.read_bytes()
    capsys.readouterr()
    words = ["run", str(back), "--prompt", "to", "--tokens", "40", "--greedy", "--check", "--json"]
    assert cli.main(words) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["tokens"], data["finish_reason"]) == (whole[: last + 1], "stop")
    assert data["text"] == tokenizer.decode(whole[:last])


def test_a_token_outside_the_vocabulary_is_refused_and_nothing_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = files.checkpoint(tmp_path / "m", eos_token_id=50256)
    assert imported(folder, tmp_path / "p.safetensors") == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["type"] == "CheckpointError" and "eos_token_id is 50256" in error["message"]
    assert not (tmp_path / "p.safetensors").exists()
