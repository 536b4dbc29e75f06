"""An executor that is the RTL of a whole engine for imported models, in Verilator."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, MutableMapping
from pathlib import Path

import numpy as np

from ternac.compile.wide import lower
from ternac.compile.wide_board import LANES, PORT_BITS
from ternac.compile.wide_code import WideCode, encode
from ternac.errors import DeviceError, NoAnswer, UsageError
from ternac.program.program import Program
from ternac.run.executor import ExecutorBase, Logits, State, Tokens
from ternac.sim.stream import USUAL, most_cycles
from ternac.sim.wide import build_wide, digits_for, engine_for, write_memories

__all__ = ["CYCLES_A_SECOND", "WideExecutor"]

Say = Callable[[str], None]

CYCLES_A_SECOND = 40_000
"""Of the simulation, for what is said beforehand: as measured on one core of a server."""
COUNTS = np.dtype([("cycles", "<u8"), ("beats", "<u8"), ("fault", "<u8")])
"""What the simulation says behind logits and states."""


class WideExecutor(ExecutorBase):
    """Runs tokens on a `WideEngine` that is large enough for ``program``, with its weights in a
    behavioural memory of random latency and pauses (``options``: another, and others of wide_main.cpp).

    A session's state is written into vector memory unless the engine has it already, and read back behind
    every token. ``code``: instead of the program's own, for tests. ``cycles`` of all tokens so far, from
    their begin to their last result, in which ``beats`` came.

    Raises UnsupportedOp or DoesNotFit if the engine has no form for the program, ToolMissing and BuildFailed
    if it cannot be built.
    """

    name = "sim"

    def __init__(
        self,
        program: Program,
        lanes: int = LANES,
        port_bits: int = PORT_BITS,
        *,
        code: WideCode | None = None,
        say: Say = lambda text: None,
        **options: int,
    ) -> None:
        self.program = program
        self.code = code or encode(lower(program, word=port_bits // 8), lanes, port_bytes=port_bits // 8)
        self.cycles = self.beats = 0
        self.engine = engine_for(self.code, spare=True, digits=digits_for(self.code))
        image, lanes = self.code.image, self.code.lanes
        ends = [at + program.states[name] for name, at in image.states.items()]
        self._words = max(1, -(-max(ends, default=0) // lanes))
        self._places = {name: slice(at, at + program.states[name]) for name, at in image.states.items()}
        self._held: State | None = None  # what vector memory has
        weights = self.code.weights.size // self.code.port_bytes
        say(
            f"{program.name} on the RTL of an engine with {lanes} lanes: {weights:,} words of weights a "
            f"token, about {weights / CYCLES_A_SECOND:.2g} s of simulation; compiling takes a minute, once"
        )
        simulation = build_wide(self.engine, say=say)
        self._scratch = tempfile.TemporaryDirectory(prefix="ternac-wide-")
        self._errors = tempfile.TemporaryFile()
        folder, layout = Path(self._scratch.name), self.engine.core.vector.write_layout
        self._address_bits = layout["address"].width
        self._write_bytes = -(-layout.size // 32) * 4
        given = {
            **write_memories(folder, self.engine, self.code),
            "vectors": self._words,
            "write_bytes": self._write_bytes,
            "limit": most_cycles(weights),
            **USUAL,
            **options,
        }
        files = ["memory", "code", "matrices", "-", "-", "-"]
        self._process = subprocess.Popen(
            [str(simulation.resolve()), *files, *(f"{name}={value}" for name, value in given.items())],
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            process_group=0,
        )

    @property
    def origin(self) -> str:
        return "cycle-exact simulation (Verilator, RTL of the whole engine)"

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
        found = [self._token(row, int(token)) for row, token in zip(state, ids, strict=True)]
        state[...] = np.array([after for _, after in found])
        return np.array([logits for logits, _ in found], np.int32)

    def _token(self, state: State, token: int) -> tuple[Logits, State]:
        """Return the logits of a token behind ``state``, and the state behind it."""
        written = (
            b"" if self._held is not None and np.array_equal(self._held, state) else self._words_of(state)
        )
        self._held = None
        head = np.array([token, len(written) // self._write_bytes], "<u2").tobytes()
        vocab, width = self.program.vocab, self._words * self.code.lanes
        answer = self._ask(head + written, 2 * vocab + 2 * width + COUNTS.itemsize)
        logits = np.frombuffer(answer, "<i2", vocab)
        words = np.frombuffer(answer, "<i2", width, 2 * vocab)
        counts = np.frombuffer(answer, COUNTS, 1, 2 * (vocab + width))[0]
        if counts["fault"]:
            raise DeviceError(f"the engine's fault bits are {int(counts['fault']):#x} behind token {token}")
        self.cycles += int(counts["cycles"])
        self.beats += int(counts["beats"])
        found = np.empty_like(state)
        for name, part in self.program.state_slices().items():
            found[part] = words[self._places[name]]
        self._held = found.copy()
        return logits.astype(np.int32), found

    def _words_of(self, state: State) -> bytes:
        """Writes of all words of vector memory that hold states."""
        lanes = self.code.lanes
        words = np.zeros(self._words * lanes, "<i2")
        for name, part in self.program.state_slices().items():
            words[self._places[name]] = state[part]
        keep = (1 << lanes) - 1
        found = bytearray()
        for address, word in enumerate(words.reshape(-1, lanes)):
            data = int.from_bytes(word.tobytes(), "little")
            value = address | keep << self._address_bits | data << self._address_bits + lanes
            found += value.to_bytes(self._write_bytes, "little")
        return bytes(found)

    def _ask(self, data: bytes, size: int) -> bytes:
        """Send ``data`` and return the ``size`` bytes of the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        if self._errors.closed:
            raise UsageError("the executor is closed")
        try:
            stdin.write(data)
            stdin.flush()
            answer = stdout.read(size)
        except BrokenPipeError:  # it has ended
            answer = b""
        if len(answer) == size:
            return answer
        status = self._process.wait()
        self._errors.seek(0)
        why = self._errors.read()[-500:].decode(errors="replace").strip()
        raise NoAnswer(f"the simulation ended with status {status}: {why}", "open it again")

    def close(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None and not pipe.closed:
                pipe.close()
        self._process.kill()  # a token may run
        self._process.wait()
        self._errors.close()
        self._scratch.cleanup()
