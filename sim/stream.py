"""The streaming matrix-vector unit in Verilator, on a behavioural memory: random matrices, checked."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ternac.compile.stream_layout import Descriptor, Encoding, pack_matrix
from ternac.errors import BuildFailed
from ternac.program.mmfree import Phase
from ternac.sim.board import compile_verilog

__all__ = [
    "IDEAL",
    "MAIN",
    "USUAL",
    "Job",
    "build_stream",
    "make_job",
    "most_cycles",
    "place_activations",
    "run_job",
]

Say = Callable[[str], None]

MAIN = Path(__file__).with_name("stream_main.cpp")

IDEAL = {"latency_min": 40, "latency_max": 40, "gap": 0, "slow": 0, "stall": 0}
"""A memory that answers every burst after 40 cycles, a beat a cycle."""

USUAL = {"latency_min": 40, "latency_max": 120, "gap": 16, "slow": 256, "stall": 0}
"""A memory of random latency, without data in 16 of 1024 cycles, busy for addresses in a quarter of them."""


def most_cycles(words: int) -> int:
    """Return the cycles after which a run over so many words of weights hangs, and is stopped."""
    return 1000 * (words + 10_000)


@dataclass(frozen=True)
class Job:
    """Input of a run (see stream_main.cpp): ``phases`` holds descriptors, ``sums`` all rows in order."""

    phases: tuple[tuple[Descriptor, ...], ...]
    weights: npt.NDArray[np.uint8]
    activations: npt.NDArray[np.int8]
    sums: npt.NDArray[np.int32]

    def repeat(self, times: int) -> Job:
        """Return the same matrices and activations ``times`` over."""
        return Job(
            self.phases * times, self.weights, np.tile(self.activations, times), np.tile(self.sums, times)
        )

    def then(self, other: Job) -> Job:
        """Return both jobs as one, the other's weights behind this one's."""
        moved = tuple(
            tuple(replace(each, address=each.address + self.weights.size) for each in phase)
            for phase in other.phases
        )
        return Job(
            self.phases + moved,
            np.concatenate((self.weights, other.weights)),
            np.concatenate((self.activations, other.activations)),
            np.concatenate((self.sums, other.sums)),
        )


def place_activations(phases: Sequence[Phase], port_bytes: int) -> tuple[list[list[int]], int]:
    """Return the first word of each matrix's activations, and the words that all need.

    When a phase's vectors are written, only the sums of the phase before are still needed; so the vectors of
    every phase begin at word 0.
    """
    bases, depth = [], 0
    for phase in phases:
        at, found = 0, []
        for _, _, columns in phase:
            found.append(at)
            at += -(-columns // port_bytes)
        bases.append(found)
        depth = max(depth, at)
    return bases, depth


def make_job(phases: Sequence[Phase], port_bytes: int, encoding: Encoding, seed: int) -> Job:
    """Return random matrices and activations, with the sums that NumPy makes of them."""
    rng = np.random.default_rng(seed)
    bases, _ = place_activations(phases, port_bytes)
    made, weights, vectors, sums, address = [], [], [], [], 0
    for phase, places in zip(phases, bases, strict=True):
        descriptors = []
        for (_, rows, columns), base in zip(phase, places, strict=True):
            trits = rng.integers(-1, 2, (rows, columns), np.int8)
            words = -(-columns // port_bytes)
            x = np.zeros(words * port_bytes, np.int8)
            x[:columns] = rng.integers(-128, 128, columns, np.int8)
            # Exact: every partial sum is an integer below 2**24.
            sums.append(trits.astype(np.float32) @ x[:columns].astype(np.float32))
            packed = pack_matrix(trits, port_bytes, encoding)
            descriptors.append(Descriptor(address, rows, words, base, True))
            weights.append(packed)
            vectors.append(x)
            address += packed.size
        made.append(tuple(descriptors))
    return Job(
        tuple(made), np.concatenate(weights), np.concatenate(vectors), np.concatenate(sums).astype(np.int32)
    )


def build_stream(unit: Any, *, say: Say = lambda text: None) -> Path:
    """Return the program that runs jobs on a ``StreamMatVec``, built unless the cache has it."""
    from amaranth.back import verilog
    from amaranth.hdl import Value

    members = unit.signature.flatten(unit)
    ports = {"_".join(path): (Value.cast(value), None) for path, _, value in members}
    text = verilog.convert(unit, name="board", ports=ports, emit_src=False)
    return compile_verilog(str(text), main=MAIN, say=say)


def run_job(program: Path, unit: Any, job: Job, **options: int) -> dict[str, Any]:
    """Run a job; return what stream_main.cpp prints, wrong sums and faults included.

    ``options`` are the memory's, instead of those in `USUAL`, and ``turnaround``, ``seed``, ``limit``.
    Raises BuildFailed if the run ends without a result.
    """
    from ternac.hdl.stream.matvec import ROWS_BITS, WORDS_BITS
    from ternac.hdl.stream.reader import BEATS_BITS

    size = unit.port_bits // 8
    lines = []
    for phase in job.phases:
        lines.append("P")
        lines += [f"X {d.x_base} {d.words}" for d in phase]
        lines += [
            f"M {d.address} {d.beats(unit.encoding)} {d.rows} {d.words} {d.x_base} {int(d.fence)}"
            for d in phase
        ]
    given = {
        "word_bytes": size,
        "address_bits": unit.reader.address_bits,
        "beats_bits": BEATS_BITS,
        "rows_bits": ROWS_BITS,
        "words_bits": WORDS_BITS,
        "x_bits": (unit.x_depth - 1).bit_length(),
        "sum_bits": unit.lanes.sum_bits,
        "limit": most_cycles(sum(d.beats(unit.encoding) for phase in job.phases for d in phase)),
        **USUAL,
        **options,
    }
    with tempfile.TemporaryDirectory(prefix="ternac-stream-") as scratch:
        folder = Path(scratch)
        files: dict[str, npt.NDArray[Any]] = {
            "weights": job.weights,
            "activations": job.activations,
            "sums": job.sums,
        }
        for name, content in files.items():
            content.tofile(folder / name)
        (folder / "job").write_text("\n".join(lines) + "\n")
        done = subprocess.run(
            [str(program.resolve()), "job", *files, *(f"{name}={value}" for name, value in given.items())],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    if not done.stdout.startswith("{"):
        raise BuildFailed(f"the simulation gave no result (status {done.returncode}): {done.stderr.strip()}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found
