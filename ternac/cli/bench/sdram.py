"""``ternac bench sdram``: a model too large for the chip, loaded over the link into SDRAM, and run.

Everything is simulated cycle by cycle: link, engine, SDRAM controller, and a memory that stops the run when a
rule of its data sheet is broken. Logits and state are compared with NumPy's after every token. With
``--whole`` it is an imported MatMul-free model on the engine of docs/wide.md, without the link.
"""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import add_geometry, add_model, add_seed, number, refuse_unused
from ternac.cli.verb import Outcome, Say, Verb
from ternac.compile.geometry import Mem, preset
from ternac.errors import UsageError
from ternac.program.mmfree import Shape

if TYPE_CHECKING:
    from ternac.hdl.boards.board import Board
    from ternac.program.program import Program

GEOMETRY = "ulx3s-85f-sdram"
SHAPE = (1020, 2720, 2, 256)
"""Width, hidden width, layers and vocabulary of the program that is run when no model is named."""

WHOLE = Shape("100m", 768, 13, 2112, 8192)
"""The MatMul-free model that is run with ``--whole`` when none is named: 100 million weights."""
WHOLE_BOARD = "ulx3s-85f"
TRITS_A_WORD = 10


def large_program(seed: int) -> Program:
    """Return a random program of more than 20 million ternary weights."""
    width, hidden, layers, vocab = SHAPE
    import numpy as np

    from ternac.program.random import random_program

    return random_program(np.random.default_rng(seed), width, hidden, layers, vocab)


def bench_sdram(program: Program, target: Board, tokens: int, seed: int, say: Say) -> dict[str, Any]:
    """Measure ``tokens`` tokens, each followed by a comparison with NumPy."""
    import numpy as np

    from ternac.compile.compiler import compile_program
    from ternac.compile.isa import Opcode, Source
    from ternac.compile.sdram import NOMINAL_HZ
    from ternac.hdl.planner.estimate import routed_clock
    from ternac.host.device import Device
    from ternac.run.generation import Run
    from ternac.run.numpy_executor import NumpyExecutor

    geometry = target.engine
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
    dots = [i for i in image.instructions if i.op == Opcode.VEC and i.source == Source.DOT]
    words = sum(i.count * i.words for i in dots) * geometry.stream_words
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


def bench_whole(program: Program, tokens: int, seed: int, say: Say) -> dict[str, Any]:
    """Measure ``tokens`` tokens of an imported model; logits and states are compared with NumPy's."""
    import numpy as np

    from ternac.compile.sdram import ULX3S_CHIP
    from ternac.hdl.build.wide import wide_board
    from ternac.hdl.emit.wide import wide_code
    from ternac.hdl.wide.schedule import Timing, token_schedule
    from ternac.hdl.wide.sdram import SdramWideEngine
    from ternac.manifest import read_manifest
    from ternac.run.numpy_executor import NumpyExecutor
    from ternac.sim.sdram_wide import build_sdram_wide, run_sdram_wide

    target, shape = wide_board(WHOLE_BOARD)
    clock_hz = target.clock_hz
    code = wide_code(program, shape)
    engine = SdramWideEngine(shape.engine(), ULX3S_CHIP, clock_hz)
    simulation = build_sdram_wide(engine, say=say)
    chosen = np.random.default_rng(seed).integers(0, program.vocab, tokens).tolist()
    say(f"{program.name}: {program.trits:,} ternary weights; loading the SDRAM, then {tokens} token(s)")
    run = run_sdram_wide(simulation, engine, code, chosen)
    say("the same on NumPy")
    numpy, wrong = NumpyExecutor(program), 0
    state = numpy.open(1)
    for i, token in enumerate(chosen):
        logits = numpy.step(state, np.array([token]))[0]
        wrong += not (np.array_equal(run.logits[i], logits) and np.array_equal(run.states[i], state[0]))
    cycles, bound = sum(run.token_cycles) / tokens, program.trits / TRITS_A_WORD
    cycle_times = engine.memory.controller.cycles
    refresh = (cycle_times.rp + cycle_times.rfc + cycle_times.rcd) / cycle_times.refresh
    routed = read_manifest(target.name, shape.name)
    closed = None
    if program.name.startswith("random-mmfree"):
        token_of = token_schedule(WHOLE, port_bits=16, timing=Timing(lanes=shape.lanes))
        closed = token_of.cycles / (1 - refresh)
    return {
        "board": target.name,
        "geometry": shape.name,
        "model": program.name,
        "program_hash": program.hash,
        "ternary_weights": program.trits,
        "tokens": tokens,
        "mismatches": wrong,
        "fault": run.fault,
        "cycles_per_token": cycles,
        "closed_form_cycles_per_token": closed,
        "bound_cycles_per_token": bound,
        "over_bound": cycles / bound,
        "port_busy": sum(run.beats) / sum(run.token_cycles),
        "clock_mhz": clock_hz / 1e6,
        "tokens_per_second": clock_hz / cycles,
        "bound_tokens_per_second": clock_hz / bound,
        "origin": "cycle-exact simulation (Verilator, RTL of engine and SDRAM controller, behavioural "
        f"SDRAM that checks its rules, {clock_hz / 1e6:g} MHz) x "
        + ("routed clock of the shipped build" if routed else "stated clock, no build shipped")
        + "; bound: ten weights a cycle",
    }


def whole_program(seed: int) -> Program:
    """Return a random MatMul-free program, as large as 32 MB hold beside its embedding."""
    import numpy as np

    from ternac.program.random import random_mmfree

    sizes = {"d": WHOLE.d, "m": WHOLE.m, "layers": WHOLE.layers, "vocab": WHOLE.vocab}
    return random_mmfree(np.random.default_rng(seed), **sizes, per_token=True)


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser, "a random one of 25 million ternary weights, with --whole of 100 million")
    add_geometry(parser, f"engine with its weights in SDRAM (default: {GEOMETRY})")
    parser.add_argument(
        "--whole", action="store_true", help="an imported MatMul-free model, on the engine for whole models"
    )
    number(parser, "--tokens", "tokens to run", default=1, least=1)
    add_seed(parser, "seed of program and tokens")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.hdl.boards.boards import VARIANTS
    from ternac.program.zoo import open_program

    if args.whole:
        refuse_unused(args, "--whole", {"--geometry": "another engine: leave --whole out"})
        whole = open_program(args.model) if args.model else whole_program(args.seed)
        data = bench_whole(whole, args.tokens, args.seed, say)
        _show(data, say)
        return Outcome(data, ok=not data["mismatches"] and not data["fault"])
    geometry = args.geometry or preset(GEOMETRY)
    name = geometry.name
    if not geometry.streams:
        raise UsageError(f"{name} has its weights on chip", "ternac bench hdl measures it")
    program = open_program(args.model) if args.model else large_program(args.seed)
    if name not in VARIANTS:
        streaming = ", ".join(variant for variant, target in VARIANTS.items() if target.engine.streams)
        raise UsageError(f"{name} is the engine of no board", f"choose one of: {streaming}")
    data = bench_sdram(program, VARIANTS[name], args.tokens, args.seed, say)
    _show(data, say)
    return Outcome(data, ok=not data["mismatches"])


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"  {data['cycles_per_token']:,.0f} cycles/token, {data['over_bound'] - 1:.2%} over the bound")
    say(f"  data port busy {data['port_busy']:.2%} of all cycles")
    say(f"  {data['tokens_per_second']:,.2f} tokens/s at {data['clock_mhz']:g} MHz")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Run a model from SDRAM: loaded over the link, compared with NumPy after every token.",
    example="ternac bench sdram --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--model": "MODEL, without an option"},
)
