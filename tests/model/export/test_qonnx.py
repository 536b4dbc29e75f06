"""QONNX export: the graph that ONNX Runtime and the qonnx package run is the program, bit for bit."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from ternac.cli.main import main
from ternac.errors import Mismatch, ProgramError
from ternac.model.export import qonnx, qonnx_check
from ternac.program.file import load
from ternac.program.legality import check
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.zoo import open_program

VECTORS = Path(__file__).resolve().parents[2] / "vectors"


def _silent(done: int) -> None:
    """No progress."""


def _agrees(program: Program, tokens: int, by_qonnx: int = 0) -> onnx.ModelProto:
    model = qonnx.to_onnx(program)
    qonnx_check.compare(model, program, qonnx_check.by_onnxruntime(model), tokens, _silent)
    if by_qonnx:
        qonnx_check.compare(model, program, qonnx_check.by_qonnx(model), by_qonnx, _silent)
    return model


@pytest.mark.parametrize("seed", range(4))
def test_random_programs_in_onnxruntime(seed: int) -> None:
    _agrees(random_program(np.random.default_rng(seed), layers=1), 200)


def test_random_program_in_qonnx() -> None:
    _agrees(random_program(np.random.default_rng(7), d=5, m=9, layers=1, vocab=11), 20, by_qonnx=2)


@pytest.mark.parametrize("name", ["lm-odd", "lm-small"])
def test_frozen_programs(name: str) -> None:
    _agrees(load(VECTORS / f"{name}.safetensors"), 100)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shakespeare-small", "shakespeare"])
def test_shipped_models(name: str) -> None:
    _agrees(open_program(name), 500, by_qonnx=2)


def _every_op() -> Program:
    """Every op kind where it may go wrong: wide sums, multipliers, extreme shifts, states in every use."""
    rng = np.random.default_rng(3)
    ops = (
        Op("GATHER", "r", (), {"embed": "E", "shift": 0}),
        Op("NORM", "n", ("r",), {"pre": 0, "post": 0, "table": "rsqrt"}),
        Op("TMATVEC", "acc", ("n",), {"weights": "W"}),
        Op("REQUANT", "wide", ("acc",), {"shift": 31, "dtype": "i16", "multiplier": 2**31 - 1}),
        Op("REQUANT", "narrow", ("acc",), {"shift": 13, "dtype": "i8", "multiplier": 77}),
        Op("REQUANT", "plain", ("acc",), {"shift": 0, "dtype": "i16"}),
        Op("REQUANT", "deep", ("acc",), {"shift": 31, "dtype": "i8"}),
        Op("LOAD", "old", ("delay",)),
        Op("STORE", "delay", ("wide",)),
        Op("LOAD", "now", ("delay",)),
        Op("STORE", "delay", ("plain",)),
        Op("LOAD", "fixed", ("constant",)),
        Op("TABLE", "f", ("narrow",), {"table": "gate"}),
        Op("LERP", "h", ("old", "fixed", "f")),
        Op("STORE", "memory", ("h",)),
        Op("MUL", "product", ("now", "narrow"), {"shift": 0, "dtype": "i16"}),
        Op("MUL", "mean", ("plain", "f"), {"shift": 8, "dtype": "i8"}),
        Op("ADD", "sum", ("product", "mean"), {"dtype": "i16"}),
        Op("ADD", "logits", ("sum", "deep"), {"dtype": "i16"}),
    )
    consts = {
        "E": rng.integers(-128, 128, (7, 70)).astype(np.int8),
        "rsqrt": rng.integers(0, 256, 256).astype(np.uint8),
        "W": rng.integers(-1, 2, (7, 70)).astype(np.int8),
        "gate": rng.integers(0, 256, 256).astype(np.int16),
    }
    states = {"delay": 7, "constant": 7, "memory": 7}
    return Program("every-op", 7, ops, consts, states, "logits", 4, {"note": "all of it"})


def test_every_op_and_extreme_shift() -> None:
    program = _every_op()
    check(program)
    _agrees(program, 400, by_qonnx=4)


def test_names_types_and_metadata_are_those_of_the_program() -> None:
    program = _every_op()
    model = qonnx.to_onnx(program)
    made = {info.name: info for info in (*model.graph.value_info, *model.graph.output)}
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for op in program.ops:
        if op.kind != "STORE":
            assert op.out in made
    for name, values in program.consts.items():
        np.testing.assert_array_equal(constants[name], values)
    assert [value.name for value in model.graph.input] == ["token", *program.states]
    assert [value.name for value in model.graph.output] == ["logits", *(f"{s}/next" for s in program.states)]
    owners = {op.out for op in program.ops}
    for node in model.graph.node:
        assert node.name.split("/")[0] in owners | set(program.states), node.name
        assert node.domain in ("", qonnx.DOMAIN)
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    by_name = {node.name: node for node in model.graph.node}
    assert "REQUANT(acc) shift=13 dtype=i8 multiplier=77" in by_name["narrow/Quant"].doc_string
    kinds = {
        note.tensor_name: note.quant_parameter_tensor_names[0].value
        for note in model.graph.quantization_annotation
    }
    assert kinds["W"] == "TERNARY"
    assert (kinds["n"], kinds["logits"], kinds["delay"], kinds["acc"]) == ("INT8", "INT16", "INT16", "INT15")
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["ternac.program_hash"] == program.hash
    assert properties["ternac.logit_scale"] == "2^-4"
    assert json.loads(properties["ternac.states"]) == dict(program.states)
    assert set(json.loads(properties["ternac.versions"])) == {"ternac", "torch", "brevitas", "onnx"}


@pytest.mark.parametrize(
    ("constant", "fault", "named"),
    [
        ("W", lambda trits: -trits, "acc"),
        ("gate", lambda entries: 255 - entries, "f"),
        ("const/128", lambda offset: offset - 1, "f"),
    ],
)
def test_a_fault_is_found_and_named(constant: str, fault: Callable[[Any], Any], named: str) -> None:
    program = _every_op()
    model = qonnx.to_onnx(program)
    tensor = next(t for t in model.graph.initializer if t.name == constant)
    changed = np.asarray(fault(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(changed, constant))
    with pytest.raises(Mismatch, match=rf"first value to differ: {named}\["):
        qonnx_check.compare(model, program, qonnx_check.by_onnxruntime(model), 400, _silent)


def test_a_program_too_large_for_a_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qonnx, "MAX_BYTES", 1000)
    with pytest.raises(ProgramError, match=r"take 5,968 bytes as float32, a file holds 1,000"):
        qonnx.to_onnx(_every_op())


def test_a_value_named_token_does_not_clash() -> None:
    program = _every_op()
    renamed = dataclasses.replace(program.ops[0], out="token")
    first = dataclasses.replace(program.ops[1], ins=("token",))
    program = dataclasses.replace(program, ops=(renamed, first, *program.ops[2:]))
    assert _agrees(program, 20).graph.input[0].name == "token/input"


def test_the_verb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "odd.onnx"
    source = str(VECTORS / "lm-small.safetensors")
    assert main(["export", source, "--format", "qonnx", "--out", str(out), "--check", "1", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert data["hash"] == load(source).hash
    assert data["checked_tokens"] == {"onnxruntime": 1, "qonnx": 1}
    assert data["bytes"] == out.stat().st_size
    assert len(onnx.load(out).graph.node) == data["nodes"]
    assert [path.name for path in out.parent.iterdir()] == ["odd.onnx"]


def test_nothing_is_written_on_a_mismatch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ternac.model.export.qonnx_graph.Lerp.forward", lambda self, h, c, f: h + c)
    source, out = str(VECTORS / "lm-small.safetensors"), tmp_path / "x.onnx"
    assert main(["export", source, "--format", "qonnx", "--out", str(out)]) == 2
    assert "first value to differ: 0.h[" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["shakespeare-small"], "--format qonnx needs --out FILE"),
        (["shakespeare-small", "--out", "."], "is a folder"),
        (["README.md", "--out", "x.onnx"], "README.md"),
        (["nowhere", "--out", "x.onnx"], "no program file or shipped model 'nowhere'"),
    ],
)
def test_mistakes_are_named(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--format", "qonnx", *words]) == 2
    assert message in capsys.readouterr().err


def test_wide_ops_are_refused() -> None:
    with pytest.raises(ProgramError, match="op 0 GATHER16 'r.e': QONNX export has no ops of imported models"):
        qonnx.to_onnx(random_mmfree(np.random.default_rng(0)))
