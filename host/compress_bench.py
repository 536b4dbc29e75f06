"""Texts compressed by a model, and by the usual compressors, in one run.

Each compressor gets the text whole; those that can take what the model has learned are also given the text
that it was trained on: zstd as a dictionary, PPMd as what it has read before.
"""

from __future__ import annotations

import bz2
import io
import lzma
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any

import numpy as np

from ternac.compile.compiler import compile_program
from ternac.errors import DoesNotFit, Mismatch
from ternac.hdl.boards.boards import board
from ternac.hdl.engine.sampler import span_latency
from ternac.hdl.engine.schedule import schedule
from ternac.host.compress import compress, decompress
from ternac.program.program import Program
from ternac.run.archive import Reader
from ternac.run.coding import UNIT
from ternac.run.texts import Coder
from ternac.text.tokenizer import tokenizer_of

__all__ = ["PEERS", "PUBLISHED", "bench_model", "bench_peer", "board_rate", "why_missing"]

PPMD_ORDER, PPMD_MEMORY = 16, 1 << 30
LINE_BAUD = 3_000_000
SPAN_LINE_BYTES = 79
"""Bytes of the line that a token and its span take, both ways: a RUN of one token and a READ with answers."""
RATED_TOKENS = 1 << 16
"""Tokens of the text on which the executor's own rate is measured."""

PUBLISHED = [
    {
        "compressor": "ts_zip (RWKV 169M)",
        "alice29": 1.142,
        "enwik8": 1.106,
        "origin": "https://bellard.org/ts_zip; up to 1 MB/s on an RTX 4090, as said there",
    },
    {
        "compressor": "cmix v21",
        "alice29": 1.63,
        "enwik8": 1.17,
        "origin": "as measured in arXiv:2602.19626",
    },
    {
        "compressor": "Nacrith (SmolLM2-135M)",
        "alice29": 0.918,
        "enwik8": 0.9389,
        "origin": "arXiv:2602.19626",
    },
]
"""Bits per byte that others report for two well-known files, not measured here."""


@dataclass(frozen=True)
class Peer:
    """A compressor: ``pack`` and ``unpack`` a text, given another one; it needs that if ``trained``."""

    pack: Callable[[bytes, bytes], bytes]
    unpack: Callable[[bytes, bytes], bytes] | None
    package: str = ""
    trained: bool = False


def _zstd(data: bytes, before: bytes) -> bytes:
    import zstandard

    return bytes(
        zstandard.ZstdCompressor(compression_params=_zstd_params(data, before), **_prefix(before)).compress(
            data
        )
    )


def _zstd_back(data: bytes, before: bytes) -> bytes:
    import zstandard

    return bytes(zstandard.ZstdDecompressor(max_window_size=1 << 31, **_prefix(before)).decompress(data))


def _zstd_params(data: bytes, before: bytes) -> Any:
    import zstandard

    window = min(max((len(data) + len(before)).bit_length(), 19), 31)
    return zstandard.ZstdCompressionParameters.from_level(
        19, window_log=window, enable_ldm=bool(before), source_size=len(data)
    )


def _prefix(before: bytes) -> dict[str, Any]:
    import zstandard

    if not before:
        return {}
    return {"dict_data": zstandard.ZstdCompressionDict(before, dict_type=zstandard.DICT_TYPE_RAWCONTENT)}


def _ppmd(data: bytes, before: bytes) -> bytes:
    """Of both texts, what comes behind the first."""
    import pyppmd

    coder = pyppmd.Ppmd7Encoder(PPMD_ORDER, PPMD_MEMORY)
    if before:
        coder.encode(before)
    return bytes(coder.encode(data) + coder.flush())


def _xz(data: bytes, before: bytes) -> bytes:
    return lzma.compress(data, preset=9)


PEERS: dict[str, Peer] = {
    "xz -9": Peer(_xz, lambda data, before: lzma.decompress(data)),
    "bzip2 -9": Peer(lambda data, before: bz2.compress(data, 9), lambda data, before: bz2.decompress(data)),
    "zstd -19": Peer(_zstd, _zstd_back, "zstandard"),
    "zstd -19, given the training text": Peer(_zstd, _zstd_back, "zstandard", True),
    f"PPMd, order {PPMD_ORDER}": Peer(_ppmd, None, "pyppmd"),
    f"PPMd, order {PPMD_ORDER}, given the training text": Peer(_ppmd, None, "pyppmd", True),
}


def why_missing(peer: Peer) -> str:
    """Return why a compressor is not here; empty if it is."""
    if peer.package and find_spec(peer.package) is None:
        return f"{peer.package} is not installed: pip install ternac[compare]"
    return ""


def bench_peer(peer: Peer, data: bytes, before: bytes) -> dict[str, Any]:
    """Compress a text; the time of a compressor that reads the training text first includes that.

    Raises Mismatch if it does not come back.
    """
    prior = before if peer.trained else b""
    began = time.process_time()
    packed = peer.pack(data, prior)
    seconds = time.process_time() - began
    back = None
    if peer.unpack is not None:
        began = time.process_time()
        if peer.unpack(packed, prior) != data:
            raise Mismatch("a compressor gave another text back")
        back = time.process_time() - began
    return {
        "bits_per_byte": 8 * len(packed) / len(data),
        "kb_per_cpu_second": _rate(len(data), seconds),
        "kb_per_cpu_second_back": None if back is None else _rate(len(data), back),
    }


def bench_model(coder: Coder, data: bytes, *, block: int) -> dict[str, Any]:
    """Compress a text by a model and back. Raises Mismatch if it does not come back.

    ``coder_share`` is the part of the executor's own speed that is reached: its tokens a second at feeding
    the same text, without any coding, tokens or files, against those of compressing.
    """
    sink, came = io.BytesIO(), io.BytesIO()
    wall, cpu = time.perf_counter(), time.process_time()
    totals = compress([data], sink, coder, block=block)
    there = time.perf_counter() - wall, time.process_time() - cpu
    wall, cpu = time.perf_counter(), time.process_time()
    decompress(Reader(io.BytesIO(sink.getvalue())), came, coder)
    back = time.perf_counter() - wall, time.process_time() - cpu
    if came.getvalue() != data:
        raise Mismatch("the archive gave another text back")
    fed = fed_per_cpu_second(coder, data)
    return {
        "bits_per_byte": 8 * totals.stored / totals.text,
        "model_bits_per_byte": totals.cost / UNIT / totals.text if not totals.rest else None,
        "overhead": 8 * totals.stored * UNIT / totals.cost - 1 if not totals.rest else None,
        "bytes_not_in_tokens": totals.rest,
        "kb_per_second": _rate(totals.text, there[0]),
        "kb_per_second_back": _rate(totals.text, back[0]),
        "kb_per_cpu_second": _rate(totals.text, there[1]),
        "kb_per_cpu_second_back": _rate(totals.text, back[1]),
        "tokens": totals.tokens,
        "fed_tokens_per_cpu_second": fed,
        "share_of_feeding": None if fed is None else totals.tokens / there[1] / fed,
        "share_of_feeding_back": None if fed is None else totals.tokens / back[1] / fed,
    }


def board_rate(program: Program, name: str, bytes_per_token: float) -> dict[str, Any]:
    """Return the rate at which a board with spans would compress, in closed form: a token's cycles, as the
    RTL counts them, and those of its span, at the clock of the board's own bitstream; and what the line
    allows.

    ``why_null`` says why a program has none.
    """
    target = board(name)
    geometry = replace(target.engine, name=f"{target.geometry}-spans", spans=1)
    try:
        image = compile_program(program, geometry)
    except DoesNotFit as error:
        return {"board": name, "why_null": str(error)}
    token = schedule(image, emit=False).cycles
    span = span_latency(geometry.sampler_pace, program.vocab)
    tokens = target.clock_hz / (token + span)
    line = LINE_BAUD / 10 / SPAN_LINE_BYTES
    return {
        "board": name,
        "cycles_per_token": token,
        "cycles_of_span": span,
        "clock_hz": target.clock_hz,
        "tokens_per_second": tokens,
        "kb_per_second": tokens * bytes_per_token / 1000,
        "line_baud": LINE_BAUD,
        "line_tokens_per_second": line,
        "line_kb_per_second": line * bytes_per_token / 1000,
        "origin": "estimate: cycles in closed form at the clock of the shipped bitstream, which has no spans",
    }


def fed_per_cpu_second(coder: Coder, data: bytes) -> float | None:
    """Return the native executor's tokens per second of one processor, fed with a text; None of others."""
    from ternac.host.native.coder import NativeCoder
    from ternac.host.native.executor import NativeExecutor

    if not isinstance(coder, NativeCoder):
        return None
    ids = tokenizer_of(coder.program, assume_bytes=True).encode(data[: 1 << 17]).ids[:RATED_TOKENS]
    executor = NativeExecutor(coder.program, threads=1)
    rates = []
    for _ in range(3):
        state, began = executor.open(1), time.process_time()
        executor.feed(state, ids, np.zeros(len(ids), np.int32))
        rates.append(len(ids) / (time.process_time() - began))
    executor.close()
    return max(rates)


def _rate(count: int, seconds: float) -> float:
    return count / 1000 / max(seconds, 1e-9)
