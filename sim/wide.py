"""A whole engine for imported models in Verilator, on a behavioural memory: logits and states of tokens."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ternac.cache import DESIGN, cached, sources
from ternac.compile.wide_code import WORD_BYTES, WideCode
from ternac.compile.wide_memory import lay_out
from ternac.errors import BuildFailed, require
from ternac.sim.board import compile_verilog
from ternac.sim.stream import USUAL, most_cycles

if TYPE_CHECKING:
    from amaranth.lib.wiring import Component

    from ternac.hdl.wide.engine import WideEngine

__all__ = [
    "digits_for",
    "MAIN",
    "WideRun",
    "build_wide",
    "emit_wide",
    "engine_for",
    "run_wide",
    "write_memories",
]

Say = Callable[[str], None]
MAIN = Path(__file__).with_name("wide_main.cpp")


@dataclass(frozen=True)
class WideRun:
    """What a run gave: ``logits`` int16[tokens, vocab], ``states`` int16[states read, elements], cycles.

    ``begun`` and ``ended``: the cycles of each token's begin and end; ``beats`` came in between.
    """

    logits: npt.NDArray[np.int16]
    states: npt.NDArray[np.int16]
    begun: Sequence[int]
    ended: Sequence[int]
    beats: Sequence[int]
    total_beats: int
    cycles: int
    fault: int

    @property
    def token_cycles(self) -> list[int]:
        """Cycles of each token, from its begin to its last result."""
        return [end - begin for begin, end in zip(self.begun, self.ended, strict=True)]


def engine_for(code: WideCode, *, spare: bool = False, **settings: Any) -> WideEngine:
    """Return the smallest engine that holds a code; with ``spare`` every memory is a power of two of at least
    64 words, so that programs of like sizes share one.
    """
    from ternac.hdl.wide.engine import WideEngine

    def words(needed: int) -> int:
        return 1 << max(6, (needed - 1).bit_length()) if spare else max(2, needed)

    image = code.image
    return WideEngine(
        port_bits=8 * code.port_bytes, lanes=code.lanes, encoding=code.encoding, slots=image.slots,
        depth=words(image.vectors // code.lanes), x_depth=words(image.activations // code.port_bytes),
        code_depth=words(len(code.words)), matrices=words(len(code.matrices)), **settings,
    )  # fmt: skip


def digits_for(code: WideCode) -> int:
    """Return the digits a cycle, two at least, with which a sum is rescaled while the next one's words come.

    Rows of 256 weights are four words of 128 bits; with two digits a sum takes seven cycles.
    """
    from ternac.hdl.wide.rescale import RescaleUnit

    shortest = min(each.beats(code.encoding) // each.rows for each in code.matrices)
    return max(2, -(-RescaleUnit.MOST // max(1, shortest)))


def build_wide(engine: WideEngine, *, say: Say = lambda text: None) -> Path:
    """Return the program that runs tokens on an engine, built unless the cache has it."""

    def emit_source(scratch: Path, log: Path) -> None:
        (scratch / "board.v").write_text(emit_wide(engine))

    key = (repr(engine.settings), "wide", sources(*DESIGN, "sim/wide.py"))
    source = cached("verilog", key, emit_source, say=say) / "board.v"
    return compile_verilog(source.read_text(), main=MAIN, say=say)


def emit_wide(engine: Component) -> str:
    """Return the Verilog of an engine, module ``board``."""
    from amaranth.back import verilog
    from amaranth.hdl import Value

    members = engine.signature.flatten(engine)
    ports = {"_".join(path): (Value.cast(value), None) for path, _, value in members}
    return str(verilog.convert(engine, name="board", ports=ports, emit_src=False))


def write_memories(folder: Path, engine: WideEngine, code: WideCode) -> dict[str, int]:
    """Write the files ``memory``, ``code`` and ``matrices`` of wide_main.cpp; returns the options for them.

    Raises DoesNotFit if the engine cannot hold the code.
    """
    _check_fit(engine, code)
    memory = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
    size = -(-engine.products.desc_layout.size // 32) * 4
    descriptors = b"".join(word.to_bytes(size, "little") for word in engine.descriptors(code, memory))
    memory.image.tofile(folder / "memory")
    (folder / "code").write_bytes(b"".join(word.to_bytes(WORD_BYTES, "little") for word in code.words))
    (folder / "matrices").write_bytes(descriptors)
    return {
        "word_bytes": code.port_bytes,
        "vector_bytes": 2 * code.lanes,
        "code_bytes": WORD_BYTES,
        "matrix_bytes": size,
        "constants_base": memory.constants,
        "constants_words": memory.constant_words,
        "rows_base": memory.rows,
        "rows_words": memory.row_words,
    }


def run_wide(
    program: Path, engine: WideEngine, code: WideCode, tokens: Sequence[int], **options: int
) -> WideRun:
    """Run tokens of one session; ``options``: the memory's, instead of `USUAL`, others of wide_main.cpp.

    Raises DoesNotFit if the engine cannot hold the code, BuildFailed if the run ends without a result.
    """
    with tempfile.TemporaryDirectory(prefix="ternac-wide-") as scratch:
        folder = Path(scratch)
        given = {
            **write_memories(folder, engine, code), "vectors": engine.core.depth,
            "limit": most_cycles(code.weights.size // code.port_bytes) * len(tokens), **USUAL, **options,
        }  # fmt: skip
        np.asarray(tokens, np.uint16).tofile(folder / "tokens")
        files = ("memory", "code", "matrices", "tokens", "logits", "states")
        done = subprocess.run(
            [str(program.resolve()), *files, *(f"{name}={value}" for name, value in given.items())],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if not done.stdout.startswith("{"):
            why = done.stderr.strip()
            raise BuildFailed(f"the simulation gave no result (status {done.returncode}): {why}")
        logits = np.fromfile(folder / "logits", np.int16).reshape(len(tokens), -1)
        states = np.fromfile(folder / "states", np.int16).reshape(-1, engine.core.depth * code.lanes)
    found = json.loads(done.stdout)
    beats = np.subtract(found["beats_ended"], found["beats_begun"]).tolist()
    places = [states[:, at : at + code.image.program.states[name]] for name, at in code.image.states.items()]
    return WideRun(
        logits, np.concatenate(places, axis=1), found["begun"], found["ended"], beats, found["beats"],
        found["cycles"], found["fault"],
    )  # fmt: skip


def _check_fit(engine: WideEngine, code: WideCode) -> None:
    """Raises DoesNotFit where a memory of the engine is too small: it would run what was never written."""
    image, core = code.image, engine.core
    for resource, needed, limit in (
        ("instructions", len(code.words), core.code_depth),
        ("words of vectors", -(-image.vectors // code.lanes), core.depth),
        ("words of activations", -(-image.activations // code.port_bytes), engine.products.x_depth),
        ("matrices", len(code.matrices), engine.loop.memory.depth),
    ):
        message = f"the program needs {needed:,} {resource}, this engine has {limit:,}"
        require(resource, needed, limit, message)
