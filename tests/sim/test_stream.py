"""The streaming matrix-vector unit on the behavioural memory: exact sums, the closed form, the verb."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ternac.cli import main as cli
from ternac.compile.stream_layout import Encoding
from ternac.hdl.stream.matvec import StreamMatVec
from ternac.hdl.stream.schedule import phase_ends
from ternac.program.mmfree import SHAPES, Shape, share
from ternac.sim.cocotb.benches import run_leaf
from ternac.sim.stream import IDEAL, build_stream, make_job, place_activations, run_job

SMALL = Shape("small", d=48, layers=2, m=72, vocab=101)


def _unit(shape: Shape, encoding: Encoding, port_bits: int = 32, **options: Any) -> tuple[StreamMatVec, Path]:
    _, depth = place_activations((*shape.layer, *shape.head), port_bits // 8)
    unit = StreamMatVec(port_bits=port_bits, encoding=encoding, x_depth=depth, chain=2, **options)
    return unit, build_stream(unit)


def test_weights_of_the_published_sizes() -> None:
    """Megabytes a token at 1.6 bits."""
    found = {name: round(shape.trits / 5e6, 1) for name, shape in SHAPES.items()}
    assert found == {"370m": 68.2, "1.3b": 259.7, "2.7b": 523.9}


def test_shares_are_whole_groups_and_enough() -> None:
    shape = SHAPES["370m"]
    for parts in (1, 3, 32):
        ((_, part, columns),) = share(shape.layer, parts, 5)[2]
        assert columns == shape.d and part % 5 == 0
        assert parts * (part - 5) < 2 * shape.m <= parts * part


@pytest.mark.parametrize("encoding", Encoding)
def test_closed_form_is_the_rtl(encoding: Encoding) -> None:
    """On a memory that never waits: every phase ends in the cycle that the formula says."""
    unit, program = _unit(SMALL, encoding)
    block = make_job(SMALL.layer, 4, encoding, 1)
    job = block.repeat(SMALL.layers).then(make_job(SMALL.head, 4, encoding, 2))
    for turnaround, latency in ((64, 40), (1, 3), (500, 120)):
        ideal = IDEAL | {"latency_min": latency, "latency_max": latency}
        found = run_job(program, unit, job, turnaround=turnaround, **ideal)
        assert (found["wrong"], found["fault"]) == (0, 0)
        assert found["phase_done"] == phase_ends(unit, job.phases, turnaround=turnaround, latency=latency)


def test_sums_are_exact_whatever_memory_does() -> None:
    unit, program = _unit(SMALL, Encoding.FIVE)
    job = make_job((*SMALL.layer, *SMALL.head), 4, Encoding.FIVE, 3)
    for seed, gap, stall in ((1, 700, 0), (2, 0, 900), (3, 300, 300)):
        found = run_job(program, unit, job, seed=seed, gap=gap, stall=stall, latency_max=300)
        assert (found["wrong"], found["fault"], found["sums"]) == (0, 0, len(job.sums))
        assert found["beats"] * 4 == job.weights.size


def test_a_wrong_weight_is_found() -> None:
    unit, program = _unit(SMALL, Encoding.FIVE)
    job = make_job(SMALL.layer, 4, Encoding.FIVE, 4)
    weights = job.weights.copy()
    weights[12 * 4 * 2 + 1] ^= 1  # the third row group of the first matrix: rows 10 to 14
    found = run_job(program, unit, replace(job, weights=weights))
    assert found["wrong"] and 10 <= found["first_wrong"] < 15


@pytest.mark.slow
@pytest.mark.parametrize(("port_bits", "encoding"), [(64, "2bit"), (128, "1.6bit"), (512, "1.6bit")])
def test_other_ports_on_the_bus_model(port_bits: int, encoding: str) -> None:
    settings = {"port_bits": port_bits, "encoding": encoding, "chain": 4}
    result = run_leaf("stream", simulator="verilator", seed=5, settings=settings)
    assert result.ok, result.failures()


@pytest.mark.slow
def test_bench_of_370m(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "stream", "--size", "370m", "--layers", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["port_busy"] >= 0.95
    assert found["cycles_per_token"] <= 1.1 * found["bound_cycles_per_token"]
    assert found["closed_form"]["equal"]
    assert found["rows_wrong"] == 0


@pytest.mark.parametrize(("words", "message"), [
    (["--layers", "25"], "needs 1 to 24"),
    (["--ports", "0"], "--ports is 0"),
    (["--turnaround", "0"], "--turnaround is 0"),
    (["--seed", "-1"], "--seed is -1"),
])  # fmt: skip
def test_verb_refuses(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "stream", *words]) == 2
    assert message in capsys.readouterr().err
