"""Registers of the loopback design, as the link reads and writes them: 16-bit words of BANK."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum

__all__ = [
    "LOOPBACK",
    "REGISTERS",
    "SCRATCH",
    "SCRATCH_WORDS",
    "Action",
    "LoopbackName",
    "Setting",
    "Status",
    "Value",
]


@dataclass(frozen=True)
class LoopbackName:
    """What stands where an engine's name and hash do: in folders and manifests, and as HELLO's geometry."""

    name: str
    hash: bytes


LOOPBACK = LoopbackName("loopback", hashlib.sha256(b"ternac loopback 1").digest()[:8])
SCRATCH, REGISTERS = 0, 1
"""Block of BANK: `SCRATCH_WORDS` words of memory for tests of the line, and the registers."""
SCRATCH_WORDS = 256


class Setting(IntEnum):
    """Addresses that are written. Values of more than 16 bits have their high part in the next word."""

    ACTION = 0
    """An `Action`, begun at once."""
    MEMORY = 1
    """Number of the memory under test, in the order of `ternac.hdl.diagnostics.design.memories`; the SDRAM is
    behind the others."""
    CHECK = 2
    """Bit 0: compare; 3 bits of a `Pattern`; bit 4: inverted."""
    WRITE = 3
    SEED = 4
    FIRST = 6
    COUNT = 8
    DOWN = 10
    RECEIVE = 11
    """Bytes that a line test takes."""
    SEND = 12
    ECHO = 13
    EARLIER = 14
    """Direction of a phase step."""


class Action(IntEnum):
    """What ACTION begins."""

    MEMORY = 1
    LINE = 2
    PHASE = 3
    SDRAM_RESET = 4


class Value(IntEnum):
    """Addresses that are read, likewise."""

    STATUS = 0
    ERRORS = 1
    ADDRESS = 3
    EXPECTED = 5
    FOUND = 7
    MASK = 9
    RECEIVED = 11
    WRONG_BYTES = 12
    WRONG_BITS = 13
    PHASE = 14


class Status(IntEnum):
    """Bits of STATUS."""

    MEMORY = 0
    """A memory is being tested."""
    LINE = 1
    PHASE = 2
    SDRAM_READY = 3
