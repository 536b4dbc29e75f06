"""``ternac bench program``, small: its answer, the time by op kind, and the peer of equal trits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ternac.cli.bench import program as bench_program
from ternac.cli.main import main
from ternac.errors import Mismatch, UsageError
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import best_isa
from ternac.host.native.llama import Llama, find_llama
from ternac.host.native.measure import imported_program, random_weights
from ternac.host.native.program_bench import Setting, Subject, best_of, by_kind
from ternac.model.export.llama import write_llama
from ternac.program.file import save
from ternac.program.mmfree import SHAPES, Shape
from ternac.program.program import Program
from ternac.program.random import random_mmfree
from ternac.run.numpy_executor import NumpyExecutor
from tests.host.native.native_here import needs_native

pytestmark = needs_native
SMALL = Shape("370m", 256, 1, 512, vocab=300)
FEW = ["--rounds", "1", "--prompt", "5", "--sessions", "2", "--json"]


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """What ``ternac bench program`` prints with ``--json``."""
    assert main(["bench", "program", *words, *FEW]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_time_by_op_kind_of_a_published_size(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_program, "SHAPES", {"370m": SMALL})
    data = answer(capsys, "--size", "370m")
    assert data["trits"] == SMALL.trits
    kinds = {row["kind"]: row for row in data["ops"]}
    assert {"TMATVEC", "RMSNORM", "SCALE", "PEAK", "QUANT", "RESCALE", "INTERP", "MUL16", "BLEND"} <= set(
        kinds
    )
    assert kinds["TMATVEC"]["ops"] == 8
    for column in ("share", "prompt_share"):
        assert sum(row[column] for row in data["ops"]) == pytest.approx(1, abs=0.01)
    assert data["ratios"]["token to its products"] > 0
    assert data["origin"].startswith("measured on this host")
    for name in ("llama.cpp token", "ggml products"):
        assert (name in data["tokens_per_second"]) != (name in data["why_null"])


def test_a_program_from_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = random_mmfree(np.random.default_rng(1), d=24, m=40, layers=2, vocab=67)
    save(program, tmp_path / "small.safetensors")
    data = answer(capsys, str(tmp_path / "small.safetensors"), "--threads", "2")
    assert data["threads"] == 2
    assert "of no published size" in data["why_null"]["llama.cpp token"]
    assert data["ratios"]["token to llama.cpp TQ2_0"] is None
    assert "wall clock, 2 threads" in data["origin"]


def test_a_model_or_a_size_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["shakespeare", "--size", "370m"]):
        assert main(["bench", "program", *words, "--json"]) == 2
        assert "one of MODEL and --size" in json.loads(capsys.readouterr().out)["error"]["message"]


def test_shares_are_of_the_ops_of_a_kind() -> None:
    """Best of the rounds for each op, slowest kind first, waiting is no op."""
    rounds = [
        {"TMATVEC": np.array([900, 100]), "SCALE": np.array([3000]), "waiting": np.array([0])},
        {"TMATVEC": np.array([100, 900]), "SCALE": np.array([1800]), "waiting": np.array([0])},
    ]
    one = best_of(rounds)
    scale, products, waiting = by_kind(one, one, 2)
    assert (scale["kind"], scale["us"], scale["share"], scale["prompt_us"]) == ("SCALE", 1.8, 0.9, 0.9)
    assert (products["ops"], products["us"], products["prompt_share"]) == (2, 0.2, 0.1)
    assert waiting["ops"] == 0


def test_the_random_program_of_a_size_is_a_real_one() -> None:
    """The program with its packed weights unpacked gives the same logits on NumPy."""
    program = imported_program(SMALL)
    weights = random_weights(program, best_isa(), "2")
    native = NativeExecutor(program, weights=weights)
    consts = {name: weights.get(name) if name in weights.shapes else a for name, a in program.consts.items()}
    whole = Program(program.name, program.vocab, program.ops, consts, program.states, program.logits, 4)
    numpy = NumpyExecutor(whole)
    states = numpy.open(2), native.open(2)
    for tokens in ([0, 299], [7, 8], [7, 9]):
        logits = numpy.step(states[0], tokens)
        assert np.array_equal(logits, native.step(states[1], tokens))
        assert len(np.unique(logits)) > 20  # neither all saturated nor all zero


def test_a_prompt_that_differs_stops_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    program = random_mmfree(np.random.default_rng(1), d=24, m=40, layers=1, vocab=67)
    executor = NativeExecutor(program)
    whole = executor.feed

    def wrong(state: Any, tokens: Any, *rest: Any, **more: Any) -> Any:
        found = whole(state, tokens, *rest, **more)
        return found + (len(tokens) > 1)

    monkeypatch.setattr(executor, "feed", wrong)
    with pytest.raises(Mismatch, match="differs from token by token"):
        Subject(executor, Setting(prompt=5, sessions=2))


def test_the_peer_reads_as_many_trits(tmp_path: Path) -> None:
    quants = pytest.importorskip("gguf").quants
    from gguf import GGUFReader

    assert write_llama(SMALL, tmp_path / "llama.gguf") == SMALL.trits
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "llama.gguf").tensors}
    gate = quants.dequantize(
        tensors["blk.0.ffn_gate.weight"].data, tensors["blk.0.ffn_gate.weight"].tensor_type
    )
    assert gate.shape == (SMALL.m, SMALL.d)
    values = np.unique(gate)
    assert len(values) == 3
    assert values[0] == -values[2]
    for shape in SHAPES.values():
        assert shape.trits == shape.layers * (4 * shape.d**2 + 3 * shape.d * shape.m) + shape.vocab * shape.d
    with pytest.raises(UsageError, match="256 weights"):
        write_llama(Shape("odd", 200, 1, 512), tmp_path / "odd.gguf")


@pytest.mark.skipif(bool(find_llama()), reason=find_llama())
def test_llama_runs_the_peer(tmp_path: Path) -> None:
    write_llama(SMALL, tmp_path / "llama.gguf")
    model = Llama(tmp_path / "llama.gguf", 1)
    model.prompt(7)
    model.token()
    model.close()
    (tmp_path / "bad.gguf").write_bytes(b"GGUF")
    with pytest.raises(UsageError, match="refuses bad.gguf"):
        Llama(tmp_path / "bad.gguf", 1)
