"""The measurements of ``ternac bench gpu``: whole tokens and prompts of a published size, random trits.

All candidates take turns, round by round, and a ratio is the median of the ratios of the rounds. Every
reading of the clock waits for the device. The same functions run on the CPU, small, for tests; what they
return says where.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ternac.errors import Mismatch
from ternac.host.gpu.executor import GpuExecutor
from ternac.host.gpu.plan import MOVE, Plan
from ternac.host.gpu.weights import Weights, fill_random
from ternac.host.native.measure import Rounds, rounds, shape_program
from ternac.program.mmfree import Shape
from ternac.program.ops import BYTES, KINDS
from ternac.program.program import Program
from ternac.run.sampling import GREEDY

TOKENS = 32
"""Tokens of a call: what a round measures of decode."""
COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 20, "interpret": 1 << 20}
Call = Callable[[], object]


@dataclass(frozen=True)
class Counts:
    """Of one token of one session. ``weights``: bytes at 2 bits a trit, without filling; ``packed``: as they
    lie in memory; ``values``: of everything else that is read or written, each once for each phase.
    ``macs``: multiply-accumulates of all products; ``prompt_macs``: without what only the logits need.
    """

    weights: int
    packed: int
    values: int
    macs: int
    prompt_macs: int

    @property
    def bytes_moved(self) -> int:
        """Packed weights and values."""
        return self.packed + self.values


def count_plan(program: Program, plan: Plan, weights: Weights) -> Counts:
    """Count what a token of ``plan`` moves and multiplies: what measured times are held against."""
    trits = packed = values = macs = prompt = 0
    for phase in plan.phases:
        for op in phase.products:
            place = weights.places[op.text("weights")]
            product = place.rows * place.columns
            trits += product
            packed += place.nbytes
            macs += product
            prompt += 0 if phase.tail else product
        read = [plan.values[name] for name in phase.reads() if name in plan.values]
        made = [plan.values[name] for name in phase.outs]
        values += sum(value.length * BYTES[value.dtype] for value in (*read, *made))
        states = [plan.states[name] for name in (*phase.loads, *phase.stores)]
        values += 2 * sum(state.stop - state.start for state in states)
        for op in phase.ops():
            if op.kind != MOVE and KINDS[op.kind].reads_token:
                values += sum(program.consts[op.text(name)][0].nbytes for name in KINDS[op.kind].constants)
    return Counts(-(-trits // 4), packed, values, macs, prompt)


def measure(
    shape: Shape, mode: str, sessions: int, prompt: int, count_rounds: int, say: Callable[[str], object]
) -> dict[str, Any]:
    """All rows for a size. Mismatch if decode, prompts and overlapped decode do not give the same bits."""
    program = shape_program(shape)
    executors = _executors(program, mode, max(sessions, prompt))
    plain = executors["decode"]
    counts = count_plan(program, plain._engine.layouts().few.plan, plain.weights)
    say(f"random weights of {shape.name}: {counts.macs:,} trits, {plain.weights.nbytes:,} bytes")
    _check(executors, shape)
    one, many = plain.open(), plain.open(sessions)
    rng = np.random.default_rng(3)
    first, text = rng.integers(0, shape.vocab, sessions), rng.integers(0, shape.vocab, prompt)
    slots, want = np.zeros(prompt, np.int32), np.zeros(prompt, bool)
    tokens = TOKENS if mode == "cuda" else 1
    candidates: dict[str, Call] = {"copy": _copy(mode)}
    amount = {"copy": 1}
    for name, executor in executors.items():
        candidates[name] = _decode(executor, one, first[:1], tokens)
        amount[name] = tokens
    candidates[f"decode, {sessions} sessions"] = _decode(plain, many, first, tokens)
    amount[f"decode, {sessions} sessions"] = tokens * sessions
    candidates[f"prompt, {prompt} tokens"] = lambda: plain.feed(one, text, slots, want)
    amount[f"prompt, {prompt} tokens"] = prompt
    candidates["bf16 decode"] = bf16(program, plain, 1, tail=True)
    candidates["bf16 prompt"] = bf16(program, plain, prompt, tail=False)
    amount |= {"bf16 decode": 1, "bf16 prompt": prompt}
    found = rounds(candidates, count_rounds, least=0.05 if mode == "cuda" else 0.0, clock=_clock(mode))
    origin = _origin(mode, count_rounds)
    bandwidth = 2 * COPY_BYTES[mode] / found.typical("copy")
    rows = [
        _row(name, amount, found, counts, bandwidth, origin, prompt, sessions)
        for name in candidates
        if name != "copy"
    ]
    for executor in executors.values():
        executor.close()
    return {
        "geometry": shape.name,
        "device": torch.cuda.get_device_name() if mode == "cuda" else "no GPU",
        "trits": counts.macs,
        "bandwidth_gb_per_s": round(bandwidth / 1e9, 1),
        "bandwidth_origin": "a copy within the device's memory in the same rounds, bytes read and written",
        "bytes_held": plain.bytes_held,
        "rows": rows,
    }


def _executors(program: Program, mode: str, rows: int) -> dict[str, GpuExecutor]:
    shapes = {name: program.consts[name].shape for name, role in program.roles().items() if role == "trits"}
    weights = Weights({n: (s[0], s[1]) for n, s in shapes.items()}, "cuda" if mode == "cuda" else "cpu")
    fill_random(weights, 2)
    made = {"decode": GpuExecutor(program, mode=mode, weights=weights, rows=rows)}
    if mode == "cuda" and torch.cuda.get_device_capability()[0] >= 9:
        made["decode, overlapped"] = GpuExecutor(program, mode=mode, weights=weights, rows=1, overlap=True)
    return made


def _check(executors: dict[str, GpuExecutor], shape: Shape) -> None:
    """Logits and states of a few tokens by every way that the candidates go."""
    tokens = np.random.default_rng(5).integers(0, shape.vocab, 3)
    wanted: tuple[Any, Any] | None = None
    for name, executor in executors.items():
        for way in (name, "prompt") if executor.rows >= len(tokens) else (name,):
            state = executor.open()
            if way == "prompt":
                logits = executor.feed(state, tokens, [0] * len(tokens))[-1]
            else:
                logits = [executor.step(state, [token])[0] for token in tokens][-1]
            wanted = wanted or (logits, state)
            if not (np.array_equal(logits, wanted[0]) and np.array_equal(state, wanted[1])):
                raise Mismatch(f"{shape.name}: {way} gives other bits than decode")


def _decode(executor: GpuExecutor, state: Any, tokens: Any, count: int) -> Call:
    rngs = [1] * len(tokens)
    return lambda: executor.generate(state, tokens, count, GREEDY, rngs)


def _copy(mode: str) -> Call:
    device = "cuda" if mode == "cuda" else "cpu"
    source = torch.ones(COPY_BYTES[mode] // 4, dtype=torch.int32, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def bf16(program: Program, executor: GpuExecutor, tokens: int, tail: bool) -> Call:
    """Products of the same shapes in bfloat16, each matrix in memory of its own; a CUDA graph on a GPU."""
    device = executor.device
    phases = executor._engine.layouts().few.plan.phases
    names = [op.text("weights") for phase in phases if tail or not phase.tail for op in phase.products]
    shapes = [executor.weights.places[name] for name in names]
    matrices = [torch.ones(p.rows, p.columns, dtype=torch.bfloat16, device=device) for p in shapes]
    vectors = {p.columns: torch.ones(tokens, p.columns, dtype=torch.bfloat16, device=device) for p in shapes}

    def run() -> None:
        for matrix in matrices:
            torch.mm(vectors[matrix.shape[1]], matrix.t())

    if device.type != "cuda":
        return run
    run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()

    def replay() -> tuple[Any, Any]:
        graph.replay()
        return matrices, vectors  # the graph does not keep their memory

    return replay


def _clock(mode: str) -> Callable[[], float]:
    def clock() -> float:
        if mode == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    return clock


def _origin(mode: str, count: int) -> str:
    if mode != "cuda":
        return f"measured on this host's CPU by gpu:{mode}; says nothing about a GPU"
    return (
        f"measured on {torch.cuda.get_device_name()}: wall clock with the device waited for, median of "
        f"{count} rounds in which all candidates take turns"
    )


def _row(
    name: str,
    amount: dict[str, int],
    found: Rounds,
    counts: Counts,
    bandwidth: float,
    origin: str,
    prompt: int,
    sessions: int,
) -> dict[str, Any]:
    """A row: what a candidate did per second, and against what it is held."""
    seconds = found.typical(name) / amount[name]
    theirs = name.startswith("bf16")
    reading = "prompt" not in name and "sessions" not in name
    peer = "bf16 decode" if reading else "bf16 prompt" if "prompt" in name else None
    weights = counts.macs * 2 if theirs else counts.weights
    macs = counts.prompt_macs if "prompt" in name else counts.macs
    ratio = None if theirs or peer is None else found.ratio(name, peer) * amount[name] / amount[peer]
    shared = prompt if "prompt" in name else sessions if "sessions" in name else 1
    moved = counts.macs * 2 if theirs else counts.packed
    return {
        "kernel": name,
        "tokens_per_second": round(1 / seconds, 1),
        "bytes_moved_per_token": round(moved / shared) + (0 if theirs else counts.values),
        "weight_bytes": weights,
        "share_of_bandwidth": round(weights / seconds / bandwidth, 4) if reading else None,
        "tops": None if reading else round(2 * macs / seconds / 1e12, 3),
        "ratio_to": {"bf16": None if ratio is None else round(ratio, 3)},
        "origin": origin,
    }
