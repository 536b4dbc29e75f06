"""The implementation against the frozen vectors: what was published stays what it was."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.program import import_ops
from ternac.program import numerics as nu
from ternac.program.file import dumps, load
from ternac.program.ops import KINDS
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose

VECTORS = Path(__file__).parents[1] / "vectors"
CASES: list[dict[str, Any]] = [
    case for name in ("ops", "wide") for case in json.loads((VECTORS / f"{name}.json").read_text())
]


def run(c: dict[str, Any]) -> list[int]:
    """The result of one case."""
    match c["op"]:
        case "GATHER":
            return nu.gather(c["row"], c["shift"]).tolist()
        case "REQUANT":
            return nu.requant(np.array(c["x"]), c["shift"], c["dtype"], c["multiplier"]).tolist()
        case "TABLE":
            return nu.table(c["x"], c["table"]).tolist()
        case "MUL":
            return nu.mul(c["a"], c["b"], c["shift"], c["dtype"]).tolist()
        case "ADD":
            return nu.add(c["a"], c["b"], c["dtype"]).tolist()
        case "LERP":
            return nu.lerp(c["h"], c["c"], c["f"]).tolist()
        case "TMATVEC":
            return nu.tmatvec(c["trits"], c["x"]).tolist()
        case "NORM":
            return nu.norm(np.array(c["x"]), c["pre"], c["post"], nu.norm_table(c["mantissa"])).tolist()
        case "GATHER16":
            return c["row"]
        case "RMSNORM":
            return import_ops.rmsnorm(np.array(c["x"]), c["eps"], c["shift"]).tolist()
        case "PEAK":
            return import_ops.peak(np.array(c["x"])).tolist()
        case "SCALE":
            return import_ops.scale(c["x"], c["gain"], c["shift"]).tolist()
        case "MUL16":
            return import_ops.mul16(c["a"], c["b"], c["shift"], c["dtype"]).tolist()
        case "QUANT":
            return import_ops.quant(c["x"], c["m"]).tolist()
        case "RESCALE":
            return import_ops.rescale(c["x"], c["m"], c["multiplier"], c["shift"], c["dtype"]).tolist()
        case "INTERP":
            return import_ops.interp(c["x"], c["curve"]).tolist()
        case "BLEND":
            return import_ops.blend(c["h"], c["c"], c["e"]).tolist()
        case "sample":
            token, rng = choose(np.array(c["logits"]), Sampling(False, c["m"], c["s"], c["top_k"]), c["rng"])
            return [token, rng]
    raise AssertionError(c["op"])


@pytest.mark.parametrize("op", sorted({case["op"] for case in CASES}))
def test_ops(op: str) -> None:
    for case in CASES:
        if case["op"] == op:
            want = [case["token"], case["rng_out"]] if op == "sample" else case["out"]
            assert run(case) == want, case


def test_every_op_has_vectors() -> None:
    kinds = {*KINDS, "sample"} - {"LOAD", "STORE"}
    assert {case["op"] for case in CASES} == kinds


@pytest.mark.parametrize("name", ["lm-small", "lm-odd", "mmfree-token", "mmfree-fixed"])
def test_programs(name: str) -> None:
    path = VECTORS / f"{name}.safetensors"
    record = json.loads((VECTORS / f"{name}.json").read_text())
    program = load(path)
    assert program.hash == record["hash"]
    assert dumps(program) == path.read_bytes()
    executor = NumpyExecutor(program)
    state = executor.open(1)
    for token, logits in zip(record["tokens"], record["logits"], strict=True):
        assert executor.step(state, [token])[0].tolist() == logits
    assert state[0].tolist() == record["state"]
