"""Archives of a small program, for tests."""

from __future__ import annotations

import io
from pathlib import Path

from ternac.host.compress import Totals, compress, decompress, read_range
from ternac.program.file import load
from ternac.program.program import Program
from ternac.run.archive import Reader
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.texts import Coder, ExecutorSessions, StepCoder

VECTORS = Path(__file__).parents[1] / "vectors"


def program() -> Program:
    """A random program over bytes, of which archives are frozen."""
    return load(VECTORS / "lm-bytes.safetensors")


def plain_coder(of: Program | None = None) -> Coder:
    return StepCoder(ExecutorSessions(NumpyExecutor(of or program())))


def archive_of(data: bytes, coder: Coder, block: int = 64) -> bytes:
    return archive_and_totals(data, coder, block)[0]


def archive_and_totals(data: bytes, coder: Coder, block: int = 64) -> tuple[bytes, Totals]:
    sink = io.BytesIO()
    totals = compress([data], sink, coder, block=block)
    return sink.getvalue(), totals


def text_of(archive: bytes, coder: Coder) -> bytes:
    sink = io.BytesIO()
    decompress(Reader(io.BytesIO(archive)), sink, coder)
    return sink.getvalue()


def range_of(archive: bytes, coder: Coder, start: int, end: int | None) -> bytes:
    sink = io.BytesIO()
    read_range(Reader(io.BytesIO(archive)), sink, coder, start, end)
    return sink.getvalue()
