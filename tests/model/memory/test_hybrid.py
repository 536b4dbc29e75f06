"""The language model with a memory: its cases are what ``ternac eval`` measures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ternac.model.memory import hybrid
from ternac.model.memory.system import Found, open_system, run_cases, silent
from ternac.model.net.config import PRESETS, MemoryConfig
from ternac.program.zoo import TEXT, open_program
from ternac.run import evaluate as ev
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.second_reading import second_reading

SMALL = "shakespeare-small"
BYTES = np.frombuffer(TEXT.read_bytes(), np.uint8)


def test_the_loss_of_the_cases_is_that_of_an_evaluation() -> None:
    program, text = open_program(SMALL), BYTES[:1500]
    scale = 2.0**-program.logit_scale_bits
    found = run_cases(NumpyExecutor(program), hybrid.plain(text), silent)
    nats = np.concatenate([hybrid.nats_of(one, scale) for one in found])
    assert len(nats) == 1499
    assert nats.mean() == pytest.approx(ev.evaluate(NumpyExecutor(program), text).nats_per_token, rel=1e-12)


def test_the_gain_of_the_cases_is_that_of_second_readings() -> None:
    program, text, other = open_program(SMALL), BYTES[:3000], BYTES[3000:6000]
    scale = 2.0**-program.logit_scale_bits
    found = run_cases(NumpyExecutor(program), hybrid.readings(text, other, 40, 3), silent)
    gains = np.array([hybrid.gain(one, scale) for one in found])
    expected = second_reading(NumpyExecutor(program), text, other, 40, 3)
    assert gains.mean() == pytest.approx(expected.gain, abs=1e-12)
    assert hybrid.standard_error(gains) == pytest.approx(expected.error, rel=1e-9)


def test_the_large_program_differs_in_its_rows_and_maps_alone() -> None:
    system = open_system("hybrid")
    board, large = (system.shipped(part) for part in system.parts)
    (rows,) = large.memories.values()
    assert 2 * rows.words == 3 << 20
    assert large.meta["memory"] == {"rows": hybrid.LARGE_ROWS, "seed": 1, "even": 65536}
    differ = {name for name in board.consts if not np.array_equal(board.consts[name], large.consts[name])}
    assert {name.rpartition(".")[2] for name in differ} == {"Wa1", "Wa2"}


def test_training_gives_both_parts_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    model, train = PRESETS["hybrid"]
    small = replace(model, d=16, m=16, layers=2, memory=MemoryConfig(heads=8, slots=2, width=4))
    brief = replace(train, steps=2, batch=2, window=16, eval_tokens=40)
    monkeypatch.setitem(PRESETS, "hybrid", (small, brief))
    monkeypatch.setattr(hybrid, "LARGE_ROWS", 128)
    steps: list[int] = []
    system = open_system("hybrid")
    board, large = (
        system.train(part, 9, lambda done, total, note: steps.append(done)) for part in system.parts
    )
    assert steps == [1, 2] and board.meta["seed"] == 9
    assert [rows.rows for program in (board, large) for rows in program.memories.values()] == [32, 128]
    assert all(np.array_equal(board.consts[name], large.consts[name]) for name in ("embed", "head"))


def test_figures_are_of_their_own_cases_and_have_the_bars() -> None:
    """Logits that know everything but one second reading."""
    system, program = open_system("hybrid"), open_program(SMALL)
    text, other = BYTES[:3000], BYTES[3000:6000]
    near = [case for apart in hybrid.NEAR for case in hybrid.readings(text, other, apart, 1)]
    cases = {hybrid.BOARD: [*hybrid.plain(text[:600]), *near], hybrid.LARGE: []}
    far = replace(near[0], groups=[str(apart) for apart in hybrid.FAR] * len(near[0].asked))
    cases[hybrid.LARGE] = [far]
    found = {}
    for part, some in cases.items():
        found[part] = []
        for case in some:
            logits = np.zeros((len(case.answers), 256), np.int32)
            logits[np.arange(len(logits)), case.answers] = 1 << 20
            if case is near[1]:
                logits[len(logits) // 2 :] = 0
            found[part].append(Found(case, logits, ""))
    programs = dict.fromkeys(system.parts, program)
    plain, *gains = system.figures(programs, found)
    assert plain.value == 0 and plain.met and plain.bar == pytest.approx(1.4834)
    assert [figure.bar for figure in gains] == [0.30, 0.10, 0.05]
    assert [round(figure.value, 3) for figure in gains] == [0, -round(float(np.log(256)), 3), 0]
    assert not any(figure.met for figure in gains)
