"""The register map of the AXI top level: the one table that RTL, JSON, SVD and C header are made from."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

__all__ = ["BLOCK", "MAP_VERSION", "MAP_WORDS", "REGISTERS", "Access", "Field", "Register", "register"]

MAP_VERSION = 1
MAP_WORDS = 32
"""Words of 32 bits that the map spans; what is not in it answers with an error."""
BLOCK = "TERNAC"


class Access(enum.Enum):
    """Access to a register; the values are SVD's words: its access, and its element for side effects."""

    READ = ("read-only", "")
    #: Reading has an effect: it takes what was read.
    TAKE = ("read-only", "<readAction>modify</readAction>")
    WRITE = ("write-only", "")
    BOTH = ("read-write", "")
    #: Bits written as 1 are cleared.
    CLEAR = ("read-write", "<modifiedWriteValues>oneToClear</modifiedWriteValues>")

    @property
    def readable(self) -> bool:
        """May be read."""
        return self is not Access.WRITE

    @property
    def writable(self) -> bool:
        """May be written."""
        return self in (Access.WRITE, Access.BOTH, Access.CLEAR)


@dataclass(frozen=True)
class Field:
    """``bits`` bits from bit ``low`` on."""

    name: str
    low: int
    bits: int
    text: str


@dataclass(frozen=True)
class Register:
    """A word at byte ``offset``; ``stream``: only in a top level with the streaming unit."""

    name: str
    offset: int
    access: Access
    text: str
    fields: tuple[Field, ...] = field(default_factory=tuple)
    stream: bool = False


def _words(name: str, offset: int, count: int, text: str) -> tuple[Register, ...]:
    return tuple(
        Register(f"{name}_{i}", offset + 4 * i, Access.READ, f"{text}, bytes {4 * i} to {4 * i + 3}")
        for i in range(count)
    )


REGISTERS: tuple[Register, ...] = (
    Register("ID", 0x00, Access.READ, "Always 0x54524E43, TRNC."),
    Register("VERSION", 0x04, Access.READ, "Which map this is.", (
        Field("MAP", 0, 8, "version of this register map"),
        Field("LINK", 8, 8, "version of the link's frames"),
        Field("STREAM", 16, 1, "1: the streaming unit is there"),
        Field("PORT_BYTES", 24, 8, "bytes of the streaming unit's data port"),
    )),
    Register("STATUS", 0x08, Access.READ, "The link, now.", (
        Field("IDLE", 0, 1, "nothing happens before the next byte"),
        Field("LOADED", 1, 1, "a program is committed"),
        Field("IN_READY", 2, 1, "IN takes a byte"),
        Field("OUT_VALID", 3, 1, "OUT holds a byte"),
    )),
    Register("FAULTS", 0x0C, Access.CLEAR, "What went wrong since it was cleared.", (
        Field("FRAME", 0, 1, "a frame was dropped or refused"),
        Field("OVERRUN", 1, 1, "a byte was written to IN, or a descriptor started, while there was no room"),
        Field("UNDERRUN", 2, 1, "SUM was read while it was empty"),
        Field("STREAM_READ", 3, 1, "a read of weights came with an error response"),
        Field("STREAM_BURST", 4, 1, "RLAST did not come at the end of a burst"),
        Field("STREAM_LENGTH", 5, 1, "a descriptor's beats do not fit its rows and words"),
    )),
    Register("CONTROL", 0x10, Access.BOTH, "Where the link's bytes come from and go to.", (
        Field("USE_STREAM", 0, 1, "1: AXI4-Stream; 0: IN and OUT. Change it while IDLE"),
        Field("INTERRUPT", 1, 1, "1: irq is high while OUT_VALID or SUM's VALID is"),
    )),
    Register("IN", 0x14, Access.WRITE, "A byte of a frame to the engine.", (
        Field("BYTE", 0, 8, "the byte"),
    )),
    Register("OUT", 0x18, Access.TAKE, "Reading takes a byte of an answer.", (
        Field("BYTE", 0, 8, "the byte"), Field("VALID", 8, 1, "there was one"),
    )),
    *_words("BITSTREAM_ID", 0x20, 4, "ID of the design"),
    *_words("GEOMETRY", 0x30, 2, "Hash of the engine's geometry"),
    Register("MV_ADDRESS", 0x40, Access.BOTH, "Byte address of a matrix.", stream=True),
    Register("MV_BEATS", 0x44, Access.BOTH, "Its words in memory.", stream=True),
    Register("MV_ROWS", 0x48, Access.BOTH, "Its rows.", stream=True),
    Register("MV_SHAPE", 0x4C, Access.BOTH, "Its shape.", (
        Field("WORDS", 0, 16, "words of a row group"),
        Field("X_BASE", 16, 16, "first word of its activations"),
    ), stream=True),
    Register("MV_START", 0x50, Access.WRITE, "Queues the matrix.", (
        Field("FENCE", 0, 1, "wait for X_READY before its products"),
    ), stream=True),
    Register("MV_STATUS", 0x54, Access.READ, "The streaming unit, now.", (
        Field("READY", 0, 1, "MV_START has room"), Field("SUM_VALID", 1, 1, "SUM holds a row's sum"),
        Field("SUM_LAST", 2, 1, "it is the last of its matrix"),
    ), stream=True),
    Register("X_ADDRESS", 0x58, Access.BOTH, "Activation word that X_DATA writes; counts up by itself.",
             stream=True),
    Register("X_DATA", 0x5C, Access.WRITE, "Four activations, lowest first; a word is PORT_BYTES of them.",
             stream=True),
    Register("X_READY", 0x60, Access.WRITE, "Activations are there: lets one fenced matrix begin.",
             stream=True),
    Register("SUM", 0x64, Access.TAKE, "Reading takes a row's sum, signed.", stream=True),
)  # fmt: skip
"""All registers, offsets upwards."""


def register(name: str) -> Register:
    """The register of that name; KeyError if there is none."""
    return {each.name: each for each in REGISTERS}[name]
