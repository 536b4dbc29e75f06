"""Small models of parts: what is trained is what the program computes, rows included."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ternac.model.memory.cache_model import TokenRows
from ternac.model.memory.parts import Gated, Part, Recurrence, Remember, Stack
from ternac.model.net.config import MemoryConfig, Scales
from ternac.program.loops import MemoryPart
from ternac.program.program import Program
from ternac.run.executor import memory_view
from ternac.run.numpy_executor import NumpyExecutor

S = Scales()
WIDTH, VOCAB = 16, 40


def parts(name: str) -> list[Part]:
    made = {
        "recurrence": lambda: Recurrence(WIDTH, S),
        "gated": lambda: Gated(WIDTH, 24, S),
        "remember": lambda: Remember(MemoryConfig(heads=4, slots=4, width=6), WIDTH, S),
        "tokens": lambda: TokenRows(WIDTH, S),
    }
    return [Recurrence(WIDTH, S), made[name](), Gated(WIDTH, 24, S)]


def logits_of(program: Program, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Logits [T, B, V] and states of the integer program."""
    executor = NumpyExecutor(program)
    state = executor.open(tokens.shape[1])
    return np.stack([executor.step(state, row) for row in tokens]), state


@pytest.mark.parametrize("name", ["recurrence", "gated", "remember", "tokens"])
def test_a_stack_computes_what_its_program_does(name: str) -> None:
    torch.manual_seed(3)
    model = Stack(VOCAB, WIDTH, parts(name), S).eval()
    program = model.to_program("stack", {})
    tokens = np.random.default_rng(1).integers(0, VOCAB, (60, 3))
    with torch.no_grad():
        first, states = model(torch.from_numpy(tokens[:25]))  # the state goes on into a second window
        second, _ = model(torch.from_numpy(tokens[25:]), states)
    expected, _ = logits_of(program, tokens)
    assert np.array_equal(torch.cat((first, second)).numpy(), expected)


def test_the_rows_of_a_stack_are_those_of_its_program() -> None:
    torch.manual_seed(4)
    model = Stack(VOCAB, WIDTH, parts("tokens"), S).eval()
    program = model.to_program("stack", {})
    tokens = np.random.default_rng(2).integers(0, VOCAB, (50, 2))
    with torch.no_grad():
        _, states = model(torch.from_numpy(tokens))
    _, state = logits_of(program, tokens)
    (name,) = program.memories
    part = MemoryPart(program.memory_slices()[name].start, program.memories[name])
    assert np.array_equal(memory_view(state, part), states[1][3].numpy())
    assert states[1][3].any()
