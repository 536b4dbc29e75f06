"""A whole engine for imported models in Icarus Verilog, a second simulator beside Verilator."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ternac.compile.wide_code import WORD_BYTES, WideCode
from ternac.errors import BuildFailed, ToolMissing
from ternac.sim.wide import WideRun, emit_wide, write_memories

if TYPE_CHECKING:
    from ternac.hdl.wide.engine import WideEngine

__all__ = ["BENCH", "build_icarus", "run_icarus"]

BENCH = Path(__file__).with_name("wide_bench.v")
MEMORY_BYTES = 1 << 18
"""Of external memory that the bench has room for."""


def build_icarus(engine: WideEngine, folder: Path) -> Path:
    """Return the program for ``vvp`` that runs tokens on an engine, in ``folder``.

    Raises ToolMissing if Icarus Verilog is not installed, BuildFailed, with what it said, if it fails.
    """
    if shutil.which("iverilog") is None:
        raise ToolMissing("Icarus Verilog is not installed", "install iverilog from your distribution")
    widths = {
        "_".join(path).upper(): len(value.as_value() if hasattr(value, "as_value") else value)
        for path, _, value in engine.signature.flatten(engine)
    }
    macros = [f"-DW_{name}={width}" for name, width in widths.items()]
    depths = {
        "MEMORY": MEMORY_BYTES // (engine.port_bits // 8), "CODE": engine.core.code_depth,
        "MATRIX": engine.loop.memory.depth,
    }  # fmt: skip
    macros += [f"-D{name}_DEPTH={depth}" for name, depth in depths.items()]
    (folder / "board.v").write_text(emit_wide(engine))
    program = folder / "bench.vvp"
    command = ["iverilog", "-g2005", "-s", "bench", *macros, "-o", str(program), "board.v", str(BENCH)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed(f"iverilog failed: {done.stderr.strip()[-500:]}")
    return program


def run_icarus(
    program: Path,
    engine: WideEngine,
    code: WideCode,
    tokens: Sequence[int],
    *,
    latency: int = 40,
    gap: int = 0,
    seed: int = 1,
    limit: int = 1 << 30,
) -> WideRun:
    """Run tokens of one session; of 1024 cycles the memory pauses in ``gap``.

    Raises DoesNotFit if the engine cannot hold the code, BuildFailed if the run ends without a result.
    """
    with tempfile.TemporaryDirectory(prefix="ternac-icarus-") as scratch:
        folder = Path(scratch)
        given = write_memories(folder, engine, code)
        port = engine.port_bits // 8
        for name, size in (("memory", port), ("code", WORD_BYTES), ("matrices", given["matrix_bytes"])):
            rows = np.fromfile(folder / name, np.uint8).reshape(-1, size)[:, ::-1]
            (folder / f"{name}.hex").write_text("\n".join(row.tobytes().hex() for row in rows))
        (folder / "tokens.hex").write_text("\n".join(f"{token:x}" for token in tokens))
        numbers = {
            "codes": len(code.words), "count": len(code.matrices), "tokens_count": len(tokens),
            "vectors": engine.core.depth, "latency": latency, "gap": gap, "seed": seed, "limit": limit,
            "constants_base": given["constants_base"], "constants_words": given["constants_words"],
            "rows_base": given["rows_base"], "rows_words": given["rows_words"],
        }  # fmt: skip
        done = subprocess.run(
            ["vvp", "-n", str(program), *(f"+{name}={value}" for name, value in numbers.items())],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        lines = (folder / "out.txt").read_text().split("\n") if (folder / "out.txt").exists() else []
    found: dict[str, list[str]] = {"L": [], "S": [], "D": []}
    for kind, _, value in (line.partition(" ") for line in lines if line):
        found[kind].append(value)
    if len(found["S"]) != len(tokens) * engine.core.depth:
        raise BuildFailed(f"the simulation gave no result: {done.stdout.strip()[-500:]} {done.stderr[-200:]}")
    logits = np.array(found["L"], np.int16).reshape(len(tokens), -1)
    words = b"".join(int(word, 16).to_bytes(2 * code.lanes, "little") for word in found["S"])
    states = np.frombuffer(words, "<i2").reshape(len(tokens), -1)
    places = [states[:, at : at + code.image.program.states[name]] for name, at in code.image.states.items()]
    cycles = [int(value) for value in found["D"]]
    none = [0] * len(tokens)
    return WideRun(logits, np.concatenate(places, axis=1), none, cycles, none, 0, sum(cycles), 0)
