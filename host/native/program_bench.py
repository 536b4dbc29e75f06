"""A whole program on the native executor: its time by op kind, and llama.cpp's TQ2_0 at equal trits.

All candidates take turns (:mod:`ternac.host.native.measure`); a ratio is the median of the rounds.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.errors import Mismatch
from ternac.host.native.bench import Ggml, ggml_rows
from ternac.host.native.executor import NativeExecutor
from ternac.host.native.library import load
from ternac.host.native.llama import Llama, find_llama
from ternac.host.native.measure import ORIGIN, rounds
from ternac.model.export.llama import write_llama
from ternac.program.mmfree import Shape
from ternac.program.program import Program
from ternac.run.sampling import EXP, GREEDY, Sampling

WAITING = "waiting"
"""What `NativeExecutor.time_ops` calls the wait for other threads."""
SAMPLINGS = {"greedy": (0.0, 0), "temperature 0.8": (0.8, 0), "temperature 0.8, top-k 40": (0.8, 40)}
Times = dict[str, npt.NDArray[np.int64]]


@dataclass(frozen=True)
class Setting:
    """What to measure: threads, tokens of a prompt, sessions at a time, rounds."""

    threads: int = 1
    prompt: int = 64
    sessions: int = 16
    rounds: int = 9


class Subject:
    """The program on the native executor, and what it is asked to do.

    Raises Mismatch if a prompt at once leaves another state or other logits than token by token.
    """

    def __init__(self, executor: NativeExecutor, setting: Setting) -> None:
        self.executor, self.setting = executor, setting
        rng = np.random.default_rng(3)
        vocab = executor.program.vocab
        self._text = rng.integers(0, vocab, setting.prompt)
        self._first = rng.integers(0, vocab, setting.sessions).tolist()
        self._one, self._many = executor.open(1), executor.open(setting.sessions)
        at_once, one_by_one = executor.open(1), executor.open(1)
        logits = executor.feed(at_once, self._text, self._slots, self._want)
        for token in self._text:
            last = executor.step(one_by_one, [token])
        if not (np.array_equal(logits, last) and np.array_equal(at_once, one_by_one)):
            raise Mismatch(f"{executor.program.name}: a prompt at once differs from token by token")
        self.logits = last[0].astype(np.int16)

    @property
    def _slots(self) -> npt.NDArray[np.int32]:
        return np.zeros(self.setting.prompt, np.int32)

    @property
    def _want(self) -> npt.NDArray[np.uint8]:
        want = np.zeros(self.setting.prompt, np.uint8)
        want[-1] = 1
        return want

    def token(self) -> None:
        """One session's next token, greedily."""
        self.executor.generate(self._one, self._first[:1], 1, GREEDY, [1])

    def prompt(self) -> None:
        """A text of one session, the logits of its last token."""
        self.executor.feed(self._one, self._text, self._slots, self._want)

    def sessions(self) -> None:
        """A token of each session."""
        count = self.setting.sessions
        self.executor.generate(self._many, self._first, 1, GREEDY, [1] * count)

    def times(self) -> tuple[Times, Times]:
        """Nanoseconds of each op by kind: of a token, and of a text, of all its tokens."""
        one = self.executor.time_ops(self._one, self._first[:1], np.zeros(1, np.int32))
        return one, self.executor.time_ops(self._one, self._text, self._slots, self._want)


def by_kind(one: Times, text: Times, tokens: int) -> list[dict[str, Any]]:
    """A row for each op kind, the slowest first: how many ops, microseconds and share, alone and in a text.

    ``one`` and ``text``: nanoseconds of each op, of a token and of a text of ``tokens``.
    """

    def total(times: Times) -> int:
        return max(1, sum(int(spent.sum()) for spent in times.values()))

    rows = [
        {
            "kind": kind,
            "ops": len(spent) * (kind != WAITING),
            "us": round(int(spent.sum()) / 1e3, 1),
            "share": round(int(spent.sum()) / total(one), 4),
            "prompt_us": round(int(text[kind].sum()) / 1e3 / tokens, 1),
            "prompt_share": round(int(text[kind].sum()) / total(text), 4),
        }
        for kind, spent in one.items()
    ]
    return sorted(rows, key=lambda row: -float(row["us"]))


def best_of(rounds_of: list[Times]) -> Times:
    """Each op's least time."""
    return {kind: np.min([times[kind] for times in rounds_of], axis=0) for kind in rounds_of[0]}


def sampler_us(program: Program, logits: npt.NDArray[np.int16], count: int) -> dict[str, float]:
    """Microseconds of choosing a token from ``logits``, the best of ``count`` rounds."""
    ffi, lib = load()
    table, source = ffi.cast("uint16_t *", EXP.ctypes.data), ffi.from_buffer("int16_t[]", logits)

    def choice(sampling: Sampling) -> Callable[[], object]:
        rng = ffi.new("uint32_t *", 1)
        return lambda: lib.tn_choose(
            table, source, len(logits), sampling.greedy, sampling.m, sampling.s, sampling.top_k, rng
        )

    made = {
        name: choice(Sampling.from_temperature(heat, program.logit_scale_bits, top_k))
        for name, (heat, top_k) in SAMPLINGS.items()
    }
    found = rounds(made, count)
    return {name: round(min(found.seconds[name]) * 1e6, 1) for name in made}


def bench_program(
    executor: NativeExecutor,
    shape: Shape | None,
    setting: Setting,
    ggml: Ggml | None,
    why: str,
    say: Callable[[str], object],
) -> dict[str, Any]:
    """Figures of a program; ``shape``, if it is of a published size, lets llama.cpp take part.

    ``ggml`` None: ``why`` there is none. Raises Mismatch as `Subject` does.
    """
    program = executor.program
    say(f"{program.name}: {program.trits:,} ternary weights at {executor.bits} bits, {executor.isa}")
    subject = Subject(executor, setting)
    candidates: dict[str, Callable[[], object]] = {
        "token": subject.token,
        "products": executor.products_only,
        "prompt": subject.prompt,
        "sessions": subject.sessions,
    }
    missing: dict[str, str] = {}
    sizes = [program.consts[name].shape for name, role in program.roles().items() if role == "trits"]
    if ggml is None:
        missing["ggml products"] = why
    elif any(columns % 256 for _, columns in sizes):
        missing["ggml products"] = "TQ2_0 has blocks of 256 weights, and a matrix has another width"
    else:
        candidates["ggml products"] = ggml_rows(ggml, sizes)
    with TemporaryDirectory() as folder:
        llama = _llama(Path(folder), program, shape, setting, missing, say)
        if llama is not None:
            candidates["llama.cpp token"] = llama.token
            candidates["llama.cpp prompt"] = lambda: llama.prompt(setting.prompt)
        say(f"{setting.rounds} rounds of {len(candidates)} candidates")
        clock = time.thread_time if setting.threads == 1 else time.perf_counter
        found = rounds(candidates, setting.rounds, clock=clock)
        if llama is not None:
            llama.close()
    tokens = dict.fromkeys(candidates, 1) | {"prompt": setting.prompt, "sessions": setting.sessions}
    tokens["llama.cpp prompt"] = setting.prompt

    def ratio(name: str, other: str) -> float | None:
        if other not in candidates:
            return None
        return round(found.ratio(name, other) * tokens[name] / tokens[other], 3)

    say("time by op kind")
    each = [subject.times() for _ in range(setting.rounds)]
    one, text = (best_of([times[at] for times in each]) for at in (0, 1))
    origin = ORIGIN.format(setting.rounds)
    if setting.threads > 1:
        turns = f"median of {setting.rounds} interleaved rounds"
        origin = f"measured on this host: wall clock, {setting.threads} threads, {turns}"
    return {
        "program": program.name,
        "trits": program.trits,
        "isa": executor.isa,
        "bits_per_weight": executor.bits,
        "threads": setting.threads,
        "prompt_tokens": setting.prompt,
        "sessions": setting.sessions,
        "tokens_per_second": {name: round(tokens[name] / found.typical(name), 2) for name in candidates},
        "ratios": {
            "token to llama.cpp TQ2_0": ratio("token", "llama.cpp token"),
            "prompt to llama.cpp TQ2_0": ratio("prompt", "llama.cpp prompt"),
            "token to ggml's TQ2_0 products": ratio("token", "ggml products"),
            "products to ggml's TQ2_0 products": ratio("products", "ggml products"),
            "token to its products": ratio("token", "products"),
            "prompt to token": ratio("prompt", "token"),
            "sessions to token": ratio("sessions", "token"),
        },
        "why_null": missing,
        "peers": _versions(ggml, llama),
        "ops": by_kind(one, text, setting.prompt),
        "ops_origin": "measured on this host: wall clock of the first thread, each op's best of "
        f"{setting.rounds} rounds",
        "sampler_us": sampler_us(program, subject.logits, setting.rounds),
        "origin": origin,
    }


def _llama(
    folder: Path,
    program: Program,
    shape: Shape | None,
    setting: Setting,
    missing: dict[str, str],
    say: Callable[[str], object],
) -> Llama | None:
    """llama.cpp with as many trits, or None and the reason in ``missing``."""
    reason = find_llama()
    if shape is None:
        reason = (
            f"{program.name} is of no published size, so that llama's architecture has none of equal trits"
        )
    if reason or shape is None:
        missing["llama.cpp token"] = missing["llama.cpp prompt"] = reason
        return None
    say(f"llama.cpp: a transformer of {shape.trits:,} random trits as TQ2_0")
    trits = write_llama(shape, folder / "llama.gguf")
    if trits != program.trits:
        raise Mismatch(f"llama.cpp's model reads {trits:,} trits a token, {program.name} {program.trits:,}")
    return Llama(folder / "llama.gguf", setting.threads)


def _versions(ggml: Ggml | None, llama: Llama | None) -> Mapping[str, str | None]:
    return {
        "ggml": None if ggml is None else str(ggml.path),
        "llama_cpp": None if llama is None else llama.version,
    }
