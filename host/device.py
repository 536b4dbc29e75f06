"""One way to every executor: ``Device.open("numpy")``, ``"native"``, ``"gpu"``, ``"sim"`` or
``"serial:PORT"``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry, preset
from ternac.errors import UsageError, WrongBitstream, WrongGeometry
from ternac.executors import make_executor, pick
from ternac.host.backend import Backend, Meter
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import SERIAL, SIMULATED, LinkClient, Patience
from ternac.host.board.transport import (
    ProcessTransport,
    RecordingTransport,
    ReplayTransport,
    SerialTransport,
    Transport,
)
from ternac.host.local import NumpyBackend
from ternac.host.session import Session
from ternac.link import VERSION, Identity
from ternac.manifest import read_manifest
from ternac.program.program import Program
from ternac.program.zoo import open_program
from ternac.run.sampling import Sampling, seed_state
from ternac.text.tokenizer import ByteTokenizer, tokenizer_of

DEFAULT_BOARD = "ulx3s-85f"
CHUNK = {"sim": 4, "serial": 32, "replay": 32}
"""Tokens asked for at a time: few where a token takes long, many where a question does."""


@dataclass(frozen=True)
class Speed:
    """Tokens per second and where the number comes from; ``data`` holds what it was computed from."""

    tokens_per_second: float | None
    origin: str
    data: dict[str, Any]

    def __str__(self) -> str:
        number = "" if self.tokens_per_second is None else f"{self.tokens_per_second:,.0f} tokens/s: "
        return number + self.origin


class Device:
    """An executor that holds one program, and sessions on it. Usable as a context manager."""

    def __init__(self, kind: str, backend: Backend, board: str = "") -> None:
        self.kind, self.backend, self.board = kind, backend, board
        self.program = backend.program
        self._sessions = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        device: str = "numpy",
        model: str | Path | Program | None = None,
        *,
        board: str = DEFAULT_BOARD,
        bitstream: str | bytes | None = None,
        patience: Patience | None = None,
        record: str | Path | None = None,
        waves: str | Path | None = None,
        progress: bool = True,
        transport: Transport | None = None,
        geometry: Geometry | None = None,
    ) -> Device:
        """Open an executor and load the program into it if it does not hold it yet.

        ``device``: "numpy"; "native", the C kernels; "auto", native where it is compiled, else NumPy
        (``kind`` says which); "gpu", Triton kernels on CUDA; "sim", the simulated board; "serial:PORT" or a
        path below /dev, a real one; "replay:FILE", recorded traffic. ``model``: a program, its path or the
        name of a shipped one (default: the shipped model). ``board`` names board or geometry; ``bitstream``
        (hex or 16 bytes) demands one bitstream; ``record`` writes the traffic to a file; ``waves`` (.vcd or
        .fst, "sim" only) the signals. ``transport`` replaces the line that ``device`` would open,
        ``geometry`` the board's.

        Errors: UsageError, IllegalProgram, DoesNotFit, WrongBitstream, WrongGeometry, NoAnswer, BadFrame,
        DeviceRefused; ToolMissing and BuildFailed where the simulated board must be built.
        """
        program = model if isinstance(model, Program) else open_program(model)
        kind, _, where = device.partition(":")
        if device.startswith("/dev/"):
            kind, where = "serial", device
        if device == "auto":
            kind = device = pick()[0]
        if kind == "numpy" and not where:
            return cls(kind, NumpyBackend(program))
        if kind == "native":
            return cls(kind, _native(device, program))
        if kind == "gpu":
            return cls(kind, _gpu(device, program))
        if kind not in CHUNK or (kind != "sim") != bool(where):
            raise UsageError(
                f"unknown device {device!r}", "numpy, native, gpu, auto, sim, serial:PORT or replay:FILE"
            )
        geometry = geometry or geometry_of(board)
        image = compile_program(program, geometry)
        line = transport or _line(kind, where, board, geometry, waves)
        try:
            if record is not None:
                line = RecordingTransport(line, record)
            client = LinkClient(line, patience or (SIMULATED if kind == "sim" else SERIAL))
            identity = client.hello()
            identify(identity, geometry, bitstream)
            backend = BoardBackend(client, identity, program, image, CHUNK[kind])
            backend.load(progress=progress)
        except BaseException:
            line.close()
            raise
        return cls(kind, backend, board)

    def session(self, seed: int = 1) -> Session:
        """A new session with a zero state; its generator starts from ``seed``."""
        if self._closed:
            raise UsageError("the device is closed")
        self._sessions += 1
        return Session(self.backend, seed, self._session_closed)

    def generate_together(
        self,
        prompts: Sequence[bytes],
        max_tokens: int = 100,
        temperature: float = 0.0,
        top_k: int = 0,
        seed: int = 1,
    ) -> list[bytes]:
        """Go on with every prompt by ``max_tokens`` bytes, as many at the same time as the device can.

        Text k is what ``session(seed + k).generate(prompts[k], ...)`` gives. UsageError for an empty prompt
        or a program whose tokens are not bytes.
        """
        if not isinstance(tokenizer_of(self.program, assume_bytes=True), ByteTokenizer):
            raise UsageError(f"the tokens of {self.program.name} are not bytes", "use session().generate()")
        if max_tokens < 1 or not all(prompts):
            raise UsageError("nothing to go on from: a prompt is empty, or no tokens are asked for")
        bad = [byte for prompt in prompts for byte in prompt if byte >= self.program.vocab]
        if bad:
            raise UsageError(f"token {bad[0]} is outside 0..{self.program.vocab - 1}")
        sampling = Sampling.from_temperature(temperature, self.program.logit_scale_bits, top_k)
        backend, texts = self.backend, []
        for at in range(0, len(prompts), backend.together):
            group = prompts[at : at + backend.together]
            sessions = [backend.open() for _ in group]
            try:
                for session, prompt in zip(sessions, group, strict=True):
                    if len(prompt) > 1:
                        backend.run(session, prompt[:-1], 0, sampling, 1)
                rngs = [seed_state(seed + at + k) for k in range(len(group))]
                last = [prompt[-1] for prompt in group]
                texts += [
                    bytes(chosen)
                    for chosen, _ in backend.run_together(sessions, last, max_tokens, sampling, rngs)
                ]
            finally:
                for session in sessions:
                    backend.release(session)
        return texts

    def _session_closed(self) -> None:
        self._sessions -= 1

    @property
    def meter(self) -> Meter:
        """What has been run so far."""
        return self.backend.meter

    @property
    def identity(self) -> Identity | None:
        """Who the board said it is; None where there is no board."""
        return self.backend.identity if isinstance(self.backend, BoardBackend) else None

    def speed(self) -> Speed:
        """Speed of what has been run so far, and where the number comes from."""
        meter = self.meter
        wall = meter.steps / meter.seconds if meter.seconds else None
        data: dict[str, Any] = {"tokens_run": meter.steps, "seconds": round(meter.seconds, 4)}
        if not isinstance(self.backend, BoardBackend):
            return Speed(wall, getattr(self.backend, "origin", "NumPy on this host, measured"), data)
        cycles = meter.cycles / meter.steps if meter.steps else 0.0
        data["cycles_per_token"] = round(cycles, 2)
        if self.kind == "serial":
            clock = self.backend.identity.clock_hz
            data |= {"clock_mhz": clock / 1e6, "engine_tokens_per_second": clock / cycles if cycles else None}
            text = f"measured on board, link included ({cycles:,.0f} cycles/token at {clock / 1e6:g} MHz)"
            return Speed(wall, text, data)
        clock_mhz = _routed_clock(self.board)
        data |= {"clock_mhz": clock_mhz, "simulation_tokens_per_second": wall}
        text = f"cycle-exact simulation: {cycles:,.0f} cycles/token"
        ran = "" if wall is None else f"; the simulation itself ran {wall:.3g} tokens/s"
        if clock_mhz is None or not cycles:
            return Speed(None, f"{text}, no routed clock for {self.board}{ran}", data)
        return Speed(clock_mhz * 1e6 / cycles, f"{text} x routed clock {clock_mhz:g} MHz{ran}", data)

    def close(self) -> None:
        """Release the line; sessions cannot be used any more. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self.backend.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _native(device: str, program: Program) -> Backend:
    from ternac.host.native.backend import NativeBackend

    return NativeBackend(program, make_executor(device, program))


def _gpu(device: str, program: Program) -> Backend:
    executor = make_executor(device, program)  # first: it says what is missing
    from ternac.host.gpu.backend import GpuBackend

    return GpuBackend(program, executor)


def geometry_of(board: str) -> Geometry:
    """The geometry of a board, or the one of that name. UsageError for an unknown name."""
    if board not in PRESETS:
        from ternac.hdl.boards.boards import BOARDS

        if board in BOARDS:
            return preset(BOARDS[board].geometry)
    return preset(board)


def identify(identity: Identity, geometry: Geometry, bitstream: str | bytes | None = None) -> None:
    """Raise WrongBitstream or WrongGeometry unless the board is one that ``geometry``'s images run on."""
    if identity.version != VERSION:
        raise WrongBitstream(
            f"the board speaks link version {identity.version}, this host {VERSION}",
            "flash a current bitstream",
        )
    if bitstream is not None:
        try:
            want = bytes.fromhex(bitstream) if isinstance(bitstream, str) else bytes(bitstream)
        except ValueError:
            raise UsageError(f"{bitstream!r} is no bitstream ID", "give 32 hexadecimal digits") from None
        if identity.bitstream_id != want:
            raise WrongBitstream(
                f"the board carries bitstream {identity.bitstream_id.hex()}, not {want.hex()}",
                "flash the bitstream that you want: ternac flash",
            )
    if identity.geometry_hash != geometry.hash:
        found = next((g.name for g in PRESETS.values() if g.hash == identity.geometry_hash), None)
        carries = f"the geometry {found}" if found else "a geometry that this version does not know"
        raise WrongGeometry(
            f"the board's engine has {carries}, the program was compiled for {geometry.name}",
            f"open it with board={found!r}, or flash a bitstream of {geometry.name}"
            if found
            else f"flash a bitstream of {geometry.name}",
        )


def _line(kind: str, where: str, board: str, geometry: Geometry, waves: str | Path | None) -> Transport:
    if kind == "replay":
        return ReplayTransport(where)
    if kind == "serial":
        from ternac.hdl.boards.boards import BOARDS, VARIANTS

        boards = BOARDS | VARIANTS
        if board not in boards:
            raise UsageError(f"{board!r} is no board", f"choose one of: {', '.join(boards)}")
        return SerialTransport(where, boards[board].baud)
    from ternac.sim.board import board_command, build_board

    trace = "" if waves is None else Path(waves).suffix.lstrip(".")
    if trace not in ("", "vcd", "fst"):
        raise UsageError(f"{waves}: waves are written as .vcd or .fst")
    executable = build_board(geometry, trace=trace, say=_say)
    command = board_command(executable, geometry)
    return ProcessTransport([*command, *(["--trace", str(waves)] if waves else [])])


def _say(text: str) -> None:
    import sys

    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _routed_clock(board: str) -> float | None:
    from ternac.hdl.boards.boards import VARIANTS

    name = VARIANTS[board].name if board in VARIANTS else board
    manifest = read_manifest(name, geometry_of(board).name)
    return None if manifest is None else float(manifest["clock_mhz"])
