"""The line between host and board, cycle by cycle: UART, buffers and link controller with a stub engine.

The line depends only on how long a token takes, not on the engine's arithmetic: a stub takes as many cycles
as the real engine, and Amaranth's own simulator is fast enough.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from amaranth.hdl import Elaboratable, Module, Signal
from amaranth.sim import Simulator, SimulatorContext

from ternac.hdl.link.controller import LinkController
from ternac.hdl.link.top import LinkedEngine, UartEngine
from ternac.hdl.link.uart import UartRx, UartTx
from ternac.link import (
    ANSWER,
    HASH_BYTES,
    SEQUENCE,
    Choice,
    Command,
    Frame,
    RunAnswer,
    RunRequest,
    SlipDecoder,
    Status,
)
from ternac.sim.stub_core import StubCore, StubModel

__all__ = ["LineRun", "expected_tokens", "run_line"]

POLL = 1e-6
"""Seconds between two polls of the host for answers."""
ARGMAX = Choice(True, 0, 0, 0)


@dataclass(frozen=True)
class LineRun:
    """The outcome of `run_line`: ``tokens``, in order; ``cycles`` of the engine's clock from the first answer
    to the last, and the number of tokens ``between`` them; ``engine_cycles`` of one token.
    """

    tokens: list[int]
    cycles: int
    between: int
    engine_cycles: int

    @property
    def engine_share(self) -> float:
        """Share of the time between first and last answer in which the engine worked on tokens."""
        return self.between * self.engine_cycles / self.cycles


class _Pair(Elaboratable):
    """A board and the host's end of its line."""

    def __init__(self, clock_hz: int, baud: int, latency: int, window: int) -> None:
        controller = LinkController(clock_hz, bytes(16), bytes(8), b"\1" * HASH_BYTES, window=window)
        self.board = UartEngine(LinkedEngine(StubCore(latency=latency), controller), baud)
        self.sender, self.receiver = UartTx(clock_hz, baud), UartRx(clock_hz, baud)
        self.cycle = Signal(40)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.board, m.submodules.sender, m.submodules.receiver = (
            self.board,
            self.sender,
            self.receiver,
        )
        m.d.sync += self.cycle.eq(self.cycle + 1)
        m.d.comb += [
            self.board.rx.eq(self.sender.tx),
            self.receiver.rx.eq(self.board.tx),
            self.receiver.o.ready.eq(1),
        ]
        return m


def run_line(
    clock_hz: int, baud: int, engine_cycles: int, *, window: int, chunk: int, answers: int, turnaround: float
) -> LineRun:
    """Generate ``answers`` times ``chunk`` tokens in one session, with up to ``window`` requests in flight.

    ``engine_cycles``: of one token, at least 3. ``turnaround``: seconds from the last byte of an answer on
    the wire to the first byte of the request that it releases. Raises RuntimeError if the board refuses one.
    """
    # the stub takes one cycle more than its latency, and the controller starts it in one
    pair = _Pair(clock_hz, baud, engine_cycles - 1, window)
    decoder = SlipDecoder()
    tokens: list[int] = []
    arrived: list[int] = []
    outbox: deque[bytes] = deque()
    opened: list[bool] = []
    sent = 0

    def ask() -> None:
        nonlocal sent
        if sent == answers:
            return
        follows = sent > 0 and window > 1
        feed = [] if follows else [tokens[-1] if tokens else 1]
        run = RunRequest(0, feed, chunk, ARGMAX, follows=follows)
        sent += 1  # HELLO has number 0
        outbox.append(Frame(Command.RUN, sent % SEQUENCE, run.encode()).wire())

    async def source(ctx: SimulatorContext) -> None:
        outbox.append(Frame(Command.HELLO, 0).wire())
        released = 0
        while len(arrived) < answers:
            if not outbox:
                await ctx.delay(POLL)
                if opened:
                    opened.clear()
                    for _ in range(window):
                        ask()
                now = ctx.get(pair.cycle)
                while released < len(arrived) and arrived[released] + turnaround * clock_hz <= now:
                    released += 1
                    ask()
                continue
            for byte in outbox.popleft():
                ctx.set(pair.sender.i.payload, byte)
                ctx.set(pair.sender.i.valid, 1)
                await ctx.tick().until(pair.sender.i.ready)
            ctx.set(pair.sender.i.valid, 0)

    async def sink(ctx: SimulatorContext) -> None:
        while True:
            await ctx.posedge(pair.receiver.o.valid)
            for raw in decoder.feed((ctx.get(pair.receiver.o.payload),)):
                frame = Frame.decode(raw)
                if frame is None or frame.payload[0] != Status.OK:
                    raise RuntimeError(f"the board answered {raw.hex()}")
                if frame.kind == Command.HELLO | ANSWER:
                    opened.append(True)
                    continue
                tokens.extend(RunAnswer.decode(frame.payload[1:], chunk).tokens)
                arrived.append(ctx.get(pair.cycle))

    simulator = Simulator(pair)
    simulator.add_clock(1 / clock_hz)
    simulator.add_testbench(source)
    simulator.add_testbench(sink, background=True)
    simulator.run()
    return LineRun(tokens, arrived[-1] - arrived[0], (answers - 1) * chunk, engine_cycles)


def expected_tokens(count: int) -> list[int]:
    """Return the tokens that the stub engine chooses, starting from token 1 with an empty bank."""
    model, tokens = StubModel(), [1]
    for _ in range(count):
        tokens.append(model.step(tokens[-1], 0, True, 0)[0])
    return tokens[1:]
