"""PKM: constant rows at product keys in place of half a gated layer, in a language model of as many bytes.

Two models of Tiny Shakespeare, trained alike. In one the first gated layer is less than half as large, and
what it lost is a table of int8 rows in front of the first recurrence: a token reads one row a head, at a
digit of its own and one of the token before. Bytes are those of all constants, trits at 5 a byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ternac.model.memory.system import Case, Curves, Figure, Found, System
from ternac.model.training.data import SHAKESPEARE, read_text, split
from ternac.program.program import Program

PLAIN, ROWS = "plain", "rows"
VALIDATION = 0.1
"""Of the text, its end."""
SESSIONS = 128
"""Pieces of the validation text, each read from an empty state."""
TRITS_A_BYTE = 5


def texts() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the characters that are trained on, and those that are not."""
    train, validation = split(read_text(SHAKESPEARE), VALIDATION)
    return train.astype(np.int64), validation.astype(np.int64)


def nats(found: Sequence[Found], scale_bits: int) -> float:
    """Return the loss per character of what was asked for."""
    total, count = 0.0, 0
    for one in found:
        logits = one.logits * 2.0**-scale_bits
        peak = logits.max(-1)
        right = np.take_along_axis(logits, one.case.answers[: len(logits), None], -1)[:, 0]
        total += float((peak + np.log(np.exp(logits - peak[:, None]).sum(-1)) - right).sum())
        count += len(logits)
    return total / count


def program_bytes(program: Program) -> float:
    """Return the bytes of all constants, trits at `TRITS_A_BYTE`."""
    roles = program.roles()
    return sum(
        each.size / TRITS_A_BYTE if roles[name] == "trits" else float(each.nbytes)
        for name, each in program.consts.items()
    )


class ProductKeys(System):
    """A language model with constant rows beside one without, see the module."""

    name = "pkm"
    title = "constant rows at product keys in place of half a gated layer, at equal bytes"
    parts = (PLAIN, ROWS)
    draws = True

    def cases(self, part: str, program: Program) -> list[Case]:
        """The validation text in pieces; every next character is asked for."""
        _, text = texts()
        length = (len(text) - 1) // SESSIONS
        return [
            Case(
                text[first : first + length], np.arange(length), text[first + 1 :][:length], ["text"] * length
            )
            for first in range(0, SESSIONS * length, length)
        ]

    def figures(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Figure]:
        loss = {part: nats(found[part], programs[part].logit_scale_bits) for part in self.parts}
        size = {part: program_bytes(programs[part]) for part in self.parts}
        return [
            *(Figure(f"{part}: nats a character", loss[part]) for part in self.parts),
            *(Figure(f"{part}: bytes", size[part]) for part in self.parts),
            Figure("bytes of rows beyond plain", size[ROWS] - size[PLAIN], 0.0, most=True),
            Figure("nats of rows beyond plain", loss[ROWS] - loss[PLAIN], 0.0, most=True),
        ]

    def curves(self, programs: Mapping[str, Program], found: Mapping[str, Sequence[Found]]) -> list[Curves]:
        """Loss in training, by step."""
        lines = {}
        for part in self.parts:
            curve = np.array(programs[part].meta["curve"])
            lines[part] = (curve[:, 0].tolist(), curve[:, 1].tolist())
        return [Curves("step of training", "nats a character", lines)]


SYSTEM = ProductKeys()
