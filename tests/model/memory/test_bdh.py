"""The Dragon Hatchling: its neurons, its program, and its tasks."""

from __future__ import annotations

import json
import random
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ternac.cli.main import main
from ternac.errors import UsageError
from ternac.host.executors import open_executor
from ternac.model.memory import bdh, bdh_model
from ternac.model.memory.bdh_model import LM_GROUPS, LM_RECIPE, LM_SHAPE, Language
from ternac.model.memory.hatchling import Hatchling
from ternac.model.memory.parts import Stack
from ternac.model.memory.system import Case, Found, open_system, run_cases, share_right, silent
from ternac.model.net.config import ModelConfig, Scales
from ternac.model.net.layers import BitLinear
from ternac.model.net.neurons import Neurons
from ternac.model.training.run_folder import FINAL
from ternac.program.loops import loops_of
from ternac.program.zoo import TEXT, ZOO, open_program
from ternac.run.evaluate import evaluate
from ternac.run.numpy_executor import NumpyExecutor

WIDTH, GROUPS, SIZE = 24, 8, 10
VOCAB = 40
SHAKESPEARE_CARD = ZOO / "shakespeare" / "card.md"


def stack(**settings: object) -> Stack:
    torch.manual_seed(3)
    s = Scales()
    return Stack(VOCAB, WIDTH, [Hatchling(WIDTH, GROUPS, SIZE, s, **settings)], s).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "settings",
    [{}, {"leaks": (0, 128, 200)}, {"runs": 3, "written": range(8), "shown": True, "pair_bits": 3}],
    ids=["leaks by a map", "fixed leaks", "pairs, some tokens write"],
)
def test_the_model_computes_what_its_program_does_rows_included(settings: dict, compiled: bool) -> None:
    model = stack(**settings)
    (part,) = model.parts
    part.compiled = compiled
    program = model.to_program("hatchling", {})
    tokens = np.random.default_rng(1).integers(0, VOCAB, (60, 3))
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:25]))  # the state goes on into a second window
        second, ((*_, rows),) = model(torch.from_numpy(tokens[25:]), states)
    for executor in (NumpyExecutor(program), open_executor("native", program)):
        state = executor.open(3)
        expected = np.stack([executor.step(state, row) for row in tokens])
        assert np.array_equal(torch.cat((first, second)).numpy(), expected)
        held = executor.state_dict(state)["0.rows"].reshape(3, part.runs, -1, WIDTH)
        assert np.array_equal(held[:, -1], rows.numpy()) and rows.any()


def test_lists_of_winners_give_the_gradients_of_whole_vectors() -> None:
    torch.manual_seed(1)
    neurons = Neurons(WIDTH, GROUPS, SIZE, (5, 4, 4, 8))
    h, u = (torch.randn(20, 3, WIDTH).mul(32).round().clamp(-128, 127).requires_grad_() for _ in range(2))
    up, ways = torch.randn(20, 3, WIDTH), []
    for compiled in (False, True):
        inputs = [h, u, *neurons.parameters()]
        for each in inputs:
            each.grad = None
        w, x = neurons.winners(h, compiled)
        acc, z = neurons(h, u, w, x, compiled)
        (acc * up).sum().backward()
        ways.append([w.long(), x.float(), acc.detach(), z.float(), *(each.grad for each in inputs)])
    whole, lists = ways
    assert all(torch.equal(a, b) for a, b in zip(whole[:4], lists[:4], strict=True))
    assert all(torch.allclose(a, b, rtol=1e-4, atol=1e-2) for a, b in zip(whole[4:], lists[4:], strict=True))
    assert whole[4].any() and whole[3].any()


def test_gradients_of_the_two_ways_through_a_model_agree() -> None:
    tokens, ways = torch.randint(0, VOCAB, (20, 3), generator=torch.Generator().manual_seed(1)), []
    for compiled in (False, True):
        model = stack(written=range(30))
        (part,) = model.parts
        part.compiled = compiled
        model(tokens)[0].square().mean().backward()
        ways.append([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*ways, strict=True):  # a norm's gradient is a bfloat16 in the compiled way
        assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.99


def test_one_set_of_maps_runs_twice_over_rows_of_their_own() -> None:
    program = stack().to_program("hatchling", {})
    (loop,) = loops_of(program.ops)
    assert loop.levels and loop.times == 2
    assert program.memories["0.rows"].rows == 2 * GROUPS * 16
    assert program.trits == WIDTH * (3 * GROUPS * SIZE + WIDTH + VOCAB)


def test_the_language_model_has_the_trits_of_shakespeare() -> None:
    model = Language(LM_SHAPE, LM_GROUPS, 0.0)
    trits = sum(m.weight.numel() for m in model.modules() if isinstance(m, BitLinear))
    assert trits == ModelConfig().ternary_weights


def test_groups_that_no_shift_can_take_the_mean_of_are_refused() -> None:
    with pytest.raises(UsageError, match="12 groups of neurons"):
        Hatchling(WIDTH, 12, SIZE, Scales())


def test_a_trained_language_model_is_exported_with_the_loss_that_was_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bdh_model, "LM_GROUPS", GROUPS)
    monkeypatch.setattr(bdh_model, "LM_SHAPE", ModelConfig(d=16, m=GROUPS * SIZE, layers=2))
    recipe = {
        "steps": 3,
        "batch": 2,
        "window": 16,
        "eval_tokens": 800,
        "eval_every": 3,
        "checkpoint_every": 3,
    }
    monkeypatch.setattr(bdh_model, "LM_RECIPE", replace(LM_RECIPE, **recipe))
    trainer = bdh_model.language_trainer(5, tmp_path)
    measured = trainer.run(lambda progress: None)
    program = bdh_model.language_program(tmp_path / FINAL)
    loss = evaluate(open_executor("native", program), trainer.val_text[:801])
    assert np.isclose(loss.nats_per_token, measured, rtol=1e-9)
    assert bdh_model.train(bdh.LANGUAGE, 5, silent).hash == program.hash


def test_a_reader_is_trained_and_gets_its_rows_at_export(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bdh_model, "STEPS", 2)
    program = bdh_model.train(bdh.TABLE, 4, silent)
    assert program.memories["0.rows"].rows == 2 * bdh_model.GROUPS << 2 * bdh_model.PAIR_BITS
    assert program.hash == bdh_model.train(bdh.TABLE, 4, silent).hash
    assert program.trits == open_system("bdh").shipped(bdh.TABLE).trits


def test_the_bar_is_the_loss_that_the_card_of_shakespeare_tells() -> None:
    (loss,) = re.findall(r"loss on validation\*\* \| \*\*([0-9.]+) nats", SHAKESPEARE_CARD.read_text())
    assert float(loss) == bdh.SHAKESPEARE_NATS


def test_a_question_changes_no_row_of_a_reader_and_a_value_does() -> None:
    program = stack(written=range(16)).to_program("hatchling", {})
    executor = NumpyExecutor(program)
    state = executor.open(1)
    rows = executor.state_dict(state)["0.rows"]
    for token in (20, 30, 21, 31):
        executor.step(state, [token])
    assert not rows.any()
    executor.step(state, [5])
    assert rows.any()


def test_a_reading_asks_for_every_cell_twice_and_a_quarter_is_new() -> None:
    reading = bdh.Reading.drawn(random.Random(1), rows=12)
    case = reading.case()
    cells = 12 * bdh.COLUMNS
    assert len(case.tokens) == 3 * cells + 2 * cells + 3 * (cells // 4) + 2 * cells
    assert [list(case.groups).count(group) for group in (bdh.AT_ONCE, bdh.NEW, bdh.OTHERS)] == [48, 12, 36]
    for at, answer, group in zip(case.asked.tolist(), case.answers.tolist(), case.groups, strict=True):
        c, r = case.tokens[at - 1 : at + 1] - (bdh.FIRST_COLUMN, bdh.FIRST_ROW)
        assert (reading.new if group == bdh.NEW else reading.table)[c, r] == answer
    assert all(reading.table[cell] != value for cell, value in reading.new.items())


def test_the_language_cases_ask_for_every_character_once() -> None:
    cases = bdh.language_cases()
    text = TEXT.read_bytes()
    wanted = np.frombuffer(text[int(0.9 * len(text)) :], np.uint8)[1:]
    assert np.array_equal(np.concatenate([case.answers for case in cases]), wanted)
    for case in cases[:3]:
        assert np.array_equal(case.tokens[case.asked[:-1] + 1], case.answers[:-1])


def test_nats_are_the_mean_cross_entropy() -> None:
    case = Case(np.arange(3), np.arange(3), np.array([0, 1, 1]), [""] * 3)
    logits = np.array([[256, 0], [0, 0], [512, 0]], np.int32)
    expected = (np.log(1 + np.exp(-1)) + np.log(2) + np.log(1 + np.exp(2))) / 3
    assert np.isclose(bdh.nats([Found(case, logits, "")], 8), expected)


def test_activity_counts_winners_of_all_runs_and_products_that_are_not_zero() -> None:
    program = stack().to_program("hatchling", {})
    tokens = [3, 9, 3, 17]
    active = bdh.Activity.of(program, tokens)
    assert np.allclose(active.won, 1 / SIZE)
    executor = NumpyExecutor(program)
    state, trace = executor.open(1), {}
    for at, token in enumerate(tokens):
        executor.step(state, [token], trace)
        assert active.fired[at] == np.count_nonzero(trace["0.z"]) / (GROUPS * SIZE)


def test_the_shipped_reader_knows_a_table_that_it_is_told_once() -> None:
    program = open_system("bdh").shipped(bdh.TABLE)
    (found,) = run_cases(
        open_executor("native", program), [bdh.Reading.drawn(random.Random(77)).case()], silent
    )
    for group in (bdh.AT_ONCE, bdh.NEW, bdh.OTHERS):
        assert share_right([found], group) >= 0.99


def test_the_shipped_reader_has_one_neuron_in_twenty_active_at_most() -> None:
    program = open_system("bdh").shipped(bdh.TABLE)
    active = bdh.Activity.of(program, bdh.told(bdh.Reading.drawn(random.Random(77), rows=10).table))
    assert active.won.max() <= 0.05 and (active.fired <= active.won).all()
    assert active.fired.min() > 0.0


def test_the_shipped_language_model_is_a_tenth_of_a_nat_behind_shakespeare_at_most() -> None:
    cases, losses = bdh.language_cases()[10:12], []
    for program in (open_system("bdh").shipped(bdh.LANGUAGE), open_program("shakespeare")):
        assert program.trits == ModelConfig().ternary_weights
        found = run_cases(open_executor("native", program), cases, silent)
        losses.append(bdh.nats(found, program.logit_scale_bits))
    assert losses[0] - losses[1] <= 0.10


@pytest.mark.slow
def test_the_shipped_models_reach_their_bars(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["memory", "bench", "bdh", "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert all(figure["met"] for figure in run["figures"]) and run["mismatches"] == 0
