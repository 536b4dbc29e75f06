"""A whole engine on its SDRAM in Verilator: the controller's RTL, and a chip that knows its data sheet."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ternac.compile.sdram import ULX3S_CHIP, SdramChip
from ternac.compile.wide_code import WideCode
from ternac.errors import BuildFailed
from ternac.sim.board import compile_verilog, sdram_options
from ternac.sim.wide import WideRun, emit_wide, write_memories

if TYPE_CHECKING:
    from ternac.hdl.wide.sdram import SdramWideEngine

__all__ = ["MAIN", "build_sdram_wide", "run_sdram_wide"]

Say = Callable[[str], None]
MAIN = Path(__file__).with_name("sdram_wide_main.cpp")


def build_sdram_wide(engine: SdramWideEngine, *, say: Say = lambda text: None) -> Path:
    """Return the program that loads the memory and runs tokens, built unless the cache has it."""
    return compile_verilog(emit_wide(engine), main=MAIN, sdram=True, say=say)


def run_sdram_wide(
    program: Path,
    engine: SdramWideEngine,
    code: WideCode,
    tokens: Sequence[int],
    *,
    chip: SdramChip = ULX3S_CHIP,
    **options: int,
) -> WideRun:
    """Run tokens of one session; ``options`` of sdram_wide_main.cpp. Beats are words of 16 bits.

    Raises DoesNotFit if the engine cannot hold the code, BuildFailed if the run ends without a result: a
    broken rule of the chip is one.
    """
    inner = engine.engine
    with tempfile.TemporaryDirectory(prefix="ternac-wide-") as scratch:
        folder = Path(scratch)
        given = {**write_memories(folder, inner, code), "vectors": inner.core.depth, **options}
        np.asarray(tokens, np.uint16).tofile(folder / "tokens")
        done = subprocess.run(
            [
                str(program.resolve()), "memory", "code", "matrices", "tokens", "logits", "states",
                *sdram_options(chip), *(f"{name}={value}" for name, value in given.items()),
            ],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not done.stdout.startswith("{"):
            raise BuildFailed(
                f"the simulation gave no result (status {done.returncode}): {done.stderr.strip()}"
            )
        logits = np.fromfile(folder / "logits", np.int16).reshape(len(tokens), -1)
        vectors = np.fromfile(folder / "states", np.int16).reshape(-1, inner.core.depth * code.lanes)
    found = json.loads(done.stdout)
    words = np.subtract(found["words_ended"], found["words_begun"]).tolist()
    states = [vectors[:, at : at + code.image.program.states[name]] for name, at in code.image.states.items()]
    return WideRun(
        logits, np.concatenate(states, axis=1), found["begun"], found["ended"], words, sum(words),
        found["cycles"], found["fault"],
    )  # fmt: skip
