"""Testbenches by name: component, cocotb module and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ternac.cache import cached
from ternac.compile.geometry import Geometry, preset
from ternac.errors import UsageError
from ternac.program.file import save
from ternac.program.program import Program
from ternac.sim.cocotb.gtkwave import ENGINE, PORTS, Groups, save_file
from ternac.sim.cocotb.runner import SimResult, run

__all__ = [
    "BENCHES",
    "Bench",
    "axi_top",
    "names",
    "run_bench",
    "run_engine",
    "run_leaf",
    "view_path",
]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bench:
    """Bench of a component: ``build`` makes it from ``settings``, which the cocotb module gets too."""

    help: str
    module: str
    build: Callable[[dict[str, Any]], Any]
    settings: dict[str, Any]


def _sampler(settings: dict[str, Any]) -> Any:
    from ternac.hdl.engine.sampler import Sampler

    columns, vocab = settings["columns"], settings["vocab"]
    return Sampler(columns=columns, slots=-(-vocab // columns) + 1, pace=settings["pace"])


def _dot(settings: dict[str, Any]) -> Any:
    from ternac.sim.cocotb.dot_agents import DotDesign

    return DotDesign(lanes=settings["lanes"], chain=settings["chain"], words=settings["words"])


def _stream(settings: dict[str, Any]) -> Any:
    from ternac.sim.cocotb.stream_agents import stream_unit

    return stream_unit(settings)


def axi_top(settings: dict[str, Any]) -> Any:
    """Return the AXI top level of the ``axi`` bench, with a stand-in for the engine core."""
    from ternac.hdl.axi.top import AxiTop
    from ternac.hdl.link.controller import LinkController
    from ternac.hdl.link.top import LinkedEngine
    from ternac.sim.stub_core import StubCore

    controller = LinkController(0, bytes(range(16)), bytes(range(8)))
    return AxiTop(LinkedEngine(StubCore(), controller), _stream(settings), fifo=64)


BENCHES = {
    "axi": Bench(
        "AXI top level: registers, frames, streamed products",
        "ternac.sim.cocotb.axi_bench",
        axi_top,
        {
            "encoding": "1.6bit",
            "port_bits": 64,
            "x_depth": 32,
            "chain": 2,
            "depth": 64,
            "burst": 16,
            "outstanding": 4,
            "queue": 4,
        },
    ),
    "dot": Bench(
        "dot unit: random rows with bubbles",
        "ternac.sim.cocotb.dot_bench",
        _dot,
        {"lanes": 12, "chain": 3, "words": 5, "rounds": 200},
    ),
    "stream": Bench(
        "streaming matrix-vector unit on an AXI4 memory",
        "ternac.sim.cocotb.stream_bench",
        _stream,
        {
            "encoding": "1.6bit",
            "port_bits": 32,
            "x_depth": 64,
            "chain": 2,
            "depth": 160,
            "burst": 32,
            "outstanding": 4,
            "queue": 4,
            "rounds": 20,
        },
    ),
    "sampler": Bench(
        "sampler: argmax and seeded draws with gaps",
        "ternac.sim.cocotb.sampler_bench",
        _sampler,
        {"columns": 3, "vocab": 20, "pace": 1, "rounds": 40},
    ),
}
"""Leaf benches; ``engine`` is the bench of the whole engine, `run_engine`."""


def run_leaf(
    name: str, *, say: Say = lambda text: None, settings: dict[str, Any] | None = None, **options: Any
) -> SimResult:
    """Run a component's bench; ``settings`` replace its defaults, ``options`` go to
    `ternac.sim.cocotb.runner.run`.
    """
    bench = BENCHES[name]
    merged = bench.settings | (settings or {})
    result = run(lambda: bench.build(merged), bench.module, settings=merged, say=say, **options)
    _write_view(result, PORTS)
    return result


def run_engine(
    program: Program,
    geometry: Geometry,
    *,
    tokens: int = 4,
    reference: Program | None = None,
    say: Say = lambda text: None,
    **options: Any,
) -> SimResult:
    """Run ``program`` on the engine of ``geometry``, every value and state compared with NumPy after each
    token.

    ``reference`` is what NumPy runs, if it shall be another program (to see what a difference looks like).
    DoesNotFit or IllegalProgram if it cannot run there; ``options`` are those of
    `ternac.sim.cocotb.runner.run`.
    """
    from ternac.compile.compiler import compile_program
    from ternac.hdl.engine.core import EngineCore

    if geometry.has_sdram:
        raise UsageError(
            f"the bench has no memory for {geometry.name}", "ternac verify --executors numpy,rtl runs it"
        )
    compile_program(program, geometry)
    settings = {
        "program": str(_saved(program)),
        "reference": str(_saved(reference or program)),
        "geometry": asdict(geometry),
        "tokens": tokens,
    }
    module = "ternac.sim.cocotb.engine_bench"
    result = run(lambda: EngineCore(geometry), module, settings=settings, say=say, **options)
    _write_view(result, ENGINE)
    return result


def run_bench(name: str, *, seed: int, tokens: int, say: Say, **options: Any) -> SimResult:
    """Run any bench by name; the engine's on the tiny preset with a random program made from ``seed``."""
    if name == "engine":
        from ternac.program.random import random_program

        rng = np.random.default_rng(seed)
        program = random_program(rng, d=int(rng.integers(4, 20)), m=int(rng.integers(4, 24)), layers=1)
        return run_engine(program, preset("tiny"), tokens=tokens, seed=seed, say=say, **options)
    if name not in BENCHES:
        raise UsageError(f"no bench is called {name!r}", f"benches: {', '.join(names())}")
    return run_leaf(name, seed=seed, say=say, **options)


def names() -> tuple[str, ...]:
    """Return the names of all benches."""
    return ("engine", *BENCHES)


def view_path(result: SimResult) -> Path | None:
    """Return the GTKWave view of a run with waves, else None."""
    return result.folder / "view.gtkw" if result.waves else None


def _saved(program: Program) -> Path:
    """Return the program's file, for the process that the simulator runs Python in."""
    entry = cached(
        "programs", [program.hash], lambda scratch, log: save(program, scratch / "program.safetensors")
    )
    return entry / "program.safetensors"


def _write_view(result: SimResult, groups: Groups) -> None:
    path = view_path(result)
    if path is not None:
        path.write_text(save_file(result.verilog.read_text(), groups))
