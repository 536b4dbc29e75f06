"""The images of shipped models and of random programs stay what they are, byte for byte.

``python -m tests.compile.test_images`` writes ``images.json`` again, if a change is wanted.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import PRESETS, Geometry
from ternac.compile.loading import load_requests
from ternac.errors import DoesNotFit, UnsupportedOp
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.zoo import names, open_program

KNOWN = Path(__file__).with_name("images.json")
PIECE = 310
"""Data bytes of a WRITE here, whatever the link's frames take: an image is the same in other pieces."""
RANDOM = 6
"""Random programs, by seed."""


def digest(program: Program, geometry: Geometry, contexts: int | None = None) -> str:
    """Hash of the frames that load the image, and of the map that the host has of it."""
    try:
        image = compile_program(program, geometry, contexts=contexts)
    except (DoesNotFit, UnsupportedOp) as error:
        return type(error).__name__
    found = hashlib.sha256()
    for command, payload in load_requests(image, PIECE):
        found.update(bytes((command,)) + payload)
    for symbols in (image.symbols, image.states):
        for name, s in sorted(symbols.items()):
            found.update(f"{name} {s.address} {s.length} {s.dtype}\n".encode())
    places = (image.names, image.state_base, image.state_slots, image.sessions, image.logits.address)
    found.update(repr((*places, image.entries)).encode())
    if geometry.rows and program.memories:
        rows = sorted(image.rows.items())
        found.update(repr((rows, image.row_base, image.row_words, image.row_shift)).encode())
    return found.hexdigest()[:32]


def digests(program: Program) -> dict[str, str]:
    """Hashes on every preset, with as many contexts as fit and with one."""
    found = {name: digest(program, geometry) for name, geometry in PRESETS.items()}
    many = {name: geometry for name, geometry in PRESETS.items() if geometry.contexts > 1}
    return found | {f"{name} 1": digest(program, geometry, 1) for name, geometry in many.items()}


def random_digests(seed: int) -> dict[str, str]:
    return digests(random_program(np.random.default_rng(seed)))


@pytest.mark.parametrize("name", names())
def test_shipped_models(name: str) -> None:
    assert digests(open_program(name)) == json.loads(KNOWN.read_text())[name]


@pytest.mark.parametrize("seed", range(RANDOM))
def test_random_programs(seed: int) -> None:
    assert random_digests(seed) == json.loads(KNOWN.read_text())[f"random {seed}"]


if __name__ == "__main__":
    known = {name: digests(open_program(name)) for name in names()}
    known |= {f"random {seed}": random_digests(seed) for seed in range(RANDOM)}
    KNOWN.write_text(json.dumps(known, indent=1) + "\n")
