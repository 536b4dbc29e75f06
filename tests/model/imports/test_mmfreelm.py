"""Import of MMfreeLM checkpoints that the tests write: exact where it must be, close where it cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ternac.cli import main as cli
from ternac.errors import CheckpointError, UsageError
from ternac.model.imports.mmfreelm_config import Config, parse_config, read_config
from ternac.model.imports.mmfreelm_convert import Converter, Settings
from ternac.model.imports.mmfreelm_reference import FloatModel, bfloat16, block_norm
from ternac.model.imports.mmfreelm_report import CONTEXT, STREAMS, Window, report, run_integer
from ternac.model.imports.source import SafetensorsFolder, check_tensors
from ternac.model.imports.text import Reader, samples
from ternac.program.file import load, save
from ternac.program.program import Program
from ternac.run.evaluate import evaluate
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sequence import SequenceExecutor
from tests.model.imports import mmfreelm_files as files
from tests.model.imports import mmfreelm_train as twin


def no_one(name: str, values: Any) -> None:
    """Looks at nothing."""


def open_model(folder: Path) -> FloatModel:
    config = read_config(folder)
    source = SafetensorsFolder(folder)
    check_tensors(source, config.tensors())
    return FloatModel(config, source)


def convert(model: FloatModel, **settings: Any) -> Program:
    tokens = np.random.default_rng(7).integers(0, model.config.vocab, (4, 40))
    return Converter(model, Settings(**settings)).run("test", tokens, {})


def logits_of(model: FloatModel, tokens: np.ndarray) -> np.ndarray:
    r = model.embed()[tokens]
    for index in range(model.config.layers):
        r = model.layer(index).forward(r, no_one)
    weights, head = model.head()
    return head(block_norm(r, weights, model.config.eps, "n", no_one), "logits", no_one)


def test_float_model_equals_a_second_one_in_torch(tmp_path: Path) -> None:
    """Written twice from the formulas; only a flipped rounding of an activation may differ."""
    torch.manual_seed(0)
    other = twin.Model(43, 21, 3, 37)
    with torch.no_grad():
        for name, values in other.named_parameters():
            if name.endswith("norm.weight"):
                values.copy_(torch.randn(values.shape).exp())
            elif name == "lower_bounds":
                values.normal_()
    folder = files.write(tmp_path / "m", other.tensors(), files.config_json(), dtype=torch.float32)
    tokens = np.random.default_rng(0).integers(0, 43, (3, 11))
    with torch.no_grad():
        want = other(torch.from_numpy(tokens)).numpy()
    got = logits_of(open_model(folder), tokens)
    assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()


def test_trits_are_taken_once_and_kept(tmp_path: Path) -> None:
    folder = files.checkpoint(tmp_path / "m", shards=2)
    model = open_model(folder)
    program = convert(model)
    for name, value in {"0.i.w": "attn.i_proj", "2.o.w": "attn.o_proj", "1.down.w": "mlp.down_proj"}.items():
        tensor = model.source.floats(f"model.layers.{name[0]}.{value}.weight")
        s = 1 / max(float(np.abs(tensor.astype(np.float64)).mean()), 1e-5)
        assert np.array_equal(program.consts[name], np.clip(np.rint(tensor * np.float32(s)), -1, 1))
        assert program.meta["worth"][name[:-2]] == pytest.approx(1 / s, rel=1e-6)
    gate = model.source.trits("model.layers.0.mlp.gate_proj.weight")[0]
    assert np.array_equal(np.concatenate([program.consts["0.gate.w"], program.consts["0.up.w"]]), gate)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"hidden_size": 1, "intermediate_size": 1, "num_hidden_layers": 1, "vocab_size": 2},
        {"hidden_size": 65, "num_hidden_layers": 2, "vocab_size": 300},
        {"use_lower_bound": False, "num_hidden_layers": 1},
        {"hidden_size": 130, "intermediate_size": None, "num_hidden_layers": 1},
    ],
    ids=["odd", "one", "wide", "no bound", "derived inner width"],
)
def test_close_to_the_float_model(tmp_path: Path, change: dict[str, Any]) -> None:
    """Not further from float32 than twice what bfloat16 activations are, in every layer."""
    model = open_model(files.checkpoint(tmp_path / "m", seed=3, **change))
    program = convert(model)
    found = report(model, program, np.random.default_rng(1).integers(0, model.config.vocab, 200))
    assert found["predictions"] == 199
    for row in found["layers"]:
        for point, value in row["integer"].items():
            assert value < 2 * row["bfloat16"][point] + 1e-3, (row["layer"], point)
    nats = found["nats_per_token"]
    assert abs(nats["integer"] - nats["float32"]) < 0.02


def test_no_scale_is_off(tmp_path: Path) -> None:
    """Slope of integer over float values, 1 within 0.3%: rounding averages out, a wrong scale does not."""
    model = open_model(files.checkpoint(tmp_path / "m", seed=3, hidden_size=90, intermediate_size=120))
    program = convert(model)
    tokens = np.random.default_rng(1).integers(0, 43, (8, 30))
    want: dict[str, np.ndarray] = {}
    got: dict[str, np.ndarray] = {}
    r = model.embed()[tokens]
    model.layer(0).forward(r, want.__setitem__)
    executor = SequenceExecutor(program)
    executor.run(executor.open(8), tokens, got.__setitem__)
    points = [name for name in program.meta["units"] if name.startswith("0.")]
    assert len(points) == 9
    for name in points:
        ratio = float(np.vdot(got[name], want[name]) / np.vdot(want[name], want[name]))
        assert ratio / program.meta["units"][name] == pytest.approx(1, abs=3e-3), name


def test_shards_and_number_formats_do_not_matter(tmp_path: Path) -> None:
    data = files.config_json()
    tensors = files.random_tensors(parse_config(data, "test"))
    tensors = {name: values.bfloat16().to(torch.float16).float() for name, values in tensors.items()}
    hashes = set()
    for shards, dtype in ((1, torch.float32), (3, torch.float32), (5, torch.float16)):
        folder = files.write(tmp_path / f"{shards}{dtype}", tensors, data, shards, dtype)
        hashes.add(convert(open_model(folder)).hash)
    assert len(hashes) == 1


def test_scale_per_token_beats_a_fixed_one_where_channels_stand_out(tmp_path: Path) -> None:
    model = open_model(files.checkpoint(tmp_path / "m", seed=1, outliers=0.05))
    ids = np.random.default_rng(1).integers(0, model.config.vocab, 300)
    last = {}
    for kind in ("token", "fixed"):
        program = convert(model, activations=kind)
        assert ("QUANT" in {op.kind for op in program.ops}) == (kind == "token")
        last[kind] = report(model, program, ids)["layers"][-1]["integer"]["r2"]
    assert last["fixed"] > 2 * last["token"]


def test_loss_is_that_of_the_normative_executor(tmp_path: Path) -> None:
    model = open_model(files.checkpoint(tmp_path / "m"))
    program = convert(model)
    ids = np.random.default_rng(1).integers(0, 43, 300)
    found = run_integer(program, program.meta["units"], Window.of(ids), no_one)
    assert found.nats == pytest.approx(
        evaluate(NumpyExecutor(program), ids, STREAMS, CONTEXT).nats_per_token, abs=1e-12
    )


def test_gates_near_one_keep_their_memory(tmp_path: Path) -> None:
    """Lower bounds that leave 0.4% open: what f = 255/256 could not hold."""
    data = files.config_json(num_hidden_layers=2)
    tensors = files.random_tensors(parse_config(data, "test"))
    tensors["model.lower_bounds"] = torch.tensor([[-3.0], [2.5]]).expand(2, 21).contiguous()
    model = open_model(files.write(tmp_path / "m", tensors, data))
    assert model.bounds[0].max() == 0 and model.bounds[1].min() > 0.99
    found = report(model, convert(model), np.random.default_rng(1).integers(0, 43, 2000))
    assert found["layers"][1]["integer"]["h"] < 0.05


def test_bfloat16_rounds_as_torch_does() -> None:
    x = np.random.default_rng(0).normal(size=1000).astype(np.float32) * 1e3
    assert np.array_equal(bfloat16(x), torch.from_numpy(x).bfloat16().float().numpy())


def change(edit: Callable[[dict[str, Any]], Any], **config: Any) -> tuple[Any, dict[str, Any]]:
    return edit, config


def set_value(name: str, value: float) -> Callable[[dict[str, Any]], None]:
    def edit(tensors: dict[str, Any]) -> None:
        tensors[name].view(-1)[0] = value

    return edit


def keep(tensors: dict[str, Any]) -> None:
    """Changes nothing."""


I0 = "model.layers.0.attn.i_proj.weight"
BAD = {
    "missing": change(lambda t: t.pop(I0)), "extra": change(lambda t: t.update(bias=torch.zeros(2))),
    "missing layer": change(keep, num_hidden_layers=4),
    "bound": change(lambda t: t.pop("model.lower_bounds")),
    "shape": change(lambda t: t.update({I0: torch.zeros(21, 22)})),
    "nan": change(set_value(I0, float("nan"))),
    "inf": change(set_value("model.norm.weight", float("inf"))),
    "type": change(lambda t: t.update({I0: torch.zeros(21, 21, dtype=torch.int8)})),
    "model type": change(keep, model_type="llama"), "heads": change(keep, num_heads=2),
    "tied": change(keep, tie_word_embeddings=True), "convolution": change(keep, use_short_conv=True),
    "activation": change(keep, hidden_act="gelu"), "width": change(keep, hidden_size="21"),
    "no width": change(keep, hidden_size=None), "layers": change(keep, num_hidden_layers=0),
    "eps": change(keep, rms_norm_eps=1), "vocabulary": change(keep, vocab_size=1 << 20),
}  # fmt: skip
REASONS = {
    "missing": r"tensors missing: model\.layers\.0\.attn\.i_proj\.weight$",
    "extra": "tensors not part of an MMfreeLM model: bias",
    "missing layer": r"tensors missing: model\.layers\.3.* and 12 more",
    "bound": r"missing: model\.lower_bounds",
    "shape": r"i_proj\.weight is \[21, 22\], the configuration says \[21, 21\]",
    "nan": r"tensor model\.layers\.0\.attn\.i_proj\.weight: 1 of 441 values are not finite",
    "inf": r"tensor model\.norm\.weight: 1 of 21 values are not finite",
    "type": r"i_proj\.weight is I8, needs one of BF16, F16, F32",
    "model type": "model_type is 'llama', not 'hgrn_bit'",
    "heads": "num_heads is 2, the published models have 1",
    "tied": "tie_word_embeddings is True", "convolution": "use_short_conv is True",
    "activation": "hidden_act is 'gelu'", "width": "hidden_size is '21', needs a whole number",
    "no width": "hidden_size is None", "layers": r"num_hidden_layers is 0, needs a whole number in 1\.\.1024",
    "eps": "rms_norm_eps is 1", "vocabulary": "vocab_size is 1048576",
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_checkpoints_are_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    edit, config = BAD[case]
    tensors = files.random_tensors(Config(43, 21, 3, 37))
    edit(tensors)
    kinds = {name for name, values in tensors.items() if values.dtype == torch.int8}
    ready = {name: values if name in kinds else values.bfloat16() for name, values in tensors.items()}
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(files.config_json(**config)))
    from safetensors.torch import save_file

    save_file(ready, folder / "model.safetensors")
    out = tmp_path / "out.safetensors"
    with pytest.raises(CheckpointError, match=REASONS[case]):
        convert(open_model(folder))
    assert cli.main(["import", "mmfreelm", str(folder), "--out", str(out), "--tokens", "0"]) == 2
    assert not out.exists()


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    def refused(reason: str) -> None:
        with pytest.raises(CheckpointError, match=reason):
            open_model(folder)

    folder = tmp_path / "nowhere"
    refused("cannot read .*config.json")
    folder = files.checkpoint(tmp_path / "m", shards=2)
    index = folder / "model.safetensors.index.json"
    good = index.read_text()
    index.write_text("{")
    refused("is not JSON")
    index.write_text(json.dumps({"weight_map": {"x": "../other.safetensors"}}))
    refused("not a plain file name")
    home = json.loads(good)["weight_map"]
    name = next(iter(home))
    index.write_text(json.dumps({"weight_map": {**home, "more": home[name]}}))
    refused("has tensor more in .*, it is in no file")
    index.write_text(good)
    shard = folder / home[name]
    data = shard.read_bytes()
    shard.write_bytes(data[:-10])
    refused("cannot read .*safetensors")
    shard.unlink()
    refused("cannot read .*safetensors")
    index.unlink()
    refused("has neither model.safetensors nor")
    (folder / "config.json").write_text("[1]")
    refused("is not a JSON object")
    (folder / "config.json").write_text("{")
    refused("is not JSON")


def test_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = files.checkpoint(tmp_path / "m", shards=2)
    ids = tmp_path / "ids.npy"
    np.save(ids, np.random.default_rng(0).integers(0, 43, 400))
    out = tmp_path / "p.safetensors"
    words = ["import", "mmfreelm", str(folder), "--out", str(out), "--json", "--calibration", "100"]
    assert cli.main([*words, "--text", str(ids), "--tokens", "200"]) == 0
    found = json.loads(capsys.readouterr().out)
    program = load(out)
    assert found["hash"] == program.hash and found["calibration_tokens"] == 96
    assert found["ternary_weights"] == program.trits == read_config(folder).trits
    assert "tokens 0..99 calibrate, 100..299 are compared" in found["origin"]
    assert found["report"]["predictions"] == 199 and len(found["report"]["layers"]) == 3
    assert cli.main(["verify", str(out), "--executors", "numpy,torch", "--tokens", "20", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mismatches"] == 0
    for extra in (["--headroom", "0.5"], ["--calibration", "1"], ["--tokens", "3"], ["--text", "no.txt"]):
        assert cli.main([*words, *extra]) == 2


def test_texts(tmp_path: Path) -> None:
    text = tmp_path / "t.txt"
    text.write_bytes(b"To be, or not to be, that is the question: whether it is nobler in the mind")
    nothing = Reader.in_folder(tmp_path, 300)
    with pytest.raises(UsageError, match=r"no tokenizer\.json in the checkpoint"):
        samples(text, nothing, 300, 64, 64)
    found = samples(text, Reader.in_folder(tmp_path, 256), 256, 1000, 20)  # shorter than asked for: halved
    assert found.calibration.size <= 37 and len(found.report) == 20
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not a tokenizer"):
        Reader.in_folder(tmp_path, 300)
    for array, reason in (
        (np.array([[1]]), "one row of integers"),
        (np.array([0.5]), "one row of integers"),
        (np.array([43]), r"not in 0\.\.42"),
        (np.arange(20), "has 20 tokens, needs at least 32"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(UsageError, match=reason):
            samples(tmp_path / "a.npy", nothing, 43, 64, 64)
    for damaged in (b"", b"\x93NUMPY", b"no array"):
        (tmp_path / "a.npy").write_bytes(damaged)
        with pytest.raises(UsageError, match=r"cannot read .*a\.npy"):
            samples(tmp_path / "a.npy", nothing, 43, 64, 64)
    assert "random" in samples(None, nothing, 43, 64, 64).origin


def test_tokenizer_goes_into_the_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "t.txt"
    text.write_text("to be or not to be that is the question whether it is nobler in the mind\n" * 12)
    folder = files.checkpoint(tmp_path / "m", vocab_size=60)
    made = ["--out", str(folder / "tokenizer.json"), "--vocab", "60"]
    assert cli.main(["tokenizer", "train", str(text), *made]) == 0
    out = tmp_path / "p.safetensors"
    words = ["import", "mmfreelm", str(folder), "--out", str(out), "--text", str(text), "--json"]
    capsys.readouterr()
    assert cli.main([*words, "--calibration", "64", "--tokens", "100"]) == 0
    assert json.loads(capsys.readouterr().out)["tokenizer"] == "huggingface"
    program = load(out)
    assert program.tokenizer == (folder / "tokenizer.json").read_bytes()
    assert cli.main(["eval", str(out), "--text", str(text), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "m"
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": 20}))
    with pytest.raises(CheckpointError, match="tokens, the model 20"):
        Reader.in_folder(folder, 20)


@pytest.mark.slow
def test_largest_published_width(tmp_path: Path) -> None:
    """One layer as in the 2.7B model: width 2560, inner width 6912, vocabulary 32000; two executors agree."""
    sizes = {"hidden_size": 2560, "intermediate_size": None, "num_hidden_layers": 1, "vocab_size": 32000}
    model = open_model(files.checkpoint(tmp_path / "m", shards=2, **sizes))
    assert model.config.m == 6912
    path = tmp_path / "p.safetensors"
    save(convert(model), path)
    program = load(path)
    assert program.consts["0.down.w"].shape == (2560, 6912) and program.trits == model.config.trits
    one, many = NumpyExecutor(program), SequenceExecutor(program)
    tokens = np.array([[31999, 0, 17]])
    state, other = one.open(1), many.open(1)
    logits = many.run(other, tokens)
    for t in range(3):
        assert np.array_equal(one.step(state, tokens[:, t]), logits[:, t])
    assert np.array_equal(state, other)
