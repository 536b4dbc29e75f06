"""A whole engine on its SDRAM behind the byte link: loaded, run and read by the frames of docs/link.md."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from ternac.compile.geometry import Mem
from ternac.compile.sdram import NOMINAL_HZ, ULX3S_CHIP
from ternac.errors import DoesNotFit
from ternac.hdl.wide.link_core import FAULT_BLOCK, WideLinkCore, linked_wide
from ternac.link import (
    Choice,
    Command,
    Frame,
    ReadRequest,
    RunAnswer,
    RunRequest,
    SlipDecoder,
    Status,
    WriteRequest,
    decode_words,
)
from ternac.run.numpy_executor import NumpyExecutor
from ternac.run.sampling import Sampling, choose
from ternac.sim.board import compile_verilog, emit, sdram_options
from tests.sim.test_sdram_wide import SHAPE, coded
from tests.sim.test_wide import draw

SMALL = replace(SHAPE, vocab=512)
ANY_BASE = 7


class Line:
    """Requests to a simulated board's standard input, answers from its output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process, self.decoder, self.sequence = process, SlipDecoder(), 0

    def ask(self, kind: Command, payload: bytes = b"") -> bytes:
        """The answer's payload behind its status, which is OK."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.sequence = (self.sequence + 1) % (1 << 16)
        self.process.stdin.write(Frame(kind, self.sequence, payload).wire())
        self.process.stdin.flush()
        while True:
            data = os.read(self.process.stdout.fileno(), 4096)
            assert data, "the board ended"
            for found in self.decoder.feed(data):
                answer = Frame.decode(found)
                assert answer is not None and answer.seq == self.sequence
                assert answer.payload[0] == Status.OK, Status(answer.payload[0])
                return answer.payload[1:]

    def write(self, requests: Iterable[WriteRequest]) -> None:
        for each in requests:
            self.ask(Command.WRITE, each.encode())

    def commit(self, program_hash: bytes) -> None:
        """Which closes the line: it is opened again."""
        self.ask(Command.COMMIT, program_hash)
        self.ask(Command.HELLO)

    def read(self, count: int, block: int, address: int) -> list[int]:
        return decode_words(self.ask(Command.READ, ReadRequest(count, block, address).encode()))


@pytest.fixture(scope="module")
def core() -> WideLinkCore:
    return WideLinkCore(SMALL, ULX3S_CHIP, NOMINAL_HZ)


@pytest.fixture(scope="module")
def command(core: WideLinkCore) -> list[str]:
    program = compile_verilog(emit(linked_wide(core, bytes(16))), sdram=True)
    return [str(program), *sdram_options(ULX3S_CHIP)]


@contextmanager
def line(command: list[str]) -> Iterator[Line]:
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        board = Line(process)
        board.ask(Command.HELLO)
        yield board
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


@pytest.mark.slow
def test_two_programs_are_loaded_and_their_tokens_and_states_are_numpys(
    core: WideLinkCore, command: list[str]
) -> None:
    """The second over the first: greedy, then draws with and without top-k; states read at the end."""
    with line(command) as board:
        for seed, vocab in ((3, 20), (8, 300)):
            program = draw(seed, d=24, m=40, layers=1, vocab=vocab, per_token=True)
            code = coded(program)
            board.write(core.load(code))
            board.commit(bytes(range(seed, seed + 16)))
            numpy = NumpyExecutor(program)
            state, rng, token = numpy.open(1), 12345, 1
            for rule in (Sampling(True, 1, 0, 0), Sampling(False, 160, 7, 0), Sampling(False, 160, 7, 5)):
                choice = Choice(rule.greedy, rule.m, rule.s, rule.top_k)
                run = RunRequest(ANY_BASE, [token], 3, choice, rng)
                answer = RunAnswer.decode(board.ask(Command.RUN, run.encode()), 3)
                expected = []
                for _ in range(3):
                    logits = numpy.step(state, np.array([token]))[0]
                    token, rng = choose(logits, rule, rng)
                    expected.append(token)
                assert (answer.tokens, answer.rng) == (expected, rng)
            for name, at in code.image.states.items():
                count = program.states[name]
                words = np.array(board.read(count, 0, at), np.uint16).view(np.int16)
                assert np.array_equal(words, state[0][:count])
            assert board.read(1, FAULT_BLOCK, 0) == [0]


@pytest.mark.slow
def test_weights_that_changed_in_the_load_are_found(core: WideLinkCore, command: list[str]) -> None:
    program = draw(8, d=24, m=40, layers=1, vocab=300, per_token=True)
    code = coded(program)

    def states(change: int) -> list[int]:
        requests = list(core.load(code))
        at = next(i for i, each in enumerate(requests) if each.mem == Mem.WEIGHT)
        old = requests[at]
        requests[at] = replace(old, data=bytes(each ^ change for each in old.data))
        with line(command) as board:
            board.write(requests)
            board.commit(bytes(range(16)))
            board.ask(Command.RUN, RunRequest(0, [1, 2, 3, 4], 1, Choice(True, 1, 0, 0)).encode())
            return board.read(24, 0, 0)

    assert states(0) != states(0x55)


def test_a_program_that_does_not_fit_is_refused(core: WideLinkCore) -> None:
    with pytest.raises(DoesNotFit, match="the program has 600 tokens"):
        list(core.load(coded(draw(3, d=24, m=40, layers=1, vocab=600))))
