"""Change what the block RAMs of a routed ECP5 design hold, without placing or routing again.

A routed design, as nextpnr's textual configuration or unpacked from a bitstream, holds one ``.bram_init N``
block per DP16KD: 2048 words of 9 bits. ``N`` is a number that nextpnr hands out, and nothing in the file
says which memory of the design it is. So before place and route every DP16KD of the netlist is marked with
a number of its own in its first bits (``mark``); afterwards the marks are read back (``find_marks``) and
replaced by the real contents (``patch``). The marks are gone from the finished bitstream; the table of
numbers is kept next to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ternac.errors import BuildFailed

WORDS = 2048
"""9-bit words of a DP16KD."""
INIT_ROWS = 64
"""Parameters INITVAL_00..3F, each 320 bits: 16 pairs of 9-bit words in 20 bits."""

_HEADER = re.compile(r"^\.bram_init (\d+)$", re.MULTILINE)
_MAGIC = (0x155, 0x0AA, 0x1C3)

Contents = NDArray[np.uint16]
"""2048 words of 9 bits."""


def parameters(contents: Contents) -> dict[str, str]:
    """INITVAL parameters, as bit strings for a JSON netlist, that make a DP16KD start with ``contents``."""
    pairs = contents.astype(np.uint32).reshape(INIT_ROWS, 16, 2)
    values = pairs[:, :, 0] | pairs[:, :, 1] << 9
    return {
        f"INITVAL_{row:02X}": "".join(f"{value:020b}" for value in values[row][::-1])
        for row in range(INIT_ROWS)
    }


def contents_of(cell_parameters: Mapping[str, str]) -> Contents:
    """Inverse of ``parameters``; missing rows and undefined bits are 0."""
    words = np.zeros(WORDS, np.uint16)
    for row in range(INIT_ROWS):
        bits = str(cell_parameters.get(f"INITVAL_{row:02X}", "0")).replace("x", "0").zfill(320)
        for i in range(16):
            value = int(bits[320 - 20 * (i + 1) : 320 - 20 * i], 2)
            words[32 * row + 2 * i] = value & 0x1FF
            words[32 * row + 2 * i + 1] = value >> 9 & 0x1FF
    return words


def mark(netlist: dict[str, Any], top: str = "top") -> list[str]:
    """Put a number into each DP16KD of the flat ``netlist`` (changed in place); names of the cells by
    number.
    """
    names: list[str] = []
    for name, cell in sorted(netlist["modules"][top]["cells"].items()):
        if cell["type"] != "DP16KD":
            continue
        contents = np.zeros(WORDS, np.uint16)
        contents[:5] = (*_MAGIC, len(names) & 0x1FF, len(names) >> 9)
        cell["parameters"].update(parameters(contents))
        names.append(name)
    return names


def read_config(config: str) -> dict[int, Contents]:
    """Contents of every block RAM of a textual configuration, by nextpnr's number."""
    found: dict[int, Contents] = {}
    for match in _HEADER.finditer(config):
        start, end = _extent(config, match.end())
        words = np.array([int(word, 16) for word in config[start:end].split()], np.uint16)
        if len(words) != WORDS:
            raise BuildFailed(
                f"block RAM {match.group(1)} of the configuration has {len(words)} words, not {WORDS}",
                "the configuration is truncated or made by an unknown version of nextpnr",
            )
        found[int(match.group(1))] = words
    return found


def find_marks(config: str, names: Sequence[str]) -> dict[str, int]:
    """Cell name -> nextpnr's number, from the marks of a routed configuration; BuildFailed unless all are
    there.
    """
    numbers: dict[str, int] = {}
    for number, words in read_config(config).items():
        if tuple(words[:3]) == _MAGIC and not words[5:].any():
            numbers[names[int(words[3]) | int(words[4]) << 9]] = number
    missing = sorted(set(names) - set(numbers))
    if missing:
        raise BuildFailed(
            f"{len(missing)} of {len(names)} block RAMs are not in the routed design, first {missing[0]}",
            "place and route dropped or renamed them",
        )
    return numbers


def patch(config: str, contents: Mapping[int, Contents]) -> str:
    """The configuration with the contents of the given block RAMs replaced; BuildFailed when one is not
    there.
    """
    todo = dict(contents)
    pieces, position = [], 0
    for match in _HEADER.finditer(config):
        words = todo.pop(int(match.group(1)), None)
        if words is None:
            continue
        start, end = _extent(config, match.end())
        pieces += [config[position:start], _render(words)]
        position = end
    if todo:
        raise BuildFailed(f"the configuration has no block RAM {min(todo)}", "it belongs to another build")
    return "".join(pieces) + config[position:]


def _extent(config: str, after_header: int) -> tuple[int, int]:
    """Start and end of the hexadecimal words after a header: up to the blank line."""
    start = after_header + 1
    end = config.find("\n\n", start)
    return start, len(config) if end < 0 else end + 1


def _render(words: Contents) -> str:
    rows = words.reshape(-1, 8)
    return "".join(" ".join(f"{word:03x}" for word in row) + "\n" for row in rows)


def as_contents(words: Sequence[int]) -> Contents:
    """2048 words of 9 bits as an array; ValueError when there are more or fewer."""
    if len(words) != WORDS:
        raise ValueError(f"a block RAM has {WORDS} words, not {len(words)}")
    return np.array(words, np.uint16)
