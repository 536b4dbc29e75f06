"""The whole engine: random tokens in random session slots, compared with NumPy op by op after each.

Settings: ``program`` and ``reference`` (paths: what the engine and what NumPy runs), ``geometry`` (fields of
`Geometry`), ``tokens``. The first difference fails the test with its token, layer, op, element and both
values; it is also written to ``divergence.json`` in the run's folder.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import cocotb
import numpy as np

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.compile.image import Image
from ternac.hdl.engine.schedule import schedule
from ternac.program.file import load
from ternac.program.program import Program
from ternac.run.compare import Divergence, first_divergence, scalar_divergence
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, Sampling, choose, seed_state
from ternac.sim.cocotb.common import generator, settings, start_clock
from ternac.sim.cocotb.engine_agents import BankMonitor, EngineDriver, Step


class Model:
    """Reference: NumPy's sessions, one per slot."""

    def __init__(self, program: Program, slots: int) -> None:
        self.executor = NumpyExecutor(program)
        self.program = program
        self.sessions = [self.executor.open() for _ in range(slots)]

    def step(self, token: int, slot: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return values and states after ``token``, by name."""
        trace: dict[str, Any] = {}
        self.executor.step(self.sessions[slot], np.array([token]), trace)
        return trace, self.executor.state_dict(self.sessions[slot])


def _sampling(rng: random.Random, vocab: int) -> Sampling:
    if rng.randrange(2):
        return GREEDY
    return Sampling(False, rng.randrange(1, 256), rng.randrange(12), rng.choice((0, 1, vocab // 2, vocab)))


def _check_draw(at: int, logits: Any, sampling: Sampling, rng: int, answer: Step) -> Divergence | None:
    """Check next token and generator."""
    token, following = choose(logits, sampling, rng)
    return scalar_divergence(at, "next token", token, answer.next_token) or scalar_divergence(
        at, "generator", following, answer.rng
    )


@cocotb.test(timeout_time=2, timeout_unit="sec")
async def matches_numpy(dut: Any) -> None:
    """Values, states, next token, generator, and the cycle count of the closed form."""
    given = settings()
    program: Program = load(Path(given["program"]))
    image: Image = compile_program(program, Geometry(**given["geometry"]))
    rng = generator()
    model = Model(load(Path(given["reference"])), min(3, image.sessions))
    driver, monitor = EngineDriver(dut, image), BankMonitor(dut, image)
    await start_clock(dut, driver.INPUTS)
    await driver.load()
    compared = f"{len(image.symbols)} values and {len(image.states)} states"
    cocotb.log.info("loaded %s; %s are compared after each token", program.name, compared)
    state = seed_state(rng.randrange(1 << 32))
    for at in range(given["tokens"]):
        token, slot = rng.randrange(program.vocab), rng.randrange(len(model.sessions))
        emit, sampling = bool(rng.randrange(3)), _sampling(rng, program.vocab)
        trace, expected = model.step(token, slot)
        context = rng.randrange(len(image.entries))
        answer = await driver.step(token, slot, emit=emit, sampling=sampling, rng=state, context=context)
        # the symbols are those of the first context
        values = await monitor.values() if context == 0 else {}
        states = await monitor.states(slot)
        found = first_divergence(program, at, trace, values, states=expected, got_states=states)
        if emit and not found:
            found = _check_draw(at, trace[program.logits][0], sampling, state, answer)
        if found:
            Path("divergence.json").write_text(json.dumps(found.to_json()))
            raise AssertionError(str(found))
        cycles = schedule(image, emit=emit, greedy=sampling.greedy, top_k=sampling.top_k).cycles
        assert answer.cycles == cycles, f"token {at}: {answer.cycles} cycles, the closed form says {cycles}"
        if emit:
            state = answer.rng
