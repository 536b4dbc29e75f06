"""``ternac bench stream``: a token of a published model's size, its weights read from external memory.

All matrices of the model at their true size go through the unit's RTL in Verilator, on a memory of random
latency and pauses; every row sum is compared with NumPy's. Between phases, where the next activations
depend on the sums, the array waits for an assumed ``turnaround`` and for the activations to be written.
With ``--whole`` every op of a token is scheduled in closed form (docs/wide.md), and, of one session on one
port, tokens of a random program of that size run on the RTL of the whole engine, against NumPy.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ternac.cli.arguments import PORT_BITS, add_seed, number, refuse_unused
from ternac.cli.verb import Outcome, Say, Verb
from ternac.errors import UsageError
from ternac.program.mmfree import SHAPES, Shape, share

if TYPE_CHECKING:
    from ternac.compile.stream_layout import Encoding
    from ternac.hdl.stream.matvec import StreamMatVec

CLOCKS_MHZ = (100, 200, 250, 300)
PORT_BUSY = 0.95
OVER_BOUND = 1.10
WHOLE_OVER_BOUND = 1.05


def bound_cycles(shape: Shape, encoding: Encoding, port_bits: int, ports: int = 1) -> float:
    """Cycles in which the weights of a token come through full ports: what no engine is below."""
    return shape.trits / encoding.rows / (port_bits // 8) / ports


def stream_unit(shape: Shape, port_bits: int, encoding: Encoding) -> StreamMatVec:
    """Build the unit with activation memory for the largest phase of a shape."""
    from ternac.hdl.stream.matvec import StreamMatVec
    from ternac.sim.stream import place_activations

    _, depth = place_activations((*shape.layer, *shape.head), port_bits // 8)
    return StreamMatVec(port_bits=port_bits, encoding=encoding, x_depth=depth)


def bench_stream(
    shape: Shape,
    encoding: Encoding,
    port_bits: int,
    layers: int,
    turnaround: int,
    seed: int,
    say: Say,
    ports: int = 1,
) -> dict[str, Any]:
    """Measure one token, ``layers`` blocks of it and the output layer simulated; see the module's text.

    Of several ``ports``, each with a unit for a share of every matrix's rows, the one with most is simulated.
    """
    from ternac.hdl.stream.schedule import phase_ends
    from ternac.sim.stream import IDEAL, USUAL, build_stream, make_job, run_job

    size = port_bits // 8
    unit = stream_unit(shape, port_bits, encoding)
    program = build_stream(unit, say=say)
    say(f"random weights of a {shape.name} block and of the output layer")
    block = make_job(share(shape.layer, ports, encoding.rows), size, encoding, seed)
    head = make_job(share(shape.head, ports, encoding.rows), size, encoding, seed + 1)
    short, job = block.then(head), block.repeat(layers).then(head)
    say("one block and the output layer on a memory that never waits: the closed form")
    ideal = run_job(program, unit, short, turnaround=turnaround, **IDEAL)
    closed = {"turnaround": turnaround, "latency": IDEAL["latency_min"]}
    exact = ideal["phase_done"] == phase_ends(unit, short.phases, **closed)
    say(f"{layers} blocks and the output layer on a memory of random latency and pauses")
    found = run_job(program, unit, job, turnaround=turnaround, seed=seed)
    simulated = phase_ends(unit, job.phases, **closed)[-1] + 1
    token = phase_ends(unit, block.repeat(shape.layers).then(head).phases, **closed)[-1] + 1
    cycles = found["cycles"] * token / simulated
    bound = bound_cycles(shape, encoding, port_bits, ports)
    whole = layers == shape.layers
    blocks = f"all {layers} blocks" if whole else f"{layers} of {shape.layers} blocks"
    return {
        "geometry": shape.name,
        "encoding": encoding.value,
        "port_bits": port_bits,
        "ports": ports,
        "port_busy": found["beats"] / (found["last_beat"] - found["first_beat"] + 1),
        "cycles_per_token": found["cycles"] if whole else cycles,
        "bound_cycles_per_token": bound,
        "over_bound": cycles / bound,
        "bytes_per_token": shape.trits / encoding.rows,
        "stored_bytes_per_token": (block.weights.size * shape.layers + head.weights.size) * ports,
        "tokens_per_second_at": {f"{clock} MHz": clock * 1e6 / cycles for clock in CLOCKS_MHZ},
        "layers_simulated": layers,
        "closed_form": {
            "cycles_per_token": token,
            "equal": exact,
            "block_and_head_cycles": ideal["cycles"],
            "origin": "closed form for a memory that sends a beat a cycle; equal: to the RTL, block and head",
        },
        "idle_cycles": {
            "memory_paused": found["gaps"],
            "memory_latency": found["late"],
            "not_asked": found["unasked"],
        },
        "rows_checked": found["sums"],
        "rows_wrong": found["wrong"] + ideal["wrong"],
        "fault": found["fault"] | ideal["fault"],
        "turnaround_cycles": turnaround,
        "origin": (
            f"cycle-exact simulation (Verilator, RTL at true width) of {blocks} and the output layer"
            f"{'' if whole else ', the others by the closed form'}"
            f"{'' if ports == 1 else f', in the unit with the most rows of {ports}'}; behavioural memory, "
            "latency "
            f"{USUAL['latency_min']} to {USUAL['latency_max']} cycles, {USUAL['gap'] / 1024:.1%} of cycles "
            f"without data; {turnaround} cycles from the last sum of a phase to the next activations are an "
            "estimate; tokens per second x assumed clocks; bound: bytes / port width"
        ),
    }


def estimate_whole(
    shape: Shape, encoding: Encoding, port_bits: int, ports: int, lanes: int, sessions: int
) -> dict[str, Any]:
    """Schedule a whole token of each of ``sessions`` that share one pass over the weights."""
    from ternac.hdl.wide.schedule import Timing, closed_form, token_schedule

    timing = Timing(lanes=lanes)
    settings: dict[str, Any] = {"port_bits": port_bits, "ports": ports, "encoding": encoding}
    token = token_schedule(shape, **settings, batch=sessions, timing=timing)
    bound = bound_cycles(shape, encoding, port_bits, ports)
    return {
        "geometry": shape.name,
        "encoding": encoding.value,
        "port_bits": port_bits,
        "ports": ports,
        "lanes": lanes,
        "sessions": sessions,
        **closed_form(token, bound),
        "tokens_per_second_at": {
            f"{clock} MHz": sessions * clock * 1e6 / token.cycles for clock in CLOCKS_MHZ
        },
        "simulated": False,
        "origin": (
            "estimate: closed form over all ops of a token, no RTL run; a memory that sends a beat a cycle, "
            "gains and curves read through the port in cycles of their own, states on chip, an array for "
            "each session and port; tokens per second of all sessions x assumed clocks; bound: bytes of "
            "weights / port width"
        ),
    }


def simulate_whole(
    shape: Shape, encoding: Encoding, port_bits: int, lanes: int, tokens: int, seed: int, say: Say
) -> dict[str, Any]:
    """Run ``tokens`` tokens of a random program of a shape on the RTL of the whole engine.

    Returns what takes the place of the estimate's figures. Raises UsageError if the engine has no such form.
    """
    import numpy as np

    from ternac.compile.wide import lower
    from ternac.compile.wide_code import encode
    from ternac.program.random import random_mmfree
    from ternac.run.numpy_executor import NumpyExecutor
    from ternac.sim.stream import USUAL
    from ternac.sim.wide import build_wide, engine_for, run_wide

    size = port_bits // 8
    if size % lanes:
        raise UsageError(
            f"--lanes is {lanes}, must divide {size}, the bytes of a port's word, to be simulated",
            "choose another number, or --tokens 0: the closed form alone",
        )
    rng = np.random.default_rng(seed)
    sizes = {"d": shape.d, "m": shape.m, "layers": shape.layers, "vocab": shape.vocab}
    say(f"random weights of a {shape.name} model, {shape.trits:,} trits")
    program = random_mmfree(rng, **sizes, per_token=True)
    code = encode(lower(program, word=size), lanes, port_bytes=size, encoding=encoding)
    engine = engine_for(code)
    simulation = build_wide(engine, say=say)
    chosen = rng.integers(0, shape.vocab, tokens).tolist()
    say(f"{tokens} token(s) on a memory of random latency and pauses")
    run = run_wide(simulation, engine, code, chosen, seed=seed)
    say("the same on NumPy")
    numpy, wrong = NumpyExecutor(program), 0
    state = numpy.open(1)
    for i, token in enumerate(chosen):
        logits = numpy.step(state, np.array([token]))[0]
        same = np.array_equal(run.logits[i], logits) and np.array_equal(run.states[i], state[0])
        wrong += not same
    cycles = sum(run.token_cycles) / tokens
    bound = bound_cycles(shape, encoding, port_bits)
    return {
        "port_busy": sum(run.beats) / sum(run.token_cycles),
        "cycles_per_token": cycles,
        "bound_cycles_per_token": bound,
        "over_bound": cycles / bound,
        "tokens_per_second_at": {f"{clock} MHz": clock * 1e6 / cycles for clock in CLOCKS_MHZ},
        "tokens": tokens,
        "logits_compared": tokens * shape.vocab,
        "mismatches": wrong,
        "fault": run.fault,
        "simulated": True,
        "origin": (
            "cycle-exact simulation (Verilator, RTL of the whole engine at true size, random weights); "
            f"behavioural memory, latency {USUAL['latency_min']} to {USUAL['latency_max']} cycles, "
            f"{USUAL['gap'] / 1024:.1%} of cycles without data; every logit and state compared with NumPy's; "
            "tokens per second x assumed clocks; bound: bytes of weights / port width"
        ),
    }


def _arguments(parser: argparse.ArgumentParser) -> None:
    from ternac.compile.stream_layout import Encoding

    parser.add_argument("--size", choices=SHAPES, default="370m", help="published size (default: 370m)")
    encodings = [encoding.value for encoding in Encoding]
    parser.add_argument(
        "--encoding", choices=encodings, default="1.6bit", help="code of the trits (default: 1.6bit)"
    )
    parser.add_argument(
        "--port-bits", type=int, choices=PORT_BITS, default=128, help="width of the AXI4 port (default: 128)"
    )
    number(
        parser, "--ports", "ports, each with a unit for its share of the rows", default=1, least=1, most=64
    )
    number(parser, "--layers", "blocks to simulate; the rest by closed form (default: all)")
    number(
        parser,
        "--turnaround",
        "from the last sum of a phase to the first activation of the next",
        default=64,
        least=1,
        most=(1 << 20) - 1,
        metavar="CYCLES",
    )
    parser.add_argument("--whole", action="store_true", help="whole tokens, wide ops and constants included")
    number(parser, "--lanes", "for --whole, elements a cycle of the wide unit", default=8, least=1, most=256)
    number(
        parser, "--sessions", "for --whole, sessions that share a pass over the weights", default=1, least=1,
        most=64,
    )  # fmt: skip
    number(
        parser, "--tokens", "for --whole, tokens to run on the RTL; 0: the closed form alone (default: 1, "
        "with several sessions or ports 0)", least=0, most=1000,
    )  # fmt: skip
    add_seed(parser, "seed of weights, activations and memory")


def _run(args: argparse.Namespace, say: Say) -> Outcome:
    from ternac.compile.stream_layout import Encoding

    shape = SHAPES[args.size]
    if args.whole:
        alone = args.sessions == args.ports == 1
        tokens = int(alone) if args.tokens is None else args.tokens
        if tokens and not alone:
            raise UsageError(
                "the engine runs one session at a time on one port: nothing to simulate",
                "leave --tokens out, or --sessions and --ports",
            )
        products = "the products alone: leave --whole out"
        refuse_unused(args, "--whole", dict.fromkeys(("--layers", "--turnaround"), products))
        if not tokens:
            refuse_unused(args, "--whole without a simulation", {"--seed": "--tokens of 1 or more"})
        data = estimate_whole(
            shape, Encoding(args.encoding), args.port_bits, args.ports, args.lanes, args.sessions
        )
        _show_whole(data, say)
        if tokens:
            data["closed_form"] = {name: data[name] for name in ("cycles_per_token", "port_busy", "origin")}
            found = simulate_whole(
                shape, Encoding(args.encoding), args.port_bits, args.lanes, tokens, args.seed, say
            )
            data.update(found)
            _show_run(data, say)
        good = data["port_busy"] >= PORT_BUSY and data["over_bound"] <= WHOLE_OVER_BOUND
        good = good and not data.get("mismatches") and not data.get("fault")
        return Outcome(data, ok=good)
    refuse_unused(
        args, "a simulation of the products", dict.fromkeys(("--lanes", "--sessions", "--tokens"), "--whole")
    )
    layers = shape.layers if args.layers is None else args.layers
    if not 1 <= layers <= shape.layers:
        raise UsageError(f"--layers is {layers}, needs 1 to {shape.layers} for {shape.name}")
    data = bench_stream(
        shape, Encoding(args.encoding), args.port_bits, layers, args.turnaround, args.seed, say, args.ports
    )
    _show(data, say)
    good = (
        not data["rows_wrong"]
        and not data["fault"]
        and data["closed_form"]["equal"]
        and data["port_busy"] >= PORT_BUSY
        and data["over_bound"] <= OVER_BOUND
    )
    return Outcome(data, ok=good)


def _show(data: dict[str, Any], say: Say) -> None:
    say(f"{data['geometry']}, {data['encoding']}, {data['ports']} port(s) of {data['port_bits']} bits:")
    over = f"{data['over_bound'] - 1:.2%} over the bandwidth bound"
    say(f"  {data['cycles_per_token']:,.0f} cycles/token, {over}")
    say(f"  data port busy {data['port_busy']:.2%}, {data['rows_checked']:,} rows exact")
    for clock, rate in data["tokens_per_second_at"].items():
        say(f"  {rate:,.1f} tokens/s at {clock}")
    say(f"  {data['origin']}")


def _show_whole(data: dict[str, Any], say: Say) -> None:
    say(f"{data['geometry']}, {data['encoding']}, {data['ports']} port(s) of {data['port_bits']} bits:")
    before = ""
    for step in data["steps"]:
        if step["before"] != before:
            before = step["before"]
            total = data["wait_cycles"][before]
            say(f"  before {before}: {total:,} cycles a token without a product")
        size = f" of {step['elements']}" if step["elements"] else ""
        say(f"    {step['cycles']:5d}  {step['op']}{size}")
    over = f"{data['over_bound'] - 1:.2%} over the bandwidth bound"
    say(f"  {data['cycles_per_token']:,} cycles a pass of {data['sessions']} token(s), {over}")
    say(f"  data port busy {data['port_busy']:.2%}, {data['lanes']} lanes busy {data['lanes_busy']:.2%}")
    for clock, rate in data["tokens_per_second_at"].items():
        say(f"  {rate:,.1f} tokens/s at {clock}")
    say(f"  {data['origin']}")


def _show_run(data: dict[str, Any], say: Say) -> None:
    over = f"{data['over_bound'] - 1:.2%} over the bandwidth bound"
    say(f"  on the RTL: {data['cycles_per_token']:,.0f} cycles a token, {over}")
    wrong = data["mismatches"]
    result = f"{wrong} of {data['tokens']} tokens differ from NumPy's" if wrong else "all equal to NumPy's"
    logits = f"{data['logits_compared']:,} logits and the states"
    say(f"  data port busy {data['port_busy']:.2%}; {logits}: {result}")
    say(f"  {data['origin']}")


VERB = Verb(
    help="Run a token of a large model with its weights streamed over AXI4: port use and cycles.",
    example="ternac bench stream --size 370m --json",
    add_arguments=_arguments,
    run=_run,
    renamed={"--geometry": "--size"},
)
