"""Whole tokens of the native executor, for ``ternac bench host``: beside NumPy, beside the products alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ternac.errors import Mismatch
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.geometry import random_weights, shape_program
from ternac.host.native.library import best_isa
from ternac.host.native.measure import ORIGIN, rounds
from ternac.program.mmfree_sizes import Shape
from ternac.program.program import Program
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import GREEDY, choose

TOKENS = 32


def bench_shipped(program: Program, count: int) -> dict[str, Any]:
    """Tokens per second of a small model, one session, greedy: native in one call, NumPy token by token.

    Mismatch unless both choose the same tokens.
    """
    slow, fast = NumpyExecutor(program), NativeExecutor(program, threads=1)
    state = slow.open(), fast.open()
    last = [1]

    def numpy() -> list[int]:
        token, found = last[0], []
        for _ in range(TOKENS):
            token, _ = choose(slow.step(state[0], np.array([token]))[0], GREEDY, 1)
            found.append(token)
        return found

    def native() -> list[int]:
        return fast.generate(state[1], last, TOKENS, GREEDY, [1])[0][0].tolist()

    if numpy() != native() or (state[0] != state[1]).any():
        raise Mismatch(f"native and NumPy generate different tokens from {program.name}")
    found = rounds({"numpy": numpy, "native": native}, count)
    fast.close()
    return {
        "shipped_model": program.name,
        "shipped_tokens_per_second": round(TOKENS / found.typical("native"), 1),
        "shipped_numpy_tokens_per_second": round(TOKENS / found.typical("numpy"), 1),
        "shipped_ratio_to_numpy": round(found.ratio("native", "numpy"), 2),
        "shipped_origin": ORIGIN.format(count) + f"; {TOKENS} tokens a call, greedy, one session",
    }


def bench_geometry(
    shape: Shape, bits: str, threads: int, sessions: int, count: int, say: Callable[[str], object]
) -> dict[str, Any]:
    """A model of a published size with random trits: one session, ``sessions`` at a time, and a prompt."""
    before = _resident()
    isa = best_isa()
    say(f"random weights of {shape.name}: {shape.trits:,} trits at {bits} bits")
    program = shape_program(shape)
    executor = NativeExecutor(program, weights=random_weights(program, isa, bits), threads=threads)
    sessions = min(sessions, executor.rows)
    one, many = executor.open(1), executor.open(sessions)
    rng = np.random.default_rng(3)
    first = rng.integers(0, shape.vocab, sessions).tolist()
    slots, want = np.zeros(executor.rows, np.int32), np.zeros(executor.rows, np.uint8)
    prompt = rng.integers(0, shape.vocab, executor.rows)
    alone = executor.generate(executor.open(1), first[:1], 2, GREEDY, [1])[0]
    if not (
        executor.generate(executor.open(sessions), first, 2, GREEDY, [1] * sessions)[0][:1] == alone
    ).all():
        raise Mismatch(f"{shape.name}: a session gives other tokens among {sessions} than alone")
    clock, origin = time.thread_time, ORIGIN.format(count)
    if threads > 1:
        clock = time.perf_counter
        origin = f"measured on this host: wall clock, {threads} threads, median of {count} interleaved rounds"
    found = rounds(
        {
            "token": lambda: executor.generate(one, first[:1], 1, GREEDY, [1]),
            "products": executor.products_only,
            "batch": lambda: executor.generate(many, first, 1, GREEDY, [1] * sessions),
            "batch products": lambda: executor.products_only(sessions),
            "prompt": lambda: executor.feed(one, prompt, slots, want),
        },
        count,
        clock=clock,
    )
    rate = {"token": 1, "batch": sessions, "prompt": len(prompt)}
    speed = {name: tokens / found.typical(name) for name, tokens in rate.items()}
    held, packed = executor.bytes_held, shape.trits * {"2": 2.0, "1.6": 1.6}[bits] / 8
    result = {
        "geometry": shape.name,
        "bits_per_weight": bits,
        "isa": isa,
        "threads": threads,
        "trits": shape.trits,
        "tokens_per_second": round(speed["token"], 2),
        "products_only_tokens_per_second": round(1 / found.typical("products"), 2),
        "fraction_of_products": round(found.ratio("token", "products"), 4),
        "sessions": sessions,
        "sessions_tokens_per_second": round(speed["batch"], 2),
        "sessions_ratio_to_one": round(sessions * found.ratio("batch", "token"), 2),
        "sessions_fraction_of_products": round(found.ratio("batch", "batch products"), 4),
        "prompt_tokens": len(prompt),
        "prompt_tokens_per_second": round(speed["prompt"], 2),
        "prompt_ratio_to_one": round(len(prompt) * found.ratio("prompt", "token"), 2),
        "bytes_held": held,
        "packed_bytes": round(packed),
        "held_over_packed": round((held["weights"] + held["rows"]) / packed, 4),
        "held_origin": "memory of the executor, weights and rows of values, over trits x bits / 8; the "
        f"embedding and the tables, {held['other']:,} bytes, belong to the program and are not copied",
        "resident_bytes_grown": None if before is None else (_resident() or 0) - before,
        "origin": origin,
    }
    executor.close()
    return result


def _resident() -> int | None:
    """Bytes of this process in memory; None where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    except OSError:
        return None
