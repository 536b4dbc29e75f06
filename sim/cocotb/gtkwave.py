"""GTKWave save files: which signals of a design to show, in groups. Widths are read from its Verilog.

``python -m ternac.sim.cocotb.gtkwave`` writes the engine's view for the tiny preset into ``sim/views``;
`ternac sim --waves` writes one that fits the design next to the waves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from ternac.files import write_text
from ternac.sim.cocotb.runner import TOP

__all__ = ["ENGINE", "PORTS", "VIEW", "save_file", "signals"]

Groups = Sequence[tuple[str, str]]
"""Title, and patterns of paths below the top module."""

PORTS: Groups = (("top level", "clk rst *"),)
"""The view of a leaf."""
ENGINE: Groups = (
    ("token", "clk rst start entry token session_base emit busy done done_context cycles"),
    ("sequencer", "sequencer.running sequencer.current sequencer.dots.rows_left sequencer.elements.left"),
    ("dot units", "columns.acc_en columns.acc_first columns.dot_*.acc"),
    ("pipelines", "columns.pipe_*.v0 columns.pipe_*.y"),
    ("side lane", "columns.side_lane.stream columns.side_lane.room columns.side_lane.x_word"),
    (
        "norm",
        "columns.side_lane.queue.norm.start columns.side_lane.queue.norm.done "
        "columns.side_lane.queue.norm.mantissa",
    ),
    ("sampler", "sampler.row_valid sampler.row_slot sampler.row__* sampler.start sampler.done"),
    ("result", "next_token rng_out"),
    ("host", "wr_en wr_mem wr_block wr_addr wr_data rd_en rd_block rd_addr rd_valid rd_data"),
)
"""The view of the whole engine."""

VIEW = Path(__file__).parents[1] / "views" / "engine.gtkw"
"""The saved view of the engine of the tiny preset."""

_MODULE = re.compile(r"^module \\?(\S+?)\s*\(", re.MULTILINE)
_NET = re.compile(r"^  (?:input|output|inout|wire|reg) (?:\[(\d+):0\] )?(\w+)\s*(?:=[^;]*)?;", re.MULTILINE)
_BIT, _HEX, _SIGNED = "@28", "@22", "@420"
_NUMBERS = ("v0", "y", "acc")  # signed quantities of the pipelines


def signals(verilog: str) -> dict[str, int]:
    """Return the width of every named net by path; the top module is `TOP`, submodules are ``TOP.name``."""
    found: dict[str, int] = {}
    parts = _MODULE.split(verilog)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        if name != TOP and not name.startswith(TOP + "."):
            continue
        prefix = name[len(TOP) + 1 :] + "." if name != TOP else ""
        for high, net in _NET.findall(body):
            found[prefix + net] = int(high or 0) + 1
    return found


def save_file(verilog: str, groups: Groups) -> str:
    """Return a save file for the waves of ``verilog``; a path is shown once, in the first group it fits.

    ValueError names a pattern that fits nothing: the design was changed and the view was not.
    """
    nets = signals(verilog)
    shown: set[str] = set()
    lines = ["[*] Ternac", "[timestart] 0", f"[treeopen] {TOP}.", "[sst_expanded] 1"]
    for title, patterns in groups:
        lines += ["@200", f"-{title}"]
        for pattern in patterns.split():
            fitting = sorted((path for path in nets if _fits(path, pattern)), key=_natural)
            if not fitting:
                raise ValueError(f"no signal of the design fits {pattern!r}")
            for path in fitting:
                if path in shown:
                    continue
                shown.add(path)
                width = nets[path]
                number = path.startswith("columns.") and path.rpartition(".")[2] in _NUMBERS
                lines.append(_BIT if width == 1 else _SIGNED if number else _HEX)
                lines.append(f"{TOP}.{path}" + (f"[{width - 1}:0]" if width > 1 else ""))
    return "\n".join(lines) + "\n"


def _fits(path: str, pattern: str) -> bool:
    """Match a pattern whose star stays within one level of the hierarchy."""
    return path.count(".") == pattern.count(".") and fnmatchcase(path, pattern)


def _natural(path: str) -> list[tuple[int, str]]:
    """Return a sort key that puts pipe_10 after pipe_9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path)]


def main() -> None:
    """Write ``sim/views/engine.gtkw``."""
    from amaranth.back import verilog

    from ternac.compile.geometry import preset
    from ternac.hdl.engine.core import EngineCore

    text = str(verilog.convert(EngineCore(preset("tiny")), name=TOP, emit_src=False))
    write_text(VIEW, save_file(text, ENGINE))


if __name__ == "__main__":
    main()
