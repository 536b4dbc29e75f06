"""The model that an engine runs when none is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ternac.compile.compiler import compile_program
from ternac.compile.geometry import Geometry
from ternac.errors import DoesNotFit, ProgramError
from ternac.program.program import Program
from ternac.program.random import random_program
from ternac.program.random_memory import random_memory_program
from ternac.program.zoo import DEFAULT, names, open_program, resolve

__all__ = ["Model", "default_model", "largest_model", "memory_model"]


BYTES = 256
"""Tokens of a program of bytes."""
MEMORY_PROGRAMS = 100
"""Random programs with memories that are tried."""


@dataclass(frozen=True)
class Model:
    """A program, and its file where it has one."""

    program: Program
    path: Path | None


def largest_model(geometry: Geometry) -> str | None:
    """Return the name of the shipped model with the most ternary weights that fits ``geometry``, None if none
    does. Of several of that size the default model comes first, then one of bytes.
    """
    programs = {name: open_program(name) for name in names()}

    def rank(name: str) -> tuple[int, bool, bool]:
        return -programs[name].trits, name != DEFAULT, bool(programs[name].tokenizer)

    for name in sorted(programs, key=rank):
        try:
            compile_program(open_program(name), geometry, fill=False)
        except ProgramError:
            continue
        return name
    return None


def default_model(geometry: Geometry) -> Model:
    """Return the largest shipped model that fits ``geometry``, else a fixed random program.

    It is one of bytes, or of as many tokens as the engine has logits for, if those are fewer.
    """
    name = largest_model(geometry)
    if name is not None:
        return Model(open_program(name), resolve(name))
    vocabulary = min(BYTES, geometry.logit_slots * geometry.columns)
    program = random_program(np.random.default_rng(1), 24, 20, 2, vocabulary)
    meta = {"tokenizer": "bytes"} if vocabulary == BYTES else {}
    return Model(replace(program, meta=meta), None)


def memory_model(geometry: Geometry) -> Model:
    """Return a fixed random program with memories that an engine with rows holds.

    It is the first of fewer than `BYTES` tokens of which as many sessions run at a time as the engine has
    contexts.

    Raises DoesNotFit if there is none among `MEMORY_PROGRAMS`.
    """
    for seed in range(MEMORY_PROGRAMS):
        program = random_memory_program(np.random.default_rng(seed), loop="free", narrow=True)
        try:
            image = compile_program(program, geometry, contexts=geometry.contexts, fill=False)
        except ProgramError:
            continue
        if program.vocab < BYTES and any(inst.to_rows for inst in image.instructions):
            return Model(program, None)
    raise DoesNotFit(f"none of {MEMORY_PROGRAMS} random programs with memories fits {geometry.name}")
