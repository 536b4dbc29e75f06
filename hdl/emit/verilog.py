"""Verilog of a component, plain enough for every tool: one width on both sides, no latch, memories to infer.

yosys does it, on a copy: the RTLIL of bitstreams stays as it is. Processes become registers and choices,
what nothing reads goes away, and ``select.v`` and ``widths.v`` leave no width to a tool's rules. Two things
that `write_verilog` has no option for are changed in its text, see `tidy`.
"""

from __future__ import annotations

import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.lib import wiring

from ternac.errors import BuildFailed
from ternac.hdl.build.toolchain import run_tool
from ternac.hdl.emit.tops import ports_of

__all__ = ["BLOCK_RAM_BITS", "MAPS", "MEMORY_STYLE", "SCRIPT", "Emitted", "emit", "rewrite", "tidy"]

SCRIPT = (
    "read_rtlil design.il",
    "hierarchy -top {top}",
    "proc",
    "memory_collect",
    "opt_clean -purge",
    "opt_hier",
    "setundef -zero",
    "opt_expr",
    "peepopt",  # selects a part by shifts instead of a product
    "opt_clean -purge",
    "techmap -map select.v",
    "opt_expr",
    "wreduce",
    "opt_expr",
    "wreduce",
    "opt_clean -purge",
    "techmap -map widths.v",
    "opt_clean -purge",
    "check -assert",
    "write_json design.json",
    "write_verilog -noattr -simple-lhs design.v",
)
"""What yosys is told; nothing after ``widths.v`` may change a width."""

MAPS = {name: Path(__file__).with_name(name) for name in ("select.v", "widths.v")}
"""The rules of the script's techmaps."""
BLOCK_RAM_BITS = 2048
"""Memories with a registered read port that are at least this large are marked for block RAM."""
MEMORY_STYLE = '(* ram_style = "block", ramstyle = "no_rw_check" *)'
"""Vivado's attribute, and Quartus': what a read returns that meets a write is never looked at."""


@dataclass(frozen=True)
class Emitted:
    """Verilog text; ``unread`` are the names of whole ports and wires that a module has but does not read."""

    text: str
    unread: tuple[str, ...]
    cells: dict[str, int]
    """Kinds of yosys' cells that the text is made of, with their numbers."""


def emit(component: wiring.Component, module: str) -> Emitted:
    """Return the Verilog of a component, top module ``module``; its ports are those of `ports_of`.

    Raises BuildFailed if yosys fails, or if the text would multiply or have a latch.
    """
    return rewrite(rtlil.convert(component, name=module, ports=ports_of(component), emit_src=False), module)


def rewrite(design: str, top: str) -> Emitted:
    """Return the Verilog of a design in RTLIL; errors as `emit`."""
    with tempfile.TemporaryDirectory(prefix="ternac-emit-") as scratch:
        folder = Path(scratch)
        (folder / "design.il").write_text(design)
        (folder / "emit.ys").write_text("\n".join(SCRIPT).format(top=top) + "\n")
        for name, path in MAPS.items():
            (folder / name).write_text(path.read_text())
        run_tool("yosys", ["-q", "emit.ys"], cwd=folder, log=folder / "log.txt", step="emit")
        netlist = json.loads((folder / "design.json").read_text())
        text = (folder / "design.v").read_text()
    cells: dict[str, int] = {}
    for one in netlist["modules"].values():
        for cell in one["cells"].values():
            kind = str(cell["type"])
            if kind.startswith("$"):
                cells[kind] = cells.get(kind, 0) + 1
    refused = [kind for kind in cells if re.search("mul|div|mod|macc|pow|latch|dlatch|sr$", kind)]
    if refused:
        raise BuildFailed(
            f"the Verilog would have {', '.join(refused)}", "products must be shift-add, and nothing a latch"
        )
    return Emitted(tidy(text), unread(netlist), dict(sorted(cells.items())))


def unread(netlist: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of inputs, and of wires on an instance's output, of which a module reads no bit.

    ``netlist`` is in yosys' JSON form. Every other unread wire is one that should have gone away.
    """
    found = set()
    for module in netlist["modules"].values():
        read, given = set[Any](), set[Any]()
        for cell in module["cells"].values():
            inner = netlist["modules"].get(cell["type"])
            for pin, bits in cell["connections"].items():
                if cell["port_directions"][pin] != "output":
                    read.update(bits)
                elif inner is not None:
                    given.update(bits)
        for port in module["ports"].values():
            (given if port["direction"] == "input" else read).update(port["bits"])
        for name, net in module["netnames"].items():
            bits = net["bits"]
            if not net.get("hide_name") and given.issuperset(bits) and read.isdisjoint(bits):
                found.add(name)
    return tuple(sorted(found))


_REGISTER = re.compile(r"^  (?:output )?reg (?:signed )?(?:\[\d+:\d+\] )?(\\\S+ |\S+) = (\S+);$")
_MEMORY = re.compile(r"^  reg \[(\d+):0\] (\\\S+ |\S+) \[(\d+):0\];$")
_WORD = re.compile(r"^    (\\\S+ |\S+)\[(\d+)\] = (\S+);$")


def tidy(text: str) -> str:
    """Return yosys' Verilog in our form, the same design.

    Initial values stand in ``initial`` (Verilator's PROCASSINIT), those of a memory that begins as zeros in a
    loop, and memories for block RAM carry `MEMORY_STYLE`. Raises BuildFailed if a line is in no known form.
    """
    found: list[str] = []
    for module in re.split(r"(?m)^(?=module )", text.partition("\nmodule ")[2].join(("module ", ""))):
        found += _tidy_module(module.split("\n"))
    return "\n".join(found).rstrip() + "\n"


def _tidy_module(lines: list[str]) -> list[str]:
    late = {match[1] for line in lines if "<= " in line for match in re.finditer(r"<= (\\\S+ |\w+)\[", line)}
    found: list[str] = []
    memory: re.Match[str] | None = None
    words: list[str] = []
    for line in lines:
        declared = _MEMORY.match(line)
        if memory is not None and line == "  initial begin":
            words = []
        elif memory is not None and (word := _WORD.match(line)):
            words.append(word[3])
        elif memory is not None and line == "  end":
            found += _initial(memory, words)
            memory = None
        elif declared:
            memory = declared
            bits = (int(declared[1]) + 1) * (int(declared[3]) + 1)
            if declared[2] in late and bits >= BLOCK_RAM_BITS:
                found.append(f"  {MEMORY_STYLE}")
            found.append(line)
        elif register := _REGISTER.match(line):
            found.append(line[: line.index(" = ")].rstrip() + (" ;" if register[1][0] == "\\" else ";"))
            found.append(f"  initial {register[1]} = {register[2]};")
        elif re.match(r"  (output )?reg .* = ", line):
            raise BuildFailed(f"yosys wrote a declaration in a form that is not known: {line.strip()}")
        else:
            found.append(line)
    return found


def _initial(memory: re.Match[str], words: list[str]) -> list[str]:
    """Return the initial block of a memory's words, from address 0."""
    name, depth = memory[2], int(memory[3]) + 1
    if len(words) != depth:
        raise BuildFailed(f"yosys gave the memory {name} {len(words)} of {depth} initial words")
    if len(set(words)) > 1:
        return ["  initial begin", *(f"    {name}[{i}] = {word};" for i, word in enumerate(words)), "  end"]
    index = re.sub(r"\W", "_", name.strip().lstrip("\\")) + "_word"
    return [
        f"  integer {index};",
        "  initial begin",
        f"    for ({index} = 0; {index} < {depth}; {index} = {index} + 1)",
        f"      {name}[{index}] = {words[0]};",
        "  end",
    ]
