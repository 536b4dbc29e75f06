"""The GPU executor: whole tokens on the device, states of all sessions in one tensor, tokens chosen there.

The interface of `ternac.executor.NumpyExecutor` (``open``, ``state_dict``, ``step``) and of the native
executor (``feed``, ``generate``) on states in host memory, which travel with every call; and sessions that
stay on the device (``sessions``), which `ternac.host.gpu.backend` uses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ternac.errors import UsageError
from ternac.host.gpu.engine import CHOSEN, FEW, Engine
from ternac.host.gpu.graph import Tokens
from ternac.host.gpu.sessions import Slots
from ternac.host.gpu.weights import Weights, pack_all
from ternac.host.gpu.where import need
from ternac.legality import check
from ternac.program import Program
from ternac.sampling import Sampling

State = npt.NDArray[np.int16]
Logits = npt.NDArray[np.int32]
ROWS = {"cuda": 512, "cpu": 64, "interpret": 16}
"""Tokens at a time, by place."""


class GpuExecutor:
    """Runs one program for any number of sessions at a time.

    ``mode``: "cuda", or "cpu" and "interpret", which give the same bits without a GPU
    (`ternac.host.gpu.where`). ``weights``: matrices packed before, on the device, if they are not to be taken
    from the program. ``rows``: tokens that run at a time. ``overlap``: kernels ask for their weights while the
    one before them ends; needs compute capability 9. ``blocks``: `ternac.host.gpu.launch.Blocks`.

    ToolMissing with the reason where it cannot run, UnsupportedOp, IllegalProgram, UsageError. Calls from
    several threads take turns.
    """

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
        self.device = torch.device("cuda", torch.cuda.current_device()) if mode == "cuda" else torch.device("cpu")
        self.rows = ROWS[mode] if rows is None else rows
        if not 1 <= self.rows <= 65535:
            raise UsageError(f"{rows} rows at a time, needs 1 to 65535")
        if overlap and (mode != "cuda" or torch.cuda.get_device_capability(self.device)[0] < 9):
            raise UsageError("overlap needs a GPU of compute capability 9 or more", "leave it out")
        if weights is None:
            matrices = {name: program.consts[name] for name, role in program.roles().items() if role == "trits"}
            weights = pack_all(matrices, self.device)
        self.weights, self.overlap = weights, overlap
        self._slices = program.state_slices()
        self._lock = threading.RLock()
        self._engine = Engine(
            program, weights, self.device, self.rows, self.rows + 1, _maker(mode, self.device, overlap, blocks)
        )
        self._tokens = Tokens(self._engine, self.rows, graphs=mode == "cuda")
        self.sessions = Slots(self._engine, self._tokens, self._lock)

    @property
    def bytes_held(self) -> dict[str, int]:
        """Device memory by purpose: ``weights``, ``other`` constants, ``rows`` (values), ``states``."""
        return self._engine.bytes_held

    def open(self, batch: int = 1) -> State:
        """State of ``batch`` new sessions in host memory: int16 zeros [batch, state_words]."""
        if batch < 1:
            raise UsageError(f"batch is {batch}, needs at least 1")
        return np.zeros((batch, self.program.state_words), np.int16)

    def state_dict(self, state: State) -> dict[str, State]:
        """The same state as views by state name, each int16 [B, length]."""
        return {name: state[:, part] for name, part in self._slices.items()}

    def step(
        self,
        state: State,
        tokens: Iterable[int] | npt.NDArray[Any],
        trace: MutableMapping[str, Logits] | None = None,
    ) -> Logits:
        """Feed one token to each session: changes ``state`` in place, returns logits int32 [B, vocab].

        ``tokens`` are B integers. With ``trace``, every value of the program is put there by name, int32
        [B, length]. A bad token or state raises UsageError before anything is changed.
        """
        ids = self._ids(tokens)
        self._check_state(state, len(ids))
        out = np.empty((len(ids), self.program.vocab), np.int32)
        size = 1 if trace is not None else self.rows
        found: list[dict[str, Logits]] = []
        with self._lock:
            for at in range(0, len(ids), size):
                part = slice(at, at + size)
                count = len(ids[part])
                self.sessions.bring(state[part])
                self._fill(ids[part], range(count))
                layout = self._engine.kept if trace is not None else self._engine.layout(count)
                self._engine.step(count, layout)
                out[part] = _numpy(layout.value(self.program.logits, count))
                state[part] = self.sessions.take(count)
                if trace is not None:
                    found.append({name: _numpy(layout.value(name, 1)) for name in layout.plan.places.offset})
        if trace is not None:
            trace.update({name: np.concatenate([values[name] for values in found]) for name in found[0]})
        return out

    def feed(
        self, state: State, tokens: Iterable[int] | npt.NDArray[Any], slots: Any, want: Any = None
    ) -> Logits:
        """Feed ``tokens[i]`` to the session in row ``slots[i]`` of ``state``, in order.

        Tokens of one session run many at a time. Returns int32 logits [wanted, vocab] of the tokens i with
        ``want[i]`` (None: all). UsageError before any change.
        """
        ids, at = self._ids(tokens), np.asarray(slots)
        self._check_state(state, None)
        flags = np.ones(len(ids), bool) if want is None else np.array(want, bool)
        if at.shape != ids.shape or flags.shape != ids.shape:
            raise UsageError("tokens, slots and want must have one length")
        if at.min() < 0 or at.max() >= len(state):
            raise UsageError(f"a slot is outside 0..{len(state) - 1}")
        out = np.empty((len(ids), self.program.vocab), np.int32)
        with self._lock:
            for slot in np.unique(at):
                (mine,) = np.nonzero(at == slot)
                self.sessions.bring(state[slot : slot + 1])
                self.prompt(0, ids[mine], flags[mine], out, mine)
                state[slot] = self.sessions.take(1)[0]
        return out[flags]

    def prompt(self, slot: int, tokens: Any, want: Any = None, out: Any = None, where: Any = None) -> None:
        """Feed tokens to the session in device slot ``slot``, as many at a time as there are rows.

        Logits of the tokens i with ``want[i]`` are put into ``out[where[i]]``.
        """
        ids = self._ids(tokens)
        with self._lock:
            for at in range(0, len(ids), self.rows):
                part = slice(at, at + self.rows)
                count = len(ids[part])
                wanted = want is not None and bool(want[part].any())
                self._fill(ids[part], [slot] * count)
                self._engine.prompt(count, 1, tail=wanted)
                if wanted:
                    logits = _numpy(self._engine.many.value(self.program.logits, count))
                    out[where[part][want[part]]] = logits[want[part]]

    def generate(
        self, state: State, tokens: Sequence[int], count: int, sampling: Sampling, rngs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """In every session, ``count`` times: feed the last token, choose the next, all on the device.

        Session b starts with ``tokens[b]`` and generator state ``rngs[b]``; the last token chosen is not fed.
        Returns (chosen int32 [B, count], generator states).
        """
        ids = self._ids(tokens)
        self._check_state(state, len(ids))
        chosen, following = np.empty((len(ids), count), np.int32), list(rngs)
        with self._lock:
            for at in range(0, len(ids), self.rows):
                part = slice(at, at + self.rows)
                self.sessions.bring(state[part])
                chosen[part], following[part] = self.go_on(
                    list(range(len(ids[part]))), ids[part], count, sampling, rngs[part]
                )
                state[part] = self.sessions.take(len(ids[part]))
        return chosen, following

    def go_on(
        self, slots: Sequence[int], tokens: Any, count: int, sampling: Sampling, rngs: Sequence[int]
    ) -> tuple[npt.NDArray[np.int32], list[int]]:
        """`generate` for sessions in device slots, at most ``rows``; the states stay where they are."""
        ids, rows = self._ids(tokens), self._engine.rows
        if count < 1 or len(rngs) != len(ids) or not all(1 <= rng < 1 << 32 for rng in rngs):
            raise UsageError("generate needs a count of at least 1 and a generator state for each session")
        parts = []
        with self._lock:
            run = self._tokens.ready(len(ids), sampling)
            self._engine.set_sampling(sampling)
            self._fill(ids, slots)
            rows.rngs[: len(ids)] = torch.tensor(rngs, dtype=torch.int64)
            for at in range(0, count, CHOSEN):
                now = min(CHOSEN, count - at)
                rows.at[: len(ids)] = 0
                for _ in range(now):
                    run()
                parts.append(_numpy(rows.chosen[: len(ids), :now]))
            return np.concatenate(parts, axis=1), rows.rngs[: len(ids)].tolist()

    def step_slot(self, slot: int, token: int) -> Logits:
        """Feed one token to the session in a device slot: logits int32 [vocab]."""
        with self._lock:
            self._fill(self._ids([token]), [slot])
            self._engine.step(1)
            return _numpy(self._engine.few.value(self.program.logits, 1))[0]

    def close(self) -> None:
        """Forget graphs and sessions. Twice is allowed."""
        with self._lock:
            self._tokens.clear()

    def _fill(self, ids: npt.NDArray[np.int32], slots: Sequence[int] | range) -> None:
        rows = self._engine.rows
        rows.tokens[: len(ids)] = torch.from_numpy(ids).to(self.device)
        rows.slots[: len(ids)] = torch.tensor(list(slots), dtype=torch.int32, device=self.device)

    def _ids(self, tokens: Iterable[int] | npt.NDArray[Any]) -> npt.NDArray[np.int32]:
        ids = np.asarray(tokens if isinstance(tokens, np.ndarray) else list(tokens))
        vocab = self.program.vocab
        if ids.ndim != 1 or not len(ids) or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= vocab:
            raise UsageError(f"a token is not an integer in 0..{vocab - 1}")
        return np.ascontiguousarray(ids, np.int32)

    def _check_state(self, state: State, rows: int | None) -> None:
        shape = (len(state) if rows is None else rows, self.program.state_words)
        if state.dtype != np.int16 or state.shape != shape:
            raise UsageError(f"state is {state.dtype}{list(state.shape)}, needs int16{list(shape)}")


def _numpy(tensor: torch.Tensor) -> Logits:
    return tensor.cpu().numpy().astype(np.int32)


def _maker(mode: str, device: torch.device, overlap: bool, blocks: Any) -> Any:
    """How an engine gets its runner."""
    if mode == "cpu":
        from ternac.host.gpu.plain import Plain

        return Plain
    from ternac.host.gpu.launch import Kernels, blocks_for

    chosen = blocks or blocks_for(device, interpret=mode == "interpret")
    return lambda weights, constants, rows: Kernels(
        weights, constants, rows, interpret=mode == "interpret", blocks=chosen, overlap=overlap
    )
