"""Open any executor, by its name, with a program in it: ``Device.open("numpy")``, ``Device.open("sim")``."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from types import TracebackType

from ternac.compile.compiler import compile_program
from ternac.compile.fitting import Model, default_model
from ternac.compile.geometry import PRESETS, Geometry, preset
from ternac.compile.wide import has_wide_ops
from ternac.compile.wide_board import WIDE, compile_wide, is_wide_board
from ternac.errors import UsageError, WrongBitstream, WrongGeometry
from ternac.hdl.boards.boards import BOARDS, find_board
from ternac.host.backend import Backend, Meter, Speed
from ternac.host.board.backend import BoardBackend
from ternac.host.board.client import SERIAL, SIMULATED, LinkClient, Patience
from ternac.host.board.requests import draw_opening
from ternac.host.board.transport import (
    ProcessTransport,
    RecordingTransport,
    ReplayTransport,
    SerialTransport,
    Transport,
)
from ternac.host.board.wide import WideTransport, image_patience, wide_engine
from ternac.host.executors import BOARDS as LINKED
from ternac.host.executors import ExecutorName, open_executor, parse_executor
from ternac.host.local import LocalBackend
from ternac.host.session import Session
from ternac.link import VERSION, Identity
from ternac.manifest import DEFAULT_BOARD
from ternac.program.file import load
from ternac.program.loops import check_loops
from ternac.program.program import Program
from ternac.program.zoo import resolve
from ternac.run.generation import Generation, Run
from ternac.run.sampling import Sampling, seed_state
from ternac.text.tokenizer import ByteTokenizer, tokenizer_of

CHUNK = {"sim": 4, "netlist": 4, "serial": 32, "replay": 32}
"""Tokens asked for at a time: few where a token takes long, many where a request does."""


class Device:
    """An executor that holds one program, and sessions on it. Usable as a context manager."""

    def __init__(self, kind: str, backend: Backend, board_name: str = "") -> None:
        self.kind, self.backend, self.board_name = kind, backend, board_name
        self.program = backend.program
        self._sessions = 0
        self._closed = False

    @classmethod
    def open(
        cls,
        device: str = "numpy",
        model: str | Path | Program | Model | None = None,
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

        ``device`` is the name of an executor (`ternac.host.executors.EXECUTORS`), or a serial port below
        /dev; ``kind`` says what ``auto`` stood for. ``model``: a program, its path or the name of a shipped
        one (default: the largest shipped one that fits the engine, or a random program). ``board`` names
        board or geometry, or for imported models ``axi-wide`` (docs/wide.md), which "sim" takes for them
        unless another one is named; ``geometry`` another engine than the board's; ``bitstream`` (hex or 16
        bytes) demands one bitstream; ``record`` writes the traffic to a file; ``waves`` (.vcd or .fst,
        "sim" only) the signals. ``transport`` replaces the line that ``device`` would open.

        Raises UsageError (UnknownExecutor lists the choices), IllegalProgram, DoesNotFit, WrongBitstream,
        WrongGeometry, NoAnswer, BadFrame, DeviceRefused; ToolMissing and BuildFailed where the simulated
        board must be built.
        """
        name = parse_executor(device)
        if is_wide_board(board) and model is None:
            raise UsageError(f"{board} needs a program", "name one that ternac import has written")
        if name.kind in ("sim", "netlist") and geometry is None and model is not None:
            model = _open_model(model, None)
            if is_wide_board(board) or (board == DEFAULT_BOARD and has_wide_ops(model.program)):
                return cls._open_wide(name.kind, board, model.program, patience, record, waves, transport)
        geometry = geometry or geometry_of(board)
        opened = _open_model(model, geometry if name.has_engine else None)
        program = opened.program
        if name.local:
            executor = open_executor(name, program, geometry=geometry, path=opened.path)
            return cls(executor.name if name.kind == "auto" else name.kind, LocalBackend(executor))
        image = compile_program(program, geometry)
        label = _label(board, geometry)
        line = transport or open_line(name, board, geometry, waves)
        try:
            opening = line.opening if isinstance(line, ReplayTransport) else draw_opening
            if record is not None:
                line = RecordingTransport(line, record)
            patience = patience or (SERIAL if name.kind in ("serial", "replay") else SIMULATED)
            client = LinkClient(line, patience, opening=opening)
            identity = client.hello()
            identify(identity, geometry, bitstream)
            backend = BoardBackend(
                client,
                identity,
                program,
                image,
                CHUNK[name.kind],
                board=label,
                measured=name.kind == "serial",
            )
            backend.load(progress=progress)
        except BaseException:
            line.close()
            raise
        return cls(name.kind, backend, label)

    @classmethod
    def _open_wide(
        cls,
        kind: str,
        board: str,
        program: Program,
        patience: Patience | None,
        record: str | Path | None,
        waves: str | Path | None,
        transport: Transport | None,
    ) -> Device:
        """Open the simulation of a whole engine for imported models, made for the program.

        It holds the program's external memory already; the link loads the rest.
        """
        from ternac.sim.wide_board import build_wide_board, build_wide_netlist

        if waves is not None:
            raise UsageError(f"{board} writes no waves", "leave waves out")
        image = compile_wide(program, wide_engine(board if is_wide_board(board) else WIDE, program))
        build = build_wide_netlist if kind == "netlist" else build_wide_board
        line: Transport = transport or WideTransport(image, build, say=_say)
        try:
            if record is not None:
                line = RecordingTransport(line, record)
            client = LinkClient(line, patience or image_patience(image), opening=draw_opening)
            identity = client.hello()
            identify(identity, image.geometry)
            backend = BoardBackend(client, identity, program, image, CHUNK[kind], board=image.geometry.name)
            backend.load(progress=False)
        except BaseException:
            line.close()
            raise
        return cls(kind, backend, image.geometry.name)

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
        *,
        ignore_eos: bool = False,
        loops: int | None = None,
    ) -> list[bytes]:
        """Continue every prompt by ``max_tokens`` bytes, as many at the same time as the device can.

        Text k is what ``session(seed + k).generate(prompts[k], ...)`` gives. The device generates past the
        end of a text (`Program.special`), which is cut there unless ``ignore_eos``.

        Raises UsageError if a prompt is empty, the program's tokens are not bytes, or it has no such loops.
        """
        check_loops(self.program, loops)
        if not isinstance(tokenizer_of(self.program, assume_bytes=True), ByteTokenizer):
            raise UsageError(f"the tokens of {self.program.name} are not bytes", "use session().generate()")
        special = self.program.special
        feeds = [special.begin(list(prompt)) for prompt in prompts]
        for feed in feeds:
            Generation(self.program.vocab, 1).feed(feed, max_tokens)
        if max_tokens < 1:
            raise UsageError(f"max_tokens is {max_tokens}, needs at least 1")
        sampling = Sampling.from_temperature(temperature, self.program.logit_scale_bits, top_k)
        backend, texts = self.backend, []
        ends = () if ignore_eos else special.eos
        for at in range(0, len(feeds), backend.together):
            group = feeds[at : at + backend.together]
            sessions = [backend.open() for _ in group]
            try:
                for session, feed in zip(sessions, group, strict=True):
                    if len(feed) > 1:
                        backend.run(session, Run(feed[:-1], loops=loops))
                runs = [
                    Run(feed[-1:], max_tokens, sampling, seed_state(seed + k), loops)
                    for k, feed in enumerate(group, at)
                ]
                for chosen, _ in backend.run_together(sessions, runs):
                    texts.append(bytes(takewhile(lambda token: token not in ends, chosen)))
            finally:
                for session in sessions:
                    backend.release(session)
        return texts

    def _session_closed(self) -> None:
        self._sessions -= 1

    @property
    def meter(self) -> Meter:
        """Work done so far."""
        return self.backend.meter

    @property
    def board(self) -> BoardBackend:
        """The board. Raises UsageError if the executor is none."""
        if not isinstance(self.backend, BoardBackend):
            raise UsageError(f"{self.kind} is no board", f"open one of: {', '.join(LINKED)}")
        return self.backend

    @property
    def identity(self) -> Identity | None:
        """The board's answer to HELLO; None where there is no board."""
        return self.backend.identity if isinstance(self.backend, BoardBackend) else None

    def speed(self) -> Speed:
        """Speed of the work so far, and where the number comes from."""
        return self.backend.speed()

    def close(self) -> None:
        """Free the executor or the line; sessions cannot be used any more. Closing twice is allowed."""
        if not self._closed:
            self._closed = True
            self.backend.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open_model(model: str | Path | Program | Model | None, engine: Geometry | None) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, Program):
        return Model(model, None)
    if model is None and engine is not None:
        return default_model(engine)
    path = resolve(model)
    return Model(load(path), path)


def geometry_of(board: str) -> Geometry:
    """Return the geometry of a board, or the one of that name. Raises UsageError if neither is known."""
    if board not in PRESETS:
        found = find_board(board)
        if found is not None:
            return found.engine
    return preset(board)


def _label(board: str, geometry: Geometry) -> str:
    """Return what a device is called: the board if it has that engine, else the engine."""
    found = find_board(board)
    return found.name if found is not None and found.geometry == geometry.name else geometry.name


def identify(identity: Identity, geometry: Geometry, bitstream: str | bytes | None = None) -> None:
    """Raises WrongBitstream or WrongGeometry unless the board is one that ``geometry``'s images run on."""
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


def open_line(
    name: ExecutorName, board: str, geometry: Geometry, waves: str | Path | None = None
) -> Transport:
    """Open the line of an executor behind one; builds the simulated board if need be. Raises as
    `Device.open`.
    """
    if waves is not None and name.kind != "sim":
        raise UsageError(f"{name.kind} writes no waves", "open sim")
    if name.kind == "replay":
        return ReplayTransport(name.detail)
    if name.kind == "serial":
        found = find_board(board)
        if found is None:
            raise UsageError(f"{board!r} is no board", f"choose one of: {', '.join(BOARDS)}")
        return SerialTransport(name.detail, found.baud)
    if name.kind == "netlist":
        from ternac.sim.netlist import build_netlist_board

        return ProcessTransport([str(build_netlist_board(geometry))])
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
