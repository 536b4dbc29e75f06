"""A whole engine on its SDRAM in Verilator: the controller's RTL, and a chip that knows its data sheet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ternac.compile.sdram import ULX3S_CHIP, SdramChip
from ternac.compile.wide_code import WideCode
from ternac.sim.board import compile_verilog, sdram_options
from ternac.sim.wide import WideRun, run_program

if TYPE_CHECKING:
    from ternac.hdl.wide.sdram import SdramWideEngine

__all__ = ["MAIN", "build_sdram_wide", "run_sdram_wide"]

Say = Callable[[str], None]
MAIN = Path(__file__).with_name("sdram_wide_main.cpp")


def build_sdram_wide(engine: SdramWideEngine, *, say: Say = lambda text: None) -> Path:
    """Return the program that loads the memory and runs tokens, built unless the cache has it."""
    from amaranth.back import verilog
    from amaranth.hdl import Value

    members = engine.signature.flatten(engine)
    ports = {"_".join(path): (Value.cast(value), None) for path, _, value in members}
    text = verilog.convert(engine, name="board", ports=ports, emit_src=False)
    return compile_verilog(str(text), main=MAIN, sdram=True, say=say)


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
    found, logits, states = run_program(program, engine.engine, code, tokens, options, sdram_options(chip))
    words = np.subtract(found["words_ended"], found["words_begun"]).tolist()
    return WideRun(
        logits, states, found["begun"], found["ended"], words, sum(words), found["cycles"], found["fault"]
    )
