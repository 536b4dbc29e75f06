"""Needles in a long text: the task, the window of the model, and what the shipped weights find and write."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from ternac.host.executors import open_executor
from ternac.model.memory import fwpkm, fwpkm_model
from ternac.model.memory.fwpkm import DIGITS, FIRST_NAME, IS, KEY, LENGTH, NEEDLES, SETTINGS, TOLD, Setting
from ternac.model.memory.fwpkm_model import Stream, Window, clear
from ternac.model.memory.parts import Stack
from ternac.model.memory.system import Found, open_system, run_cases, silent
from ternac.model.net.config import Scales
from ternac.program.loops import MemoryPart
from ternac.run.executor import memory_view
from ternac.run.numpy_executor import NumpyExecutor

WIDTH = 16


def test_a_document_has_its_needles_where_it_says_and_none_else() -> None:
    tokens, told, begins = fwpkm.document(600, NEEDLES, random.Random(3))
    assert len(tokens) == 600 and begins == sorted(begins)
    assert [tokens[at : at + TOLD] for at in begins] == told
    assert tokens.count(KEY) == tokens.count(IS) == NEEDLES
    assert len({tuple(each[1:3]) for each in told}) == NEEDLES
    assert all(FIRST_NAME <= name < fwpkm.FIRST_WORD for each in told for name in each[1:3])


def test_the_text_around_needles_has_names_and_numbers_but_none_as_long() -> None:
    text = fwpkm.filler(20_000, random.Random(4))
    numbers = np.array(text) < DIGITS
    longest = max(len(run) for run in "".join("d" if digit else " " for digit in numbers).split())
    assert 0.02 < numbers.mean() < 0.08 and longest < LENGTH
    assert sum(FIRST_NAME <= token < fwpkm.FIRST_WORD for token in text) > 500
    assert max(text) == fwpkm.VOCAB - 1 and not {KEY, IS} & set(text)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_case_reads_the_document_first_and_asks_for_digits_that_it_told(passes: int) -> None:
    setting = Setting(1, 400, passes, 8, 16, 0.9)
    case = fwpkm.case(setting, random.Random(5))
    text = case.tokens[:400].tolist()
    assert len(case.tokens) == passes * 400 + NEEDLES * TOLD
    assert case.tokens[: passes * 400].tolist() == text * passes
    assert case.asked.min() >= passes * 400 and len(case.asked) == NEEDLES * LENGTH
    for first in range(0, len(case.asked), LENGTH):
        at = int(case.asked[first])
        question = case.tokens[at - 3 : at + 1].tolist()
        told = next(i for i in range(400) if text[i : i + 4] == question)
        assert question[0] == KEY and question[-1] == IS
        assert text[told + 4 : told + TOLD] == case.answers[first : first + LENGTH].tolist()
        assert case.groups[first] == str(told * fwpkm.DEPTHS // 400)


def test_the_settings_are_those_of_the_bars() -> None:
    assert [(s.documents, s.tokens, s.passes, s.rows // s.tokens, s.bar) for s in SETTINGS.values()] == [
        (500, 4096, 1, 2, 0.95),
        (500, 4096, 2, 1, 0.95),
        (20, 131072, 2, 1, 0.90),
    ]


def test_the_window_computes_what_its_program_does_and_sees_four_tokens() -> None:
    torch.manual_seed(3)
    s = Scales()
    model = Stack(fwpkm.VOCAB, WIDTH, [Window(WIDTH, 3, s)], s).eval()
    program = model.to_program("window", {})
    tokens = np.random.default_rng(1).integers(0, fwpkm.VOCAB, (40, 3))
    tokens[-4:, 1] = tokens[-4:, 0]
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:17]))  # the state goes on into a second window
        second, states = model(torch.from_numpy(tokens[17:]), states)
    executor = NumpyExecutor(program)
    state = executor.open(3)
    expected = np.stack([executor.step(state, row) for row in tokens])
    assert np.array_equal(torch.cat((first, second)).numpy(), expected)
    words = np.concatenate([part.numpy() for part in states[0]], 1)
    assert np.array_equal(state, words)
    assert np.array_equal(expected[-1, 0], expected[-1, 1])
    assert not np.array_equal(expected[-2, 0], expected[-2, 1])


def test_a_stream_asks_for_what_it_told_and_a_cleared_one_begins_at_zero() -> None:
    stream = Stream()
    rng = random.Random(6)
    told: list[list[int]] = []
    for _ in range(5):
        tokens, places = stream.window(256, rng)
        assert len(tokens) == 257 and places
        for first in places[::LENGTH]:
            told.append(tokens[first - 3 : first - 3 + TOLD])
            assert told[-1] in stream.known
    states = [torch.ones(2, 3), ([torch.ones(2, 1)], torch.ones(2, 2))]
    clear(states, [torch.zeros(2, 3), ([torch.zeros(2, 1)], torch.zeros(2, 2))], 1)
    assert [float(part.sum()) for part in (states[0], states[1][0][0], states[1][1])] == [3.0, 1.0, 2.0]


def test_training_gives_all_parts_of_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fwpkm_model, "STEPS", 2)
    monkeypatch.setattr(fwpkm_model, "BATCH", 2)
    system = open_system("fwpkm")
    steps: list[int] = []
    once, twice = (
        system.train(part, 9, lambda done, total, note: steps.append(done)) for part in ("once", "twice")
    )
    assert steps == [1, 2]
    rows = [memory.rows for program in (once, twice) for memory in program.memories.values()]
    assert rows == [SETTINGS["once"].rows, SETTINGS["twice"].rows]
    assert all(np.array_equal(once.consts[name], twice.consts[name]) for name in ("embed", "head", "1.Wv"))
    with pytest.MonkeyPatch.context() as again:
        again.setattr(fwpkm_model, "_kept", {})
        assert system.train("once", 9, silent).hash == once.hash


@pytest.mark.parametrize("part", ["once", "twice"])
def test_the_shipped_models_find_needles_in_documents_of_their_length(part: str) -> None:
    system = open_system("fwpkm")
    program = system.shipped(part)
    (memory,) = program.memories.values()
    assert memory.rows == SETTINGS[part].rows
    found = run_cases(open_executor("native", program), system.cases(part, program)[:24], silent)
    assert np.mean([fwpkm.needles_found(one) for one in found]) >= 0.95


def test_an_answer_is_right_as_the_model_would_say_it() -> None:
    """What is asked with the right digits fed is what the model answers when it is fed its own."""
    program = open_system("fwpkm").shipped("once")
    case = fwpkm.case(Setting(1, 1000, 1, 8, 32, 0.0), random.Random(8))
    executor = open_executor("native", program)
    (found,) = run_cases(executor, [case], silent)
    state = executor.open(1)
    tokens = case.tokens.tolist()
    own: list[int] = []
    for at, token in enumerate(tokens[: int(case.asked[LENGTH - 1]) + 1]):  # to the last digit of the first
        fed = own[-1] if own else token
        logits = executor.step(state, [fed])
        if at >= case.asked[0]:
            own.append(int(logits[0].argmax()))
    assert own == case.answers[:LENGTH].tolist() == found.chosen[:LENGTH].tolist()


def test_words_meet_in_fewer_rows_than_needles() -> None:
    """Training moves vectors, and so what fixed maps make of them: text that nobody asks for shares rows."""
    program = open_system("fwpkm").shipped("once")
    executor = NumpyExecutor(program)
    (name,) = program.memories
    part = MemoryPart(program.memory_slices()[name].start, program.memories[name])

    def rows(tokens: list[int]) -> int:
        state = executor.open(1)
        for token in tokens:
            executor.step(state, [token])
        return int(memory_view(state, part).any(-1).sum())

    rng, names = random.Random(9), set[tuple[int, int]]()
    needles = [token for _ in range(40) for token in fwpkm.needle(rng, names)]
    words = [token for token in fwpkm.filler(600, rng) if token >= fwpkm.FIRST_WORD][: len(needles)]
    assert len(words) == len(needles) and rows(words) < 0.7 * rows(needles)


def test_found_needles_are_whole_and_counted_by_depth() -> None:
    setting = SETTINGS["once"]
    case = fwpkm.case(setting, random.Random(2))
    logits = np.zeros((len(case.answers), fwpkm.VOCAB), np.int32)
    logits[np.arange(len(logits)), case.answers] = 1
    logits[LENGTH] *= -1  # the first digit of the second question
    found = {part: [Found(case, logits, "")] for part in SETTINGS}
    assert fwpkm.needles_found(found["once"][0]).tolist() == [True, False, True, True, True]
    shares = [figure.value for figure in fwpkm.SYSTEM.figures({}, found)]
    assert shares == pytest.approx([0.8, 29 / 30] * 3)
    (panel,) = fwpkm.SYSTEM.curves({}, found)
    across, up = panel.lines[setting.words]
    wrong = int(case.groups[LENGTH])
    assert len(across) == len(set(case.groups))
    assert up[sorted({int(group) for group in case.groups}).index(wrong)] < 1.0
