"""Programs of wide ops as instructions: equal to NumPy, and as long as the closed form says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.wide import Group, Matrix, WideImage, lower
from ternac.errors import UnsupportedOp
from ternac.hdl.wide.machine import WideMachine
from ternac.hdl.wide.schedule import token_schedule
from ternac.program.file import load
from ternac.program.mmfree import Shape
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.run.numpy_executor import NumpyExecutor

VECTORS = Path(__file__).parents[2] / "vectors"


def differs(image: WideImage, tokens: list[int], **settings: int) -> bool:
    """Whether logits or states are not NumPy's after some token."""
    machine, numpy = WideMachine(image, **settings), NumpyExecutor(image.program)  # type: ignore[arg-type]
    state = numpy.open(1)
    for token in tokens:
        logits = numpy.step(state, np.array([token]))
        machine.step(token)
        if not np.array_equal(machine.logits, logits[0]) or not np.array_equal(machine.state(), state[0]):
            return True
    return False


def draw(seed: int, **sizes: int) -> Program:
    return random_mmfree(np.random.default_rng(seed), **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(10))
def test_random_programs_are_exact(seed: int) -> None:
    program = draw(seed)
    tokens = np.random.default_rng(seed).integers(0, program.vocab, 5).tolist()
    assert not differs(lower(program), tokens)


@pytest.mark.parametrize("name", ["mmfree-token", "mmfree-fixed"])
def test_frozen_programs_are_exact(name: str) -> None:
    program = load(VECTORS / f"{name}.safetensors")
    assert not differs(lower(program), [1, 0, 7, 7, 3, 8])


@pytest.mark.parametrize(("strip", "word"), [(1, 4), (5, 8), (16, 16), (1000, 64)])
def test_neither_strips_nor_words_change_a_bit(strip: int, word: int) -> None:
    program = draw(3, d=33, m=50, layers=2, vocab=20)
    image = lower(program, strip, word)
    assert not differs(image, [1, 2, 3], port_bits=32)
    places = [issue.out for each in image.code if isinstance(each, Group) for issue in each.issues]
    assert all(place % word == 0 for place in places if place is not None)


def test_planted_errors_are_found() -> None:
    """One wrong shift, one wrong place, one matrix before its activations."""
    image = lower(draw(5, d=24, m=40, layers=1, vocab=30))
    code = list(image.code)
    kinds = {issue.op: (k, i) for k, each in enumerate(code) if isinstance(each, Group)
             for i, issue in enumerate(each.issues)}  # fmt: skip
    at, place = kinds["BLEND"]
    group = code[at]
    assert isinstance(group, Group)
    blend = group.issues[place]
    for wrong in (replace(blend, shift=14), replace(blend, out=(blend.out or 0) + 1)):
        issues = (*group.issues[:place], wrong, *group.issues[place + 1 :])
        assert differs(replace(image, code=(*code[:at], Group(issues, group.strip), *code[at + 1 :])), [3, 4])
    matrix = next(i for i, each in enumerate(code) if isinstance(each, Matrix))
    early = [*code[: matrix - 1], code[matrix], code[matrix - 1], *code[matrix + 1 :]]
    assert differs(replace(image, code=tuple(early)), [3, 4])


def test_matrices_whose_results_need_most_come_first() -> None:
    """g, whose norm is overlapped with f and i; gate before up."""
    image = lower(draw(1, d=16, m=24, layers=2, vocab=10))
    names = [each.name for each in image.code if isinstance(each, Matrix)]
    assert names[0] == "0.g.w" and set(names[1:3]) == {"0.i.w", "0.f.w"}
    assert names[3:7] == ["0.o.w", "0.gate.w", "0.up.w", "0.down.w"]
    assert len(names) == 15 and names[-1] == "logits.w"


def test_the_closed_form_has_the_cycles_of_the_machine() -> None:
    """Within half a percent: it counts ops that the program lacks, the machine each instruction and beat."""
    program = draw(1, d=512, m=1408, layers=2, vocab=100, per_token=True)
    image = lower(program)
    step = WideMachine(image).step(3)
    closed = token_schedule(Shape("drawn", 512, 2, 1408, 100))
    assert step.beats == closed.beats
    assert step.cycles == pytest.approx(closed.cycles - closed.constant_beats, rel=0.005)
    slower = WideMachine(image, lanes=4).step(3)
    assert slower.waited > step.waited and slower.lanes_busy > 1.9 * step.lanes_busy


def test_curves_take_longer_than_the_phases_of_a_narrow_model() -> None:
    """Two curves are loaded while the last of g, i and f streams; at width 128 that is not long enough."""
    program = draw(1, d=128, m=352, layers=1, vocab=100, per_token=True)
    step = WideMachine(lower(program)).step(3)
    waits = dict(step.waits)
    assert waits["0.o.w"] > 1025 > waits["0.gate.w"]


def test_other_programs_are_refused() -> None:
    program = random_program(np.random.default_rng(1))
    with pytest.raises(UnsupportedOp, match="wide unit"):
        lower(program)
