"""The image of a program: contents of an engine's memories, and where the host finds what in them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from ternac.compile.geometry import Geometry, Mem
from ternac.compile.isa import LAYOUT, WORDS, Instruction, Opcode
from ternac.errors import DoesNotFit

Words = npt.NDArray[np.uint32]


@dataclass(frozen=True)
class Symbol:
    """Place of a vector: bank word of slot 0 (a state's: of session slot 0), length, dtype.

    ``parts``: equal pieces of it, each of which begins at a slot: those of a loop's runs, of a state.
    """

    address: int
    length: int
    dtype: str
    parts: int = 1

    def slots(self, geometry: Geometry) -> int:
        """Return the bank words per column that it takes."""
        return self.parts * geometry.slots(self.length // self.parts)


@dataclass(frozen=True)
class RowSymbol:
    """Place of a session's memory: row word of its first row (of session slot 0), rows, elements of a row,
    log2 of the row words that a row takes.
    """

    address: int
    rows: int
    width: int
    step: int


@dataclass(frozen=True)
class Image:
    """Contents of an engine's memories, and the map that the host needs to find values in them.

    ``memories[mem]`` is ``[blocks, used depth]``. ``symbols`` holds the values that are still intact after a
    token (all of them if the banks are deep enough). A session's state starts at bank word ``state_base + i *
    state_slots``, and its ``session_base`` is ``i * state_slots``. Each of the ``entries`` is the first word
    of a copy of the microcode with bank and x words of its own, so that one token per entry can be in flight.
    ``instructions``, ``names``, ``symbols`` and ``logits`` are those of the first copy.

    ``rows`` holds a session's memories. They take ``row_words`` words of row RAM, from word ``row_base`` plus
    ``session_base << row_shift`` on; constant rows lie below ``row_base``.
    """

    geometry: Geometry
    program_hash: str
    memories: dict[Mem, Words]
    instructions: tuple[Instruction, ...]
    names: tuple[str, ...]
    symbols: dict[str, Symbol]
    states: dict[str, Symbol]
    state_base: int
    state_slots: int
    sessions: int
    logits: Symbol
    entries: tuple[int, ...] = (0,)
    rows: dict[str, RowSymbol] = field(default_factory=dict)
    row_base: int = 0
    row_words: int = 0
    row_shift: int = 0

    def session_base(self, index: int) -> int:
        """Return the offset that selects session slot ``index``.

        Raises DoesNotFit if the banks hold fewer sessions.
        """
        if not 0 <= index < self.sessions:
            message = f"session slot {index}: this image has {self.sessions} slots"
            raise DoesNotFit(message, resource="session slots", needed=index + 1, limit=self.sessions)
        return index * self.state_slots

    def loop_words(self, context: int) -> tuple[int, ...]:
        """Return the words of the microcode that say how often a context's LOOPs run.

        A host that is asked for other runs writes them there.
        """
        word, size = LAYOUT["count"][0], len(self.instructions) * WORDS
        loops = (i for i, inst in enumerate(self.instructions) if inst.op == Opcode.LOOP)
        return tuple(context * size + i * WORDS + word for i in loops)

    def with_loops(self, loops: int | None) -> Image:
        """Return the map of the image whose LOOPs run ``loops`` times, or (None) as often as they say.

        Its memories are the same; `loop_words` tells which words of them differ on an engine.
        """
        if loops is None:
            return self
        run = (replace(i, count=loops) if i.op == Opcode.LOOP else i for i in self.instructions)
        return replace(self, instructions=tuple(run))

    def row_start(self, index: int) -> int:
        """Return the first word of the rows of session slot ``index``.

        Raises DoesNotFit as `session_base` does.
        """
        return self.row_base + (self.session_base(index) << self.row_shift)
