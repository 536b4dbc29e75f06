"""The shipped language model with a memory: what it knows of a text, and of a passage that it reads again.

The model is `hybrid` of the zoo, as it is and with the rows of its memory chosen at export. Its loss on the
held-out text is that of ``ternac eval``, its gain at a second reading that of ``ternac eval --again``: the
same texts and places, fed as cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ternac.model.memory.system import Case, Figure, Found, System
from ternac.program import zoo
from ternac.program.program import Program
from ternac.run import evaluate as ev
from ternac.run.second_reading import counted, read_twice, standard_error

if TYPE_CHECKING:
    from ternac.model.training.checkpoint import Checkpoint

BOARD, LARGE = "hybrid", "large"
LARGE_ROWS = 131_072
NEAR = {0: 0.30, 1024: 0.10}
FAR = {131_072: 0.05}
"""Gain in nats that is asked for, by the tokens between two readings; the far ones with ``LARGE_ROWS``."""
FAR_PASSAGES = 8
"""A stream of the far distance is 131,456 tokens long."""
PLAIN = "plain"
PLAIN_BAR = 1.4634 + 0.02
"""The loss of `shakespeare`, which has as many trits, and what a memory may cost."""


class Hybrid(System):
    """A language model with a memory, see the module."""

    name = "hybrid"
    title = "a language model with a memory, and what it gains when it reads a passage again"
    parts = (BOARD, LARGE)

    def shipped(self, part: str) -> Program:
        """Load the model of the zoo; the large one is exported from its weights."""
        if part == BOARD:
            return zoo.open_program(zoo.ZOO / self.name)
        from ternac.model.training import checkpoint as ckpt
        from ternac.model.training.run_folder import CHECKPOINT

        return enlarged(ckpt.load(zoo.ZOO / self.name / CHECKPOINT))

    def cases(self, part: str, program: Program) -> list[Case]:
        held_out, other = part_of_text("val"), part_of_text("train")
        if part == LARGE:
            return [case for apart in FAR for case in readings(held_out, other, apart, FAR_PASSAGES)]
        return plain(held_out) + [case for apart in NEAR for case in readings(held_out, other, apart)]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        scale = 2.0 ** -programs[BOARD].logit_scale_bits
        whole = np.concatenate([nats_of(one, scale) for one in found[BOARD] if one.case.groups[0] == PLAIN])
        note = f"{len(whole):,} characters"
        result = [Figure("held-out text, nats a character", float(whole.mean()), PLAIN_BAR, True, note)]
        for part, bars in ((BOARD, NEAR), (LARGE, FAR)):
            size = sum(2 * memory.words for memory in programs[part].memories.values()) >> 10
            for apart, bar in bars.items():
                gains = np.array(
                    [gain(one, scale) for one in found[part] if one.case.groups[0] == f"{apart}"]
                )
                note = f"{len(gains)} passages, +-{standard_error(gains):.3f}"
                name = f"gain of a second reading {apart:,} later, {size:,} KiB"
                result.append(Figure(name, float(gains.mean()), bar, note=note))
        return result


def enlarged(saved: Checkpoint) -> Program:
    """Return the program of a checkpoint with ``LARGE_ROWS`` rows and even maps."""
    from ternac.model.export.export import RESIZED, to_program
    from ternac.model.export.resize import resize
    from ternac.model.training import checkpoint as ckpt

    model, memory = ckpt.model_of(saved), ckpt.model_config(saved).memory
    assert memory is not None
    meta = resize(model, LARGE_ROWS, memory.seed, part_of_text("train"))
    return to_program(model, f"{BOARD}-{LARGE}", {RESIZED: meta}, ckpt.tokenizer_of(saved))


def part_of_text(which: str) -> npt.NDArray[np.uint8]:
    """Return the shipped text for training (``"train"``) or what is held out (``"val"``), bytes as tokens."""
    return np.frombuffer(ev.split(ev.read_text(zoo.TEXT), which), np.uint8)


def plain(text: npt.NDArray[np.integer]) -> list[Case]:
    """Return a text cut as ``ternac eval`` does it: every token but the first is asked for once."""
    parts = ev.cut(len(text))
    return [
        Case.of(text[start:last].tolist(), list(range(first - 1 - start, last - 1 - start)), PLAIN)
        for start, first, last in zip(parts.start, parts.first, parts.last, strict=True)
    ]


def readings(
    text: npt.NDArray[np.integer], other: npt.NDArray[np.integer], apart: int, *passages: int
) -> list[Case]:
    """Return passages of ``text`` that are read twice; asked for are the first reading, then the second."""
    streams = read_twice(text, other, apart, *passages)
    at = [place for part in counted(apart) for place in range(part.start, part.stop)]
    return [Case.of(stream.tolist(), at, f"{apart}") for stream in streams]


def nats_of(one: Found, scale: float) -> npt.NDArray[np.float64]:
    """Return the cross entropy of each answer; a logit is worth ``scale``."""
    result: npt.NDArray[np.float64] = ev.nats(
        one.logits * scale, one.case.answers, np.arange(len(one.case.answers))
    )
    return result


def gain(one: Found, scale: float) -> float:
    """Return by how many nats a token the second reading is better than the first."""
    first, again = np.split(nats_of(one, scale), 2)
    return float(first.mean() - again.mean())


SYSTEM = Hybrid()
