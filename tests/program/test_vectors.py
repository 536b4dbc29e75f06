"""The implementation against the frozen vectors: what was published stays what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.program import numerics as nu
from ternac.program.file import dumps, load
from ternac.program.ops import KINDS
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose

VECTORS = Path(__file__).parents[1] / "vectors"
CASES: list[dict[str, Any]] = [
    case for name in ("ops", "wide", "memory") for case in json.loads((VECTORS / f"{name}.json").read_text())
]


def run(case: dict[str, Any]) -> list[int]:
    """Run one case by the declaration of its kind; keys are the names of inputs and attributes there."""
    if case["op"] == "sample":
        sampling = Sampling(False, case["m"], case["s"], case["top_k"])
        return list(choose(np.array(case["logits"]), sampling, case["rng"]))
    kind, given = KINDS[case["op"]], dict(case)
    if "row" in case:
        given["embed"] = np.array([case["row"]])
    if kind.name == "TMATVEC":
        given["weights"] = np.array(case["trits"])
    if kind.name == "NORM":
        given["table"] = nu.norm_table(case["mantissa"])
    for name in kind.memories:
        given[name] = np.array(given[name], {"i8": np.int8, "i16": np.int16}[case.get("dtype", "i8")])
    inputs = [np.array(given[one.name]) if one.name in given else None for one in kind.inputs]
    if kind.reads_token:
        inputs = [np.int64(case.get("token", 0))]
    attrs = {name: given[name] for name in kind.attrs}
    if kind.saturates:
        attrs["dtype"] = kind.dtype if kind.dtype != "dtype" else case["dtype"]
    assert kind.numpy is not None
    result = kind.numpy(*inputs, **attrs)
    return (attrs["memory"] if result is None else result).tolist()


@pytest.mark.parametrize("op", sorted({case["op"] for case in CASES}))
def test_ops(op: str) -> None:
    for case in CASES:
        if case["op"] == op:
            want = [case["token"], case["rng_out"]] if op == "sample" else case["out"]
            assert run(case) == want, case


def test_every_op_has_vectors() -> None:
    kinds = {*KINDS, "sample"} - {"LOAD", "STORE", "LOOP"}
    assert {case["op"] for case in CASES} == kinds


PROGRAMS = [path.stem for path in sorted(VECTORS.glob("*.safetensors"))]


def test_there_are_programs_of_every_family() -> None:
    assert {name.partition("-")[0] for name in PROGRAMS} == {"lm", "mmfree", "memory"}
    used = {op.kind for name in PROGRAMS for op in load(VECTORS / f"{name}.safetensors").ops}
    assert used == {*KINDS}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs(name: str) -> None:
    path = VECTORS / f"{name}.safetensors"
    record = json.loads((VECTORS / f"{name}.json").read_text())
    program = load(path)
    assert program.hash == record["hash"]
    assert dumps(program) == path.read_bytes()
    executor = NumpyExecutor(program)
    state = executor.open(1)
    for token, logits in zip(record["tokens"], record["logits"], strict=True):
        assert executor.step(state, [token], loops=record.get("loops"))[0].tolist() == logits
    assert state[0].tolist() == record["state"]
