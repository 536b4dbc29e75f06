"""Compositions: which questions are asked, models and their programs, what the shipped ones reach."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.model.memory import compose
from ternac.model.memory.compose_model import Both, make_reader
from ternac.model.memory.parts import Stack
from ternac.model.memory.system import open_system
from ternac.model.net.config import Scales
from ternac.program.loops import loops_of
from ternac.run.numpy_executor import NumpyExecutor

FACTS = (compose.LOOPED, compose.APART, compose.ONCE, compose.LOOSE)


@pytest.mark.parametrize("part", FACTS)
@pytest.mark.parametrize("runs", [1, 2])
def test_a_reader_computes_what_its_program_does(part: str, runs: int) -> None:
    torch.manual_seed(5)
    model = make_reader(part).eval()
    executor = NumpyExecutor(model.to_program("reader", {}))
    asked = np.concatenate([some[:12, :3] for some in compose.questions().values()])
    state = executor.open(len(asked))
    for tokens in asked.T:
        logits = executor.step(state, tokens, loops=runs if model.looped else None)
    with torch.no_grad():
        assert np.array_equal(model(torch.from_numpy(asked), runs).numpy(), logits)


def test_what_two_tokens_say_is_what_the_program_computes() -> None:
    torch.manual_seed(6)
    s = Scales()
    block = Both(16, 24, s)
    model = Stack(compose.MODULUS, 16, [block], s).eval()
    executor = NumpyExecutor(model.to_program("sum", {}))
    tokens = np.random.default_rng(1).integers(0, compose.MODULUS, (30, 4))
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:11]))
        second, _ = model(torch.from_numpy(tokens[11:]), states)
        block.last = True
        last, _ = model(torch.from_numpy(tokens))
    state = executor.open(4)
    expected = np.stack([executor.step(state, row) for row in tokens])
    assert np.array_equal(torch.cat((first, second)).numpy(), expected)
    assert np.array_equal(last[0].numpy(), expected[-1])


def test_all_pairs_are_trained_on_or_held_out_and_the_mirror_of_none_is_elsewhere() -> None:
    known, held = ({frozenset(pair) for pair in some.tolist()} for some in compose.pairs())
    count = compose.MODULUS * (compose.MODULUS + 1) // 2
    assert len(known) == int(compose.TRAINED_PAIRS * count)
    assert len(known | held) == count == len(known) + len(held)


def test_questions_out_of_distribution_are_of_facts_that_no_question_trained_on_composes() -> None:
    groups = compose.questions()
    known = compose.facts()

    def facts_of(question: np.ndarray) -> list[tuple[int, int]]:
        second, first, entity, _ = question.tolist()
        first, second = first - compose.ENTITIES, second - compose.ENTITIES
        return [(entity, first), (int(known[entity, first]), second)]

    composed = {fact for question in groups[compose.TRAINED] for fact in facts_of(question)}
    outside = {fact for question in groups[compose.OUTSIDE] for fact in facts_of(question)}
    assert not composed & outside
    assert all(
        facts_of(q)[0] not in composed and facts_of(q)[1] in composed for q in groups[compose.FIRST][:200]
    )
    asked = {tuple(question[:3]) for question in groups[compose.ATOMS].tolist()}
    assert len(asked) == compose.ENTITIES * compose.RELATIONS
    assert all((compose.NONE, compose.ENTITIES + r, e) in asked for e, r in outside)
    two = np.concatenate([some for group, some in groups.items() if group != compose.ATOMS])
    assert len(two) == len({tuple(q[:3]) for q in two.tolist()}) == compose.ENTITIES * compose.RELATIONS**2
    for question in two[::97]:
        assert question[3] == known[facts_of(question)[1]]


def test_the_shipped_models_reach_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "bench", "compose", "--executors", "native", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    figures = {figure["name"]: figure for figure in run["figures"]}
    assert figures[f"LOOP: {compose.OUTSIDE}"]["bar"] == {"at least": 0.9}
    assert figures[f"two blocks: {compose.OUTSIDE}"]["bar"] == {"at most": 0.2}
    assert figures["sums: held-out pairs"]["bar"] == {"at least": 1.0}


def test_only_the_words_that_are_carried_and_the_plan_go_from_run_to_run() -> None:
    program = open_system("compose").shipped(compose.LOOPED)
    (its_loop,) = loops_of(program.ops)
    assert not its_loop.levels and its_loop.most == 2
    assert not program.memories and not any(program.ops[at].kind == "STORE" for at in its_loop.body)


def test_a_missed_bar_of_a_curve_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    system = open_system("compose")
    programs = {part: system.shipped(part) for part in system.parts}
    found = {part: [] for part in system.parts}

    def figure(curve: list[list[float]]) -> object:
        monkeypatch.setitem(programs[compose.SUM].meta, "curve", curve)
        figures = {each.name: each for each in system.figures(programs, found)}
        return figures["sums: step with all held-out pairs, times that"]

    late, soon, never = ([[step, 0.5 + step, test] for step, test in enumerate(tests)] for tests in (
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0), (0.1, 1.0, 1.0), (0.1, 0.9)
    ))  # fmt: skip
    assert figure(late).met and not figure(soon).met and not figure(never).met
