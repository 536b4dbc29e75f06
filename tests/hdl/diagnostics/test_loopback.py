"""The whole loopback in RTL against its model, byte for byte; its bitstreams as they are shipped."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from ternac.compile.geometry import Mem
from ternac.errors import UsageError
from ternac.hdl.boards.boards import BOARDS, board
from ternac.hdl.cells.tech import Technology
from ternac.hdl.diagnostics.design import loopback_board, memories, phase_steps, sdram_of
from ternac.hdl.diagnostics.line_test import random_bytes
from ternac.hdl.diagnostics.patterns import Pattern
from ternac.hdl.diagnostics.registers import REGISTERS, SCRATCH, Action, Setting, Value
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.transport import ProcessTransport
from ternac.link import READ, SEQUENCE, WRITE, Command, Frame, SlipDecoder, encode_words
from ternac.sim.loopback import build_loopback, loopback_id
from ternac.sim.loopback_model import LoopbackModel

QUICK = Patience(base=20, step=0, retries=0)
_ICE, _ULX = board("icebreaker"), board("ulx3s-85f")
SMALL = {
    "icebreaker": replace(_ICE, chip=replace(_ICE.chip, resources={"bram": 12, "spram": 1})),
    "ulx3s-85f": replace(_ULX, chip=replace(_ULX.chip, tech=Technology.ICE40, resources={"bram": 12})),
}
"""The boards with little memory; the name chooses whether there is an SDRAM."""


def setting_words(rng: random.Random, target: str) -> list[int]:
    """MEMORY to DOWN: an element within the memory."""
    shapes = memories(SMALL[target])
    memory = rng.randrange(len(shapes) + (sdram_of(SMALL[target]) is not None))
    code = [rng.choice(list(Pattern)) << 1 | rng.randrange(2) << 4 | 1 for _ in range(2)]
    if memory == len(shapes):
        count, down = 8 * rng.randrange(1, 5), 0
        first = 8 * rng.randrange(1000)
        code[rng.randrange(2)] = 0
    else:
        count, down = rng.randrange(1, 60), rng.randrange(2)
        first = rng.randrange(60, shapes[memory].words - 60)
    seed = rng.randrange(1, 1 << 32)
    return [memory, *code, seed & 0xFFFF, seed >> 16, first, 0, count, 0, down]


@pytest.mark.parametrize("name", SMALL)
def test_rtl_equals_model(name: str) -> None:
    """Random elements, line tests, phase steps and scratch words: every answer is the model's."""
    rng, target = random.Random(name), SMALL[name]
    model = LoopbackModel.of(target, 0, loopback_id(target))
    line = ProcessTransport(build_loopback(target))
    client, decoder = LinkClient(line, QUICK), SlipDecoder()
    seq = 0

    def ask(command: Command, payload: bytes) -> bytes:
        nonlocal seq
        got = client.request(command, payload)
        (raw,) = decoder.feed(model.feed(Frame(command, seq, payload).wire()))
        seq = (seq + 1) % SEQUENCE
        want = Frame.decode(raw)
        assert want is not None and want.payload[1:] == got
        return got

    def write(address: int, words: list[int], block: int = REGISTERS) -> None:
        ask(Command.WRITE, WRITE.pack(Mem.BANK, block, address) + encode_words(words))

    try:
        assert client.hello() == model.link.identity
        model.feed(Frame(Command.HELLO, seq).wire())
        seq += 1
        wrong = 0
        for _ in range(40):
            write(Setting.MEMORY, setting_words(rng, name))
            write(Setting.ACTION, [Action.MEMORY])
            while client.read(REGISTERS, Value.STATUS, 1)[0] & 7:
                pass
            answer = ask(Command.READ, READ.pack(10, REGISTERS, Value.ERRORS))
            wrong += any(answer)
            write(rng.randrange(200), [rng.randrange(1 << 16) for _ in range(20)], SCRATCH)
            ask(Command.READ, READ.pack(255, SCRATCH, rng.randrange(256)))
        assert wrong > 5
        for echo, send in ((0, 300), (1, 0), (0, 0)):
            data = bytearray(random_bytes(200))
            data[50] ^= 4
            write(Setting.RECEIVE, [len(data), send, echo])
            write(Setting.ACTION, [Action.LINE])
            line.write(bytes(data))
            came = b""
            while len(came) < (200 if echo else send):
                came += line.read(5)
            model_came = model.feed(bytes(data))
            assert came == (bytes(data) if echo else random_bytes(send)) or came == model_came
            ask(Command.READ, READ.pack(3, REGISTERS, Value.RECEIVED))
        for earlier in (1, 1, 0, 1):
            write(Setting.EARLIER, [earlier])
            write(Setting.ACTION, [Action.PHASE])
            ask(Command.READ, READ.pack(1, REGISTERS, Value.PHASE))
    finally:
        line.close()


def test_memories_of_the_boards() -> None:
    """Most block RAM of each chip, all single-port RAM; the phase of the ULX3S in steps of a fifth of a
    ns.
    """
    for target in BOARDS.values():
        if target.tech not in (Technology.ECP5, Technology.ICE40):
            continue
        shapes = memories(target)
        bits = sum(shape.bits * shape.words for shape in shapes if shape.storage == "block")
        whole = target.resources["bram"] * (18 << 10 if target.tech is Technology.ECP5 else 4 << 10)
        least = 0.5 if target.resources["bram"] == 56 else 0.7  # banks are of two sizes: the rest is left
        assert least * whole < bits < whole
    assert phase_steps(board("ulx3s-85f")) == (80, pytest.approx(5 / 24))
    assert loopback_board(board("ulx3s-85f")).clock_hz == 60_000_000
    assert sdram_of(board("icebreaker")) is None
    target = board("icebreaker")
    other = replace(target, chip=replace(target.chip, tech=Technology.PORTABLE))
    with pytest.raises(UsageError, match="there is no loopback for icebreaker"):
        memories(other)
