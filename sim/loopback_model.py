"""The loopback in Python: the same bytes in and out as hdl/diagnostics, without time, and with faults if
asked for.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Any

from ternac.compile.geometry import Mem
from ternac.hdl.boards.board import Board
from ternac.hdl.diagnostics.design import memories, sdram_of
from ternac.hdl.diagnostics.line_test import LineTest, random_bytes
from ternac.hdl.diagnostics.march import Errors, MarchElement
from ternac.hdl.diagnostics.patterns import Pattern
from ternac.hdl.diagnostics.registers import (
    LOOPBACK,
    REGISTERS,
    SCRATCH,
    SCRATCH_WORDS,
    Action,
    Setting,
    Status,
    Value,
)
from ternac.hdl.diagnostics.sdram_test import WORD_BITS
from ternac.link import Identity
from ternac.run.sampling import Sampling
from ternac.sim.link_model import LinkModel

__all__ = ["LoopbackModel", "Words"]

_WIDE = (Value.ERRORS, Value.ADDRESS, Value.EXPECTED, Value.FOUND, Value.MASK)
_UNWRITTEN = 0


class Words(MutableSequence[int]):
    """Words of a memory. ``stores(address, word)`` and ``reads(address, word)`` may spoil what is written
    where, and what is read.
    """

    def __init__(
        self,
        size: int,
        stores: Callable[[int, int], tuple[int, int]] = lambda address, word: (address, word),
        reads: Callable[[int, int], int] = lambda address, word: word,
    ) -> None:
        self.size, self.stores, self.reads = size, stores, reads
        self.words: dict[int, int] = {}

    def __getitem__(self, at: Any) -> Any:
        return self.reads(at, self.words.get(at, _UNWRITTEN))

    def __setitem__(self, at: Any, word: Any) -> None:
        where, what = self.stores(at, word)
        self.words[where] = what

    def __delitem__(self, at: Any) -> None:
        raise TypeError("a memory has always the same words")

    def insert(self, index: int, value: int) -> None:
        """Raises TypeError: a memory has always the same words."""
        raise TypeError("a memory has always the same words")

    def __len__(self) -> int:
        return self.size


class LoopbackModel:
    """The loopback of ``target``: `feed` takes wire bytes and returns wire bytes.

    ``memories`` are the words of the memories under test, the SDRAM's last; ``clear_phase(position)`` says
    whether words come in time there at a position of the PLL's phase: where not, each read gives the word
    before.
    """

    def __init__(self, target: Board, identity: Identity) -> None:
        self.shapes, self.chip = memories(target), sdram_of(target)
        self.memories = [Words(shape.words) for shape in self.shapes]
        if self.chip is not None:
            self.memories.append(Words(1 << self.chip.word_bits))
        self.clear_phase: Callable[[int], bool] = lambda position: True
        self.link = LinkModel(identity, (2, 3, 1, 2, 2, 1, 2), self)
        self.scratch = [0] * SCRATCH_WORDS
        self.settings = [0] * 16
        self.values = [0] * 16
        self.position = 0
        self._test: bytearray | None = None
        """What came for the line test in work."""

    @classmethod
    def of(cls, target: Board, clock_hz: int, bitstream_id: bytes) -> LoopbackModel:
        """A board with no fault."""
        return cls(target, Identity(bitstream_id, LOOPBACK.hash, clock_hz, bytes(16)))

    def feed(self, data: bytes) -> bytes:
        """Return what is sent for ``data``."""
        out = bytearray()
        for byte in data:
            if self._test is None:
                out += self.link.feed(bytes((byte,)))
            else:
                self._test.append(byte)
                if self.settings[Setting.ECHO]:
                    out.append(byte)
                elif len(self._test) == 1:
                    out += random_bytes(self.settings[Setting.SEND])
            if self._test is not None and len(self._test) == self.settings[Setting.RECEIVE]:
                self.rest()
        return bytes(out)

    def rest(self) -> None:
        """Nothing has come for the line test's patience."""
        if self._test is None:
            return
        count = LineTest.model(bytes(self._test))
        echo = self.settings[Setting.ECHO]
        self.values[Value.RECEIVED] = count.received
        self.values[Value.WRONG_BYTES] = 0 if echo else min(count.wrong_bytes, 0xFFFF)
        self.values[Value.WRONG_BITS] = 0 if echo else min(count.wrong_bits, 0xFFFF)
        self._test = None

    def write(self, mem: int, block: int, addr: int, data: int) -> None:
        """Write one loader word."""
        if mem != Mem.BANK:
            return
        if block == SCRATCH:
            self.scratch[addr % SCRATCH_WORDS] = data & 0xFFFF
        elif block == REGISTERS and addr < len(self.settings):
            self.settings[addr] = data & 0xFFFF
            if addr == Setting.ACTION:
                self._act(data & 7)

    def read(self, block: int, addr: int) -> int:
        """Read one word."""
        if block != REGISTERS:
            return self.scratch[addr % SCRATCH_WORDS]
        if addr == Value.STATUS:
            return (self.chip is not None) << Status.SDRAM_READY | (self._test is not None) << Status.LINE
        if addr == Value.PHASE:
            return self.position & 0xFFFF
        return self.values[addr] if addr < len(self.values) else 0

    def step(
        self, token: int, session_base: int, emit: bool, sampling: Sampling, rng: int, entry: int = 0
    ) -> tuple[int, int, int]:
        """There is no engine: token 0 in no cycles."""
        return 0, rng, 0

    def _act(self, action: int) -> None:
        if action == Action.LINE:
            self._test = bytearray()
        elif action == Action.PHASE and self.chip is not None:
            self.position += -1 if self.settings[Setting.EARLIER] & 1 else 1
        elif action == Action.MEMORY:
            errors = self._run(self.settings[Setting.MEMORY])
            for value, number in zip(
                _WIDE, (errors.count, errors.address, errors.expected, errors.found, errors.mask), strict=True
            ):
                self.values[value], self.values[value + 1] = number & 0xFFFF, number >> 16 & 0xFFFF

    def _wide(self, setting: Setting) -> int:
        return self.settings[setting] | self.settings[setting + 1] << 16

    def _run(self, memory: int) -> Errors:
        def which(setting: Setting) -> tuple[Pattern, bool] | None:
            code = self.settings[setting]
            return (Pattern(code >> 1 & 7), bool(code >> 4 & 1)) if code & 1 else None

        of_chip = memory == len(self.shapes)
        write = which(Setting.WRITE)
        element = MarchElement(
            check=None if of_chip and write else which(Setting.CHECK), write=write,
            seed=self._wide(Setting.SEED), first=self._wide(Setting.FIRST), count=self._wide(Setting.COUNT),
            down=bool(self.settings[Setting.DOWN] & 1) and not of_chip,
        )  # fmt: skip
        if of_chip:
            assert self.chip is not None
            words = self.memories[-1]
            if not self.clear_phase(self.position):
                words = Words(words.size, words.stores, lambda at, word: self.memories[-1][max(at - 1, 0)])
                words.words = self.memories[-1].words
            return element.run(words, WORD_BITS, self.chip.word_bits)
        bits, address_bits = (
            max(shape.bits for shape in self.shapes),
            max(shape.address_bits for shape in self.shapes),
        )
        return element.run(self.memories[memory], bits, address_bits, width=self.shapes[memory].bits)
