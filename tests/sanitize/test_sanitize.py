"""The sanitizers find what is planted in a copy of the kernels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ternac.host.native.build import HERE as NATIVE
from tests.sanitize.__main__ import ROOT, run, runtime

STEP = ROOT / "model" / "net" / "step.cpp"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(runtime() is None, reason="gcc with libasan is not installed"),
]


def test_an_array_that_is_too_short_is_found(tmp_path: Path) -> None:
    copy = tmp_path / "native"
    shutil.copytree(NATIVE, copy, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    source = (copy / "sample.c").read_text()
    planted = source.replace("count[TABLES][256], byte", "count[TABLES][255], byte")
    assert planted != source
    (copy / "sample.c").write_text(planted)
    done = run("native", ["tests/host/native/test_executor.py::test_sampler"], tmp_path / "out", native=copy)
    said = done.stdout + done.stderr
    assert done.returncode == 86, said[-3000:]
    assert "sample.c" in said and ("out of bounds" in said or "AddressSanitizer" in said)


def test_a_sum_that_overflows_is_found(tmp_path: Path) -> None:
    source = STEP.read_text()
    planted = source.replace("(u + 0x7fff + ((u >> 16) & 1))", "((int32_t)u + 0x7fffffff)")
    assert planted != source
    (tmp_path / "step.cpp").write_text(planted)
    tests = ["tests/model/net/test_fused.py::test_values_are_equal_and_gradients_agree"]
    done = run("step", tests, tmp_path / "out", step=tmp_path / "step.cpp")
    said = done.stdout + done.stderr
    assert done.returncode == 86, said[-3000:]
    assert "signed integer overflow" in said
