"""Put a program into a finished bitstream, so that a board powers up ready to talk.

ECP5: unpack the bitstream, replace what its block RAMs hold, pack it again; nothing is placed or routed.
iCE40: the weights' single-port RAM has no initial contents, so the same frames that a host would send are
appended to the bitstream, at a fixed place in the flash, and the design replays them at power-up.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ternac.compile.image import Image
from ternac.compile.loading import flash_image, program_id
from ternac.errors import BuildFailed
from ternac.files import scratch_beside, write_bytes
from ternac.hdl.boards.board import Board
from ternac.hdl.build.toolchain import run_tool
from ternac.hdl.netlist import bram_patch, memory_map


def bake(board: Board, bitstream: Path, memories: Path | None, image: Image, out: Path) -> None:
    """Write to ``out`` the bitstream with ``image`` in it; ``memories`` is the memory map (ECP5).

    Raises BuildFailed if the two do not belong together.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    if board.flash_offset is not None:
        base = bitstream.read_bytes()
        if len(base) > board.flash_offset:
            raise BuildFailed(
                f"the bitstream is longer than {board.flash_offset} bytes", "move the flash offset"
            )
        write_bytes(out, base.ljust(board.flash_offset, b"\xff") + flash_image(image))
        return
    if memories is None or not memories.exists():
        raise BuildFailed(
            f"there is no memory map with {bitstream.name}", f"ternac build --board {board.name} --force"
        )
    cells = memory_map.loads(memories.read_text())
    scratch = scratch_beside(out.resolve())
    scratch.mkdir()
    log = out.with_suffix(".log")
    log.unlink(missing_ok=True)
    try:
        shutil.copyfile(bitstream, scratch / "base.bit")
        run_tool(
            "ecpunpack",
            ["--input", "base.bit", "--textcfg", "base.config"],
            cwd=scratch,
            log=log,
            step="bake",
        )
        config = (scratch / "base.config").read_text()
        contents = memory_map.baked(cells, image.memories)
        contents |= memory_map.with_program_hash(cells, bram_patch.read_config(config), program_id(image))
        (scratch / "model.config").write_text(bram_patch.patch(config, contents))
        run_tool(
            "ecppack",
            ["--compress", "--input", "model.config", "--bit", "model.bit"],
            cwd=scratch,
            log=log,
            step="bake",
        )
        write_bytes(out, (scratch / "model.bit").read_bytes())
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
