"""A whole engine for imported models in Verilator, on a behavioural memory: logits and states of tokens."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ternac.compile.wide_code import WORD_BYTES, WideCode
from ternac.compile.wide_memory import lay_out
from ternac.errors import BuildFailed, require
from ternac.sim.board import compile_verilog
from ternac.sim.stream import USUAL

if TYPE_CHECKING:
    from ternac.hdl.wide.engine import WideEngine

__all__ = ["MAIN", "WideRun", "build_wide", "engine_for", "run_program", "run_wide"]

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


def engine_for(code: WideCode, **settings: Any) -> WideEngine:
    """Return the smallest engine that holds a code."""
    from ternac.hdl.wide.engine import WideEngine

    image = code.image
    return WideEngine(
        port_bits=8 * code.port_bytes, lanes=code.lanes, encoding=code.encoding, slots=image.slots,
        depth=max(2, image.vectors // code.lanes), x_depth=max(2, image.activations // code.port_bytes),
        code_depth=max(2, len(code.words)), matrices=max(2, len(code.matrices)), **settings,
    )  # fmt: skip


def build_wide(engine: WideEngine, *, say: Say = lambda text: None) -> Path:
    """Return the program that runs tokens on an engine, built unless the cache has it."""
    from amaranth.back import verilog
    from amaranth.hdl import Value

    members = engine.signature.flatten(engine)
    ports = {"_".join(path): (Value.cast(value), None) for path, _, value in members}
    text = verilog.convert(engine, name="board", ports=ports, emit_src=False)
    return compile_verilog(str(text), main=MAIN, say=say)


def run_wide(
    program: Path, engine: WideEngine, code: WideCode, tokens: Sequence[int], **options: int
) -> WideRun:
    """Run tokens of one session; ``options``: the memory's, instead of `USUAL`, others of wide_main.cpp.

    Raises DoesNotFit if the engine cannot hold the code, BuildFailed if the run ends without a result.
    """
    settings = {"word_bytes": code.port_bytes, **USUAL, **options}
    found, logits, states = run_program(program, engine, code, tokens, settings)
    beats = np.subtract(found["beats_ended"], found["beats_begun"]).tolist()
    return WideRun(
        logits, states, found["begun"], found["ended"], beats, found["beats"], found["cycles"], found["fault"]
    )


def run_program(
    program: Path,
    engine: WideEngine,
    code: WideCode,
    tokens: Sequence[int],
    settings: Mapping[str, int],
    arguments: Sequence[str] = (),
) -> tuple[dict[str, Any], npt.NDArray[np.int16], npt.NDArray[np.int16]]:
    """Run a simulated engine on files of its memory, code and tokens: what it prints, logits, states.

    Errors as `run_wide`.
    """
    _check_fit(engine, code)
    memory = lay_out(code.weights, code.constants, code.embedding, code.port_bytes)
    layout = engine.products.desc_layout
    size = -(-layout.size // 32) * 4
    descriptors = b"".join(
        layout.const({
            "address": memory.weights + each.address, "beats": each.beats(code.encoding), "rows": each.rows,
            "words": each.words, "x_base": each.x_base, "fence": each.fence,
        }).as_value().value.to_bytes(size, "little")
        for each in code.matrices
    )  # fmt: skip
    words = b"".join(word.to_bytes(WORD_BYTES, "little") for word in code.words)
    given = {
        "vector_bytes": 2 * code.lanes,
        "vectors": engine.core.depth,
        "code_bytes": WORD_BYTES,
        "matrix_bytes": size,
        "constants_base": memory.constants,
        "constants_words": memory.constant_words,
        "rows_base": memory.rows,
        "rows_words": memory.row_words,
        "limit": 1 << 40,
        **settings,
    }
    with tempfile.TemporaryDirectory(prefix="ternac-wide-") as scratch:
        folder = Path(scratch)
        memory.image.tofile(folder / "memory")
        (folder / "code").write_bytes(words)
        (folder / "matrices").write_bytes(descriptors)
        np.asarray(tokens, np.uint16).tofile(folder / "tokens")
        files = ("memory", "code", "matrices", "tokens", "logits", "states")
        done = subprocess.run(
            [
                str(program.resolve()),
                *files,
                *arguments,
                *(f"{name}={value}" for name, value in given.items()),
            ],
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
    places = [states[:, at : at + code.image.program.states[name]] for name, at in code.image.states.items()]
    return json.loads(done.stdout), logits, np.concatenate(places, axis=1)


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
