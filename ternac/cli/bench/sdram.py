"""``ternac bench sdram``: a model too large for the chip, loaded over the link into SDRAM, and run.

Everything is simulated cycle by cycle: link, engine, SDRAM controller, and a memory that stops the run when a
rule of its data sheet is broken. Logits and state are compared with NumPy's after every token.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Mem, preset
from ternac.compile.isa import Opcode, Source
from ternac.compile.sdram import NOMINAL_HZ
from ternac.errors import UsageError
from ternac.hdl.boards.boards import VARIANTS, Board
from ternac.hdl.planner.estimate import routed_clock
from ternac.host.device import Device
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.zoo import open_program
from ternac.run.generation import Run
from ternac.run.numpy_executor import NumpyExecutor

GEOMETRIES = [name for name in VARIANTS if preset(name).streams]
SHAPE = (1020, 2720, 2, 256)
"""Width, hidden width, layers and vocabulary of the program that is run when no model is named."""


def large_program(seed: int) -> Program:
    """A random program of more than 20 million ternary weights."""
    width, hidden, layers, vocab = SHAPE
    return random_program(np.random.default_rng(seed), width, hidden, layers, vocab)


def bench_sdram(program: Program, target: Board, tokens: int, seed: int, say: Say) -> dict[str, Any]:
    """The figures of ``tokens`` tokens, each followed by a comparison with NumPy."""
    geometry = preset(target.geometry)
    clock_hz = target.clock_hz
    if clock_hz != NOMINAL_HZ:
        raise UsageError(f"the simulated memory runs at {NOMINAL_HZ / 1e6:g} MHz, not {clock_hz / 1e6:g}")
    image = compile_program(program, geometry)
    loaded = sum(words.size * geometry.memory(mem).bytes_per_word for mem, words in image.memories.items())
    say(f"{program.name}: {program.trits:,} ternary weights, {loaded:,} bytes to load")
    began = time.monotonic()
    rng, wrong = np.random.default_rng(seed), 0
    with Device.open("sim", program, board=target.geometry) as device:
        loading = time.monotonic() - began
        backend = device.board
        say(f"loaded over the link in {loading:.0f} s of simulation, compiling included")
        session, executor = backend.open(), NumpyExecutor(program)
        state = executor.open()
        for at in range(tokens):
            token = int(rng.integers(program.vocab))
            want = executor.step(state, np.array([token]))[0]
            chosen, _ = backend.run(session, Run([token], 1))
            same = (
                chosen == [int(np.argmax(want))]
                and np.array_equal(backend.read_vector(image.logits), want)
                and np.array_equal(backend.get_state(session), state[0])
            )
            wrong += not same
            say(f"token {at}: {backend.meter.cycles / (at + 1):,.0f} cycles, {'equal' if same else 'WRONG'}")
        cycles = backend.meter.cycles / tokens
    words = sum(
        i.count * i.words for i in image.instructions if i.source == Source.DOT and i.op == Opcode.VEC
    )
    words *= geometry.stream_words
    bound = program.trits / 10
    clock, clock_origin = routed_clock(target)
    return {
        "board": target.name,
        "geometry": geometry.name,
        "model": program.name,
        "program_hash": program.hash,
        "ternary_weights": program.trits,
        "loaded_bytes": loaded,
        "sdram_words_per_token": words,
        "sdram_bytes_used": image.memories[Mem.WEIGHT].size * 2,
        "tokens": tokens,
        "mismatches": wrong,
        "cycles_per_token": cycles,
        "bound_cycles_per_token": bound,
        "over_bound": cycles / bound,
        "port_busy": words / cycles,
        "clock_mhz": clock,
        "tokens_per_second": clock * 1e6 / cycles,
        "bound_tokens_per_second": clock * 1e6 / bound,
        "origin": "cycle-exact simulation (Verilator; engine cycles without the link, behavioural SDRAM that "
        f"checks the data sheet's rules, {NOMINAL_HZ / 1e6:g} MHz) x {clock_origin}; "
        "bound: ten weights a cycle",
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--geometry", choices=GEOMETRIES, default=GEOMETRIES[0], help="default: %(default)s")
    parser.add_argument(
        "--model", help="program file or shipped model (default: a random one of 25 million ternary weights)"
    )
    parser.add_argument("--tokens", type=int, default=1, metavar="N", help="default: 1")
    parser.add_argument("--seed", type=int, default=1, help="of program and tokens (default: 1)")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    if args.tokens < 1 or args.seed < 0:
        raise UsageError("--tokens needs at least 1, --seed at least 0")
    program = open_program(args.model) if args.model else large_program(args.seed)
    data = bench_sdram(program, VARIANTS[args.geometry], args.tokens, args.seed, say)
    say(f"  {data['cycles_per_token']:,.0f} cycles/token, {data['over_bound'] - 1:.2%} over the bound")
    say(f"  data port busy {data['port_busy']:.2%} of all cycles")
    say(f"  {data['tokens_per_second']:,.2f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['origin']}")
    return Outcome(data, ok=not data["mismatches"])


VERB = Verb(
    help="A model in SDRAM: loaded over the link, run, compared with NumPy.",
    example="ternac bench sdram --json",
    add_arguments=_arguments,
    run=_run,
)
