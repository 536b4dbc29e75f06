"""The GPU executor: whole tokens on the device, tokens chosen there, states in one tensor.

The interface of `ternac.run.numpy_executor.NumpyExecutor` and of the native executor: ``step``, ``feed``
for many tokens at once, ``generate`` for many tokens without the host. States are arrays in host memory,
which travel to a GPU and back with every call, 2 bytes a word each way, so that a session is what it was
when a GPU is lost. Without a GPU they are changed where they lie.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ternac.errors import UsageError
from ternac.host.gpu.engine import CHOSEN, Engine, Graphs, Layouts
from ternac.host.gpu.weights import Weights, pack_all
from ternac.host.gpu.where import kernels, need
from ternac.program.legality import check
from ternac.program.loops import RUN_MARK
from ternac.program.ops import refuse_unknown
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, Logits, State, Tokens
from ternac.run.sampling import Sampling

ROWS = {"cuda": 512, "cpu": 64, "interpret": 16}
"""Tokens at a time, by place."""
STATE_BYTES = 1 << 30
"""Bytes of a GPU's memory for states: larger ones come in turns."""


class GpuExecutor(ExecutorBase):
    """Runs one program for any number of sessions at a time.

    ``mode``: "cuda", or "cpu" and "interpret", which give the same bits without a GPU
    (`ternac.host.gpu.where`). ``weights``: matrices packed before, on the device, if they are not to be
    taken from the program. ``rows``: tokens that run at a time. ``overlap``: kernels ask for their weights
    while the one before them ends; needs compute capability 9. ``blocks``: `ternac.host.gpu.launch.Blocks`.

    Raises ToolMissing with the reason where it cannot run, UnsupportedOp if it has no kernel for an op,
    IllegalProgram, UsageError. Calls from several threads take turns.
    """

    chunk = 32

    def __init__(
        self,
        program: Program,
        *,
        mode: str = "cuda",
        weights: Weights | None = None,
        rows: int | None = None,
        overlap: bool = False,
        blocks: Any = None,
    ) -> None:
        need(mode)
        if weights is None:
            check(program)
        self.mode, self.program, self.name = mode, program, "gpu" if mode == "cuda" else f"gpu:{mode}"
        self.device = torch.device("cuda" if mode == "cuda" else "cpu")
        self.rows = ROWS[mode] if rows is None else rows
        if not 1 <= self.rows <= 65535:
            raise UsageError(f"{rows} rows at a time, needs 1 to 65535")
        if overlap and (mode != "cuda" or torch.cuda.get_device_capability(self.device)[0] < 9):
            raise UsageError("overlap needs a GPU of compute capability 9 or more", "leave it out")
        kinds, make = _maker(mode, self.device, overlap, blocks)
        refuse_unknown(program.ops, {*kinds, "LOOP"}, "the GPU executor")
        if weights is None:
            trits = [name for name, role in program.roles().items() if role == "trits"]
            matrices = {name: program.consts[name] for name in trits}
            weights = pack_all(matrices, self.device)
        self.weights, self.overlap = weights, overlap
        self._lock = threading.RLock()
        self._sessions = max(1, min(self.rows, STATE_BYTES // (2 * program.state_words or 1)))
        slots = self._sessions + 1 if mode == "cuda" else 0
        self._engine = Engine(program, weights, self.device, self.rows, slots, make)
        self._graphs = Graphs(self._engine, self._sessions, enabled=mode == "cuda")

    @property
    def origin(self) -> str:
        if self.mode == "cuda":
            return f"{torch.cuda.get_device_name(self.device)}, 2 bits a weight, measured"
        how = {"cpu": "in plain torch", "interpret": "in Triton's interpreter"}[self.mode]
        return f"the GPU executor's plan {how} on this host's CPU, measured; no GPU ran"

    @property
    def bytes_held(self) -> dict[str, int]:
        """Device memory by purpose: ``weights``, ``other`` constants, ``rows`` (values), ``states``.

        Without a GPU states are the caller's.
        """
        return self._engine.bytes_held

    def step(
        self,
        state: State,
        tokens: Tokens,
        trace: MutableMapping[str, Logits] | None = None,
        *,
        loops: int | None = None,
    ) -> Logits:
        ids = self.check_tokens(tokens).astype(np.int32)
        self.check_state(state, len(ids))
        self.check_loops(loops)
        out = np.empty((len(ids), self.program.vocab), np.int32)
        size = 1 if trace is not None else self._sessions
        found: list[dict[str, Logits]] = []
        with self._lock:
            layouts = self._layouts(loops)
            for at in range(0, len(ids), size):
                part = slice(at, at + size)
                count = len(ids[part])
                layout = layouts.kept if trace is not None else self._engine.layout(count, loops)
                with self._in_slots(state[part]):
                    self._fill(ids[part], range(count))
                    self._engine.step(count, layout, loops)
                out[part] = _numpy(layout.value(self.program.logits, count))
                if trace is not None:
                    named = [name for name in layout.plan.places.offset if RUN_MARK not in name]
                    found.append({name: _numpy(layout.value(name, 1)) for name in named})
        if trace is not None:
            trace.update({name: np.concatenate([values[name] for values in found]) for name in found[0]})
        return out

    def feed(
        self, state: State, tokens: Tokens, slots: Any, want: Any = None, *, loops: int | None = None
    ) -> Logits:
        """Tokens of one session run many at a time."""
        ids, at, flags = self.check_feed(state, tokens, slots, want)
        self.check_loops(loops)
        out = np.empty((len(ids), self.program.vocab), np.int32)
        with self._lock:
            self._layouts(loops)
            for slot in np.unique(at):
                (mine,) = np.nonzero(at == slot)
                with self._in_slots(state[slot : slot + 1]):
                    for first in range(0, len(mine), self.rows):
                        self._prompt(ids, mine[first : first + self.rows], flags, out, loops)
        return out[flags]

    def generate(
        self,
        state: State,
        tokens: Sequence[int],
        count: int,
        sampling: Sampling,
        rngs: Sequence[int],
        *,
        loops: int | None = None,
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        ids = self.check_generate(state, tokens, count, rngs)
        self.check_loops(loops)
        chosen, following = np.empty((len(ids), count), np.int32), list(rngs)
        with self._lock:
            self._layouts(loops)
            for at in range(0, len(ids), self._sessions):
                part = slice(at, at + self._sessions)
                chosen[part], following[part] = self._generate(
                    state[part], ids[part], count, sampling, following[part], loops
                )
        return chosen, following

    def close(self) -> None:
        """Drop the captured graphs."""
        with self._lock:
            self._graphs.clear()

    def _generate(
        self,
        state: State,
        ids: npt.NDArray[np.int32],
        count: int,
        sampling: Sampling,
        rngs: list[int],
        loops: int | None,
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """`generate` for as many sessions as there are slots."""
        rows, width = self._engine.rows, len(ids)
        run = self._graphs.token(width, sampling, loops)
        self._engine.set_sampling(sampling)
        parts = []
        with self._in_slots(state):
            self._fill(ids, range(width))
            rows.rngs[:width] = torch.tensor(rngs, dtype=torch.int64)
            for at in range(0, count, CHOSEN):
                now = min(CHOSEN, count - at)
                rows.at[:width] = 0
                for _ in range(now):
                    run()
                parts.append(_numpy(rows.chosen[:width, :now]))
        return np.concatenate(parts, axis=1), rows.rngs[:width].tolist()

    def _prompt(
        self,
        ids: npt.NDArray[np.int32],
        mine: npt.NDArray[Any],
        flags: npt.NDArray[np.bool_],
        out: Logits,
        loops: int | None,
    ) -> None:
        """Tokens ``ids[mine]``, at most ``rows``, to the session in slot 0; logits of flagged ones to
        ``out``.
        """
        wanted = flags[mine]
        run = self._graphs.prompt(len(mine), bool(wanted.any()), loops)
        self._fill(ids[mine], [0] * len(mine))
        run()
        if wanted.any():
            logits = _numpy(self._engine.layouts(loops).many.value(self.program.logits, len(mine)))
            out[mine[wanted]] = logits[wanted]

    def _layouts(self, loops: int | None) -> Layouts:
        """The layouts for ``loops`` runs; where those of many numbers are held, the oldest are dropped."""
        surplus = self._engine.surplus(loops)
        if surplus is not None:
            self._graphs.forget(surplus)
            self._engine.forget(surplus)
        return self._engine.layouts(loops)

    @contextmanager
    def _in_slots(self, state: State) -> Iterator[None]:
        """Put states into the first slots for a while: copies on a GPU, elsewhere the array itself.

        Raises UsageError if it is read-only.
        """
        if not state.flags.writeable:
            raise UsageError("the state is read-only")
        rows, words = self._engine.rows, self.program.state_words
        if not words:
            yield
            return
        array = np.ascontiguousarray(state)
        if self.device.type == "cuda":
            rows.states[: len(state), :words] = torch.from_numpy(array).to(self.device)
            yield
            state[...] = rows.states[: len(state), :words].cpu().numpy()
            return
        before, rows.states = rows.states, torch.from_numpy(array)
        try:
            yield
        finally:
            rows.states = before
        if not np.shares_memory(array, state):
            state[...] = array

    def _fill(self, ids: npt.NDArray[np.int32], slots: Sequence[int] | range) -> None:
        rows = self._engine.rows
        rows.tokens[: len(ids)] = torch.from_numpy(ids).to(self.device)
        rows.slots[: len(ids)] = torch.tensor(list(slots), dtype=torch.int32, device=self.device)


def _numpy(tensor: torch.Tensor) -> Logits:
    return tensor.cpu().numpy().astype(np.int32)


def _maker(mode: str, device: torch.device, overlap: bool, blocks: Any) -> tuple[Collection[str], Any]:
    """Return the op kinds that there are kernels for, and a function that makes an engine's runner."""
    if mode == "cpu":
        from ternac.host.gpu.torch_ops import TorchOps

        return TorchOps.kinds, TorchOps
    from ternac.host.gpu.launch import Kernels, blocks_for

    chosen = blocks or blocks_for(device, interpret=mode == "interpret")
    return kernels(mode == "interpret").KINDS, lambda weights, constants, rows: Kernels(
        weights, constants, rows, interpret=mode == "interpret", blocks=chosen, overlap=overlap
    )
