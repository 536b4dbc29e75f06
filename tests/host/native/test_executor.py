"""Whole programs on the native executor against NumPy: logits, states, values, sampling, prompts,
sessions.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ternac.errors import UsageError
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import load
from ternac.program.file import load as load_program
from ternac.program.ops import Op
from ternac.program.program import Program
from ternac.program.random import random_mmfree, random_program
from ternac.program.zoo import names, open_program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import EXP, Sampling, choose, seed_state
from tests.host.bad_input import refuses_bad_input
from tests.host.native.native_here import ISAS, RUNNING, Soup, needs_native

pytestmark = needs_native
VECTORS = Path(__file__).parents[2] / "vectors"


def compare(program: Program, steps: int = 4, batch: int = 3, **options: Any) -> None:
    """Logits and states are NumPy's after each of ``steps`` steps."""
    numpy, native = NumpyExecutor(program), NativeExecutor(program, **options)
    states = numpy.open(batch), native.open(batch)
    rng = np.random.default_rng(1)
    for _ in range(steps):
        tokens = rng.integers(0, program.vocab, batch)
        assert np.array_equal(numpy.step(states[0], tokens), native.step(states[1], tokens))
        assert np.array_equal(states[0], states[1])
    native.close()


@pytest.mark.parametrize("bits", ["2", "1.6"])
@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("threads", [1, 3])
def test_shipped_models(isa: str, bits: str, threads: int) -> None:
    for name in names():
        compare(open_program(name), steps=3, isa=isa, bits=bits, threads=threads)


@settings(max_examples=12)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from(RUNNING or [""]),
    st.sampled_from(["2", "1.6"]),
    st.integers(1, 3),
)
def test_random_language_models(seed: int, isa: str, bits: str, threads: int) -> None:
    make = random_mmfree if seed % 2 else random_program
    compare(make(np.random.default_rng(seed)), isa=isa, bits=bits, threads=threads)


@settings(max_examples=12)
@given(
    st.integers(0, 1 << 32),
    st.sampled_from(RUNNING or [""]),
    st.sampled_from(["2", "1.6"]),
    st.integers(1, 3),
)
def test_arbitrary_programs(seed: int, isa: str, bits: str, threads: int) -> None:
    compare(Soup(np.random.default_rng(seed)).program, isa=isa, bits=bits, threads=threads)


def test_soup_has_every_op_and_form() -> None:
    """What the test above runs on: all kinds, multipliers, both dtypes of every factor."""
    programs = [Soup(np.random.default_rng(seed)).program for seed in range(12)]
    kinds = {op.kind for program in programs for op in program.ops}
    assert len(kinds) == 19
    assert any("multiplier" in op.attrs for program in programs for op in program.ops if op.kind == "REQUANT")


@pytest.mark.parametrize("name", ["lm-odd", "lm-small", "mmfree-fixed", "mmfree-token"])
def test_frozen_vectors(name: str) -> None:
    program = load_program(VECTORS / f"{name}.safetensors")
    data = json.loads((VECTORS / f"{name}.json").read_text())
    for isa in RUNNING:
        executor = NativeExecutor(program, isa=isa)
        state = executor.open()
        for token, logits in zip(data["tokens"], data["logits"], strict=True):
            assert executor.step(state, [token])[0].tolist() == logits
        assert state[0].tolist() == data["state"]


def test_trace_is_numpys() -> None:
    for program in (random_program(np.random.default_rng(3)), random_mmfree(np.random.default_rng(4))):
        numpy, native = NumpyExecutor(program), NativeExecutor(program)
        states = numpy.open(2), native.open(2)
        traces: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for _ in range(2):
            for executor, state, trace in zip((numpy, native), states, traces, strict=True):
                executor.step(state, [0, 1], trace)
        assert traces[0].keys() == traces[1].keys()
        assert all(np.array_equal(traces[0][name], traces[1][name]) for name in traces[0])
        assert np.array_equal(states[0], states[1])


@settings(max_examples=8)
@given(st.integers(0, 1 << 32), st.integers(1, 2))
def test_prompts_are_fed_as_if_token_by_token(seed: int, threads: int) -> None:
    """Tokens of several sessions mixed, more than run at a time; logits of some of them."""
    rng = np.random.default_rng(seed)
    program = Soup(rng).program if seed % 3 == 0 else random_program(rng, d=24, m=40, layers=2, vocab=30)
    numpy, native = NumpyExecutor(program), NativeExecutor(program, threads=threads)
    states = numpy.open(3), native.open(3)
    count = int(rng.integers(1, 150))
    tokens, slots = rng.integers(0, program.vocab, count), rng.integers(0, 3, count)
    want = rng.random(count) < 0.2
    found = native.feed(states[1], tokens, slots, want)
    wanted = [
        numpy.step(states[0][slot : slot + 1], [token])[0] for token, slot in zip(tokens, slots, strict=True)
    ]
    assert np.array_equal(found, np.array(wanted, np.int32).reshape(-1, program.vocab)[want])
    assert np.array_equal(states[0], states[1])


@settings(max_examples=8)
@given(st.integers(0, 1 << 32), st.sampled_from([0.0, 0.3, 1.0, 5.0]), st.sampled_from([0, 1, 3, 1000]))
def test_generation_is_numpys(seed: int, temperature: float, top_k: int) -> None:
    rng = np.random.default_rng(seed)
    program = random_program(rng)
    sampling = Sampling.from_temperature(temperature, program.logit_scale_bits, top_k)
    numpy, native = NumpyExecutor(program), NativeExecutor(program, threads=1 + seed % 3)
    count, sessions = 6, 67
    first = rng.integers(0, program.vocab, sessions).tolist()
    rngs = [seed_state(seed + i) for i in range(sessions)]
    states = numpy.open(sessions), native.open(sessions)
    chosen, following = native.generate(states[1], first, count, sampling, rngs)
    tokens = list(first)
    for step in range(count):
        logits = numpy.step(states[0], tokens)
        for row in range(sessions):
            tokens[row], rngs[row] = choose(logits[row], sampling, rngs[row])
        assert chosen[:, step].tolist() == tokens
    assert following == rngs
    assert np.array_equal(states[0], states[1])


@settings(max_examples=200)
@given(
    st.lists(st.integers(-32768, 32767) | st.integers(-2, 2), min_size=1, max_size=300),
    st.integers(1, 255), st.integers(0, 31), st.integers(0, 320), st.integers(1, (1 << 32) - 1),
)  # fmt: skip
def test_sampler(logits: list[int], m: int, s: int, top_k: int, rng: int) -> None:
    """Ties, saturated distances, every top_k: the same token and generator."""
    ffi, lib = load()
    state = ffi.new("uint32_t *", rng)
    data = np.array(logits, np.int16)
    token = lib.tn_choose(
        ffi.cast("uint16_t *", EXP.ctypes.data),
        ffi.from_buffer("int16_t[]", data),
        len(data),
        0,
        m,
        s,
        top_k,
        state,
    )
    assert (token, state[0]) == choose(data, Sampling(False, m, s, top_k), rng)
    assert lib.tn_choose(
        ffi.NULL, ffi.from_buffer("int16_t[]", data), len(data), 1, m, s, 0, state
    ) == np.argmax(data)


def test_only_logits_need_the_tail() -> None:
    """A prompt leaves out what no state depends on: the last layer's second half and the head."""
    program = random_program(np.random.default_rng(5), layers=2)
    plan = NativeExecutor(program).plan
    names_of_tail = {op.out for op, planned in zip(program.ops, plan.ops, strict=True) if planned.tail}
    assert {"1.o", "1.r2", "n", "logits"} <= names_of_tail
    assert not {"0.r2", "1.n1", "1.c", "1.h"} & names_of_tail
    segments = [planned.segment for planned in plan.ops if planned.segment]
    assert segments == [3, 3]  # LOAD, LERP, STORE of each layer


def test_memory_is_used_again() -> None:
    """The values of a token take the place of the widest moment, not of all of them."""
    program = random_program(np.random.default_rng(5), d=40, m=64, layers=3)
    deep = random_program(np.random.default_rng(5), d=40, m=64, layers=12)
    one, other = NativeExecutor(program), NativeExecutor(deep)
    assert other.plan.row_bytes <= one.plan.row_bytes + 64
    assert one.bytes_held["rows"] == one.plan.row_bytes * one.rows


def test_bad_input_changes_nothing() -> None:
    program = random_program(np.random.default_rng(6), vocab=9)
    executor = NativeExecutor(program)
    state = executor.open(2)
    state[:] = 7
    refuses_bad_input(executor, state)
    with pytest.raises(UsageError, match="batch is 0"):
        executor.open(0)
    with pytest.raises(UsageError, match="0 threads"):
        NativeExecutor(program, threads=0)
    assert (state == 7).all()
    executor.close()
    executor.close()
    with pytest.raises(UsageError, match="is closed"):
        executor.step(state, [0, 1])


def test_states_may_be_any_rows_of_an_array() -> None:
    """A view that is not contiguous is changed in place, too."""
    program = random_program(np.random.default_rng(7))
    numpy, native = NumpyExecutor(program), NativeExecutor(program)
    state, store = numpy.open(2), native.open(5)
    numpy.step(state, [0, 1])
    native.step(store[1::2], [0, 1])
    assert np.array_equal(store[1::2], state)
    assert not store[::2].any()


def test_a_program_without_state_and_flags_of_any_kind() -> None:
    """No state word at all; ``want`` as any truth values, from a strided array."""
    ops = (
        Op("GATHER", "e", (), {"embed": "embed", "shift": 8}),
        Op("REQUANT", "logits", ("e",), {"shift": 1, "dtype": "i16", "multiplier": 3}),
    )
    embed = np.arange(-8, 8).reshape(4, 4).astype(np.int8)
    program = Program("plain", 4, ops, {"embed": embed}, {}, "logits", 4)
    numpy, native = NumpyExecutor(program), NativeExecutor(program, threads=2)
    logits = numpy.step(numpy.open(4), range(4))
    assert np.array_equal(native.step(native.open(4), range(4)), logits)
    found = native.feed(native.open(1), range(4), [0] * 4, np.array([7, 0, 0, 0, -1, 0, 0, 0])[::2])
    assert np.array_equal(found, logits[[0, 2]])


def test_a_forked_child_is_told() -> None:
    """Threads do not survive a fork; the child gets an error instead of waiting for ever."""
    script = """
import os, sys, warnings
import numpy as np
from ternac.errors import UsageError
from ternac.host.native.executor import NativeExecutor
from ternac.program.random import random_program
warnings.simplefilter("ignore")
executor = NativeExecutor(random_program(np.random.default_rng(1)), threads=2)
executor.step(executor.open(), [0])
child = os.fork()
if child == 0:
    try:
        executor.step(executor.open(), [0])
    except UsageError as error:
        os._exit(0 if "forked" in str(error) else 2)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
