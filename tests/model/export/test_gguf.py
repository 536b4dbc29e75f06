"""GGUF: trits and whole programs there and back, what is refused and why."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants
from hypothesis import given
from hypothesis import strategies as st

from ternac.cli import main as cli
from ternac.cli.export import compare_trits
from ternac.errors import BadProgramFile, CheckpointError, Mismatch, TernacError, UsageError
from ternac.model.export.gguf import TYPES, open_gguf, pack, padded, read, text_field, unpack, write
from ternac.model.imports.gguf_source import open_source
from ternac.model.imports.mmfreelm_config import read_config
from ternac.model.imports.mmfreelm_convert import Converter
from ternac.model.imports.mmfreelm_reference import FloatModel
from ternac.model.imports.source import SafetensorsFolder
from ternac.program.file import dumps, load
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from tests.model.imports import mmfreelm_files as files


def some_trits(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    return rng.integers(-1, 2, (rows, columns)).astype(np.int8)


@given(st.integers(0, 2**32 - 1), st.sampled_from(TYPES), st.integers(1, 5), st.integers(1, 600))
def test_trits_come_back(seed: int, kind: str, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    trits, worth = some_trits(rng, rows, columns), float(np.float16(rng.uniform(1e-3, 10)))
    data = pack(trits, worth, kind)
    assert data.shape == (rows, padded(columns) // 256 * {"TQ2_0": 66, "TQ1_0": 54}[kind])
    again, scale = unpack(data, columns, kind, "x")
    assert np.array_equal(again, trits) and scale == worth
    values = quants.dequantize(data, GGMLQuantizationType[kind])  # what any other reader sees
    assert np.array_equal(values[:, :columns], trits * np.float32(worth)) and not values[:, columns:].any()


@pytest.mark.parametrize("kind", TYPES)
def test_matrices_of_zeros_keep_their_scale(kind: str) -> None:
    trits, worth = unpack(pack(np.zeros((2, 300), np.int8), 0.5, kind), 300, kind, "x")
    assert not trits.any() and worth == 0.5


def test_bad_blocks() -> None:
    trits = some_trits(np.random.default_rng(0), 2, 512)
    data = pack(trits, 1.0, "TQ2_0")
    wrong = data.copy()
    wrong[0, 0] = 0xFF
    with pytest.raises(BadProgramFile, match="tensor x: a TQ2_0 code is no trit"):
        unpack(wrong, 512, "TQ2_0", "x")
    wrong = data.copy()
    wrong[1, -2:] = np.array([2.0], np.float16).view(np.uint8)
    with pytest.raises(BadProgramFile, match="2 different block scales"):
        unpack(wrong, 512, "TQ2_0", "x")
    with pytest.raises(BadProgramFile, match="hold more than 500 columns"):
        unpack(data, 500, "TQ2_0", "x")
    for worth in (1e-9, 1e6, float("nan")):
        with pytest.raises(UsageError, match="float16 block scale cannot say that"):
            pack(trits, worth, "TQ2_0")


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("make", [random_program, random_mmfree])
def test_programs_come_back_byte_for_byte(tmp_path: Path, kind: str, make: Any) -> None:
    program: Program = make(np.random.default_rng(3))
    path = tmp_path / "p.gguf"
    write(program, path, kind)
    assert dumps(read(open_gguf(path), path)) == dumps(program)
    reader = gguf.GGUFReader(path)
    names = reader.get_field("ternac.matrices").contents()
    columns = reader.get_field("ternac.matrices.columns").contents()
    roles = program.roles()
    assert set(names) == {name for name, role in roles.items() if role == "trits"}
    assert columns == [program.consts[name].shape[1] for name in names]
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert all((types[name] == kind) == (role == "trits") for name, role in roles.items())


def test_the_comparison_finds_one_wrong_trit() -> None:
    program = random_mmfree(np.random.default_rng(3))
    trits = program.consts["0.i.w"].copy()
    trits[0, 0] = -1 if trits[0, 0] != -1 else 1
    other = dataclasses.replace(program, consts={**program.consts, "0.i.w": trits})
    with pytest.raises(Mismatch, match=r"matrix 0\.i\.w: trit \[0, 0\]"):
        compare_trits(program, other)
    with pytest.raises(Mismatch, match="has the file digest"):
        compare_trits(program, dataclasses.replace(program, name="other"))


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "p.gguf"
    write(random_mmfree(np.random.default_rng(3)), path, "TQ2_0")
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    at = [len(data) - 40, *rng.integers(0, len(data), 40).tolist()]
    unharmed = 0
    for place in at:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        try:
            again = open_gguf(path)
            program = read(again, path)
        except TernacError:
            continue
        unharmed += 1  # padding between tensors, a block's scale or descriptive metadata
        assert program.file_hash == random_mmfree(np.random.default_rng(3)).file_hash
    assert unharmed < len(at) // 2
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BadProgramFile):
        read(open_gguf(path), path)
    path.write_bytes(b"no GGUF")
    with pytest.raises(BadProgramFile, match="not a readable GGUF file"):
        open_gguf(path)
    with pytest.raises(BadProgramFile, match="cannot read"):
        open_gguf(tmp_path / "nowhere.gguf")


def model_file(path: Path, folder: Path, kind: str | None, order: Any = gguf.GGUFEndian.LITTLE) -> Path:
    """Write a checkpoint as a GGUF file: matrices as TQ blocks, as BF16, or with ``kind`` None as float32.

    The package's writer swaps numbers for the other byte order, not the bytes of blocks.
    """
    big = order is gguf.GGUFEndian.BIG
    config, source = read_config(folder), SafetensorsFolder(folder)
    writer = GGUFWriter(path, "mmfreelm", endianess=order)
    for name in source.shapes:
        if kind == "BF16" and name in config.matrices():
            halves = quants.quantize(source.floats(name), GGMLQuantizationType.BF16)
            halves = halves.view(np.uint16).byteswap().view(np.uint8) if big else halves
            writer.add_tensor(name, halves, raw_dtype=GGMLQuantizationType.BF16)
        elif kind and name in config.matrices():
            packed = pack(*source.trits(name), kind)
            if big:  # the float16 scale ends each block
                size = {"TQ2_0": 66, "TQ1_0": 54}[kind]
                for start in range(0, packed.shape[1], size):
                    packed[:, [start + size - 2, start + size - 1]] = packed[
                        :, [start + size - 1, start + size - 2]
                    ]
            writer.add_tensor(name, packed, raw_dtype=GGMLQuantizationType[kind])
        else:
            writer.add_tensor(name, source.floats(name))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", [*TYPES, None])
def test_models_under_their_checkpoint_names(tmp_path: Path, kind: str | None) -> None:
    folder = files.checkpoint(tmp_path / "m")
    path = model_file(tmp_path / "m.gguf", folder, kind)
    tokens = np.random.default_rng(0).integers(0, 43, (2, 20))
    want = Converter(FloatModel(read_config(folder), SafetensorsFolder(folder))).run("x", tokens, {})
    got = Converter(FloatModel(*open_source(open_gguf(path), path))).run("x", tokens, {})
    for name, role in want.roles().items():
        if role == "trits":
            assert np.array_equal(want.consts[name], got.consts[name])
    assert got.meta["worth"] == pytest.approx(want.meta["worth"], rel=1e-3 if kind else 1e-7)
    assert (got.hash == want.hash) == (kind is None)
    out = tmp_path / "p.safetensors"
    assert cli.main(["import", "gguf", str(path), "--out", str(out), "--tokens", "64"]) == 0
    assert load(out).meta["imported"] == "gguf"


@pytest.mark.parametrize("kind", [*TYPES, "BF16", None])
def test_files_of_the_other_byte_order_give_the_same_program(tmp_path: Path, kind: str | None) -> None:
    folder = files.checkpoint(tmp_path / "m")
    tokens = np.random.default_rng(0).integers(0, 43, (2, 20))
    hashes = []
    for order in (gguf.GGUFEndian.LITTLE, gguf.GGUFEndian.BIG):
        path = model_file(tmp_path / f"{order.name}.gguf", folder, kind, order=order)
        source = FloatModel(*open_source(open_gguf(path), path))
        program = Converter(source).run("x", tokens, {})
        assert all(program.consts[name].any() for name, role in program.roles().items() if role == "trits")
        hashes.append(program.hash)
    assert hashes[0] == hashes[1]


def test_types_that_only_bitnet_cpp_knows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "bitnet")
    writer.add_tensor("blk.0.w", np.zeros(8, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    data = bytearray(path.read_bytes())
    at = data.index(b"blk.0.w") + len("blk.0.w") + 4 + 8  # after the number of dimensions and the one of them
    data[at : at + 4] = (36).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadProgramFile, match=r"tensor blk\.0\.w has type 36, I2_S of bitnet\.cpp"):
        open_gguf(path)


def test_a_damaged_text_of_the_metadata_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    write(random_program(np.random.default_rng(3)), path, "TQ2_0")
    data = path.read_bytes()
    at = data.index(b"ternac.header") + len("ternac.header") + 4 + 8 + 5  # behind its type and its length
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(BadProgramFile, match="metadata text ternac.header is damaged"):
        text_field(open_gguf(path), "ternac.header")
    assert cli.main(["import", "gguf", str(path), "--out", str(tmp_path / "p.safetensors")]) == 2


@pytest.mark.parametrize("header", ["[" * 100_000, "[]", '{"__metadata__": {"program": 1}}', "{}", "é"])
def test_a_header_of_garbage_is_refused(tmp_path: Path, header: str) -> None:
    path = tmp_path / "m.gguf"
    writer = GGUFWriter(path, "ternac")
    writer.add_string("ternac.header", header)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(BadProgramFile, match="the program in it is damaged"):
        read(open_gguf(path), path)


@pytest.mark.parametrize(
    ("architecture", "tensor", "reason"),
    [
        ("bitnet", "blk.0.attn_q.weight", "'bitnet' is a transformer: it attends to all earlier tokens"),
        ("llama", "model.layers.0.self_attn.q_proj.weight", "'llama' is a transformer"),
        ("rwkv7", "blk.0.time_mix_w1.weight", "'rwkv7' is not one that can be imported"),
    ],
)
def test_other_architectures_are_refused(
    tmp_path: Path, architecture: str, tensor: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "m.gguf", tmp_path / "p.safetensors"
    writer = GGUFWriter(path, architecture)
    trits = some_trits(np.random.default_rng(0), 4, 256)
    writer.add_tensor(tensor, pack(trits, 1.0, "TQ2_0"), raw_dtype=GGMLQuantizationType.TQ2_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=reason):
        open_source(open_gguf(path), path)
    assert cli.main(["import", "gguf", str(path), "--out", str(out), "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "CheckpointError"
    assert not out.exists()


@pytest.mark.parametrize("kind", ["tq2_0", "tq1_0"])
def test_export_verb(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, back = tmp_path / "m.gguf", tmp_path / "m.safetensors"
    words = [
        "export",
        "shakespeare-small",
        "--format",
        "gguf",
        "--gguf-type",
        kind,
        "--out",
        str(out),
        "--json",
    ]
    assert cli.main(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["type"] == kind.upper() and found["trits_compared"] > 100_000
    assert cli.main(["import", "gguf", str(out), "--out", str(back), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["hash"] == found["hash"] == load(back).hash
    assert cli.main([*words[:-1], str(tmp_path)]) == 2


def test_export_leaves_nothing_behind_on_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def other(reader: Any, path: Path) -> Program:
        program = read(reader, path)
        return dataclasses.replace(program, name="other")

    monkeypatch.setattr("ternac.model.export.gguf.read", other)
    words = ["export", "shakespeare-small", "--format", "gguf", "--out", str(tmp_path / "m.gguf"), "--json"]
    assert cli.main(words) == 2
    assert json.loads(capsys.readouterr().out)["error"]["type"] == "Mismatch"
    assert not list(tmp_path.iterdir())
