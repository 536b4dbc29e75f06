"""The register map of the AXI top level: the one table that RTL, JSON, SVD and C header are made from."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace

__all__ = [
    "BLOCK",
    "ID",
    "MAP_VERSION",
    "MAP_WORDS",
    "OKAY",
    "REGISTERS",
    "SLVERR",
    "Access",
    "Field",
    "Register",
    "RegisterMap",
    "chosen",
    "engine_map",
    "register",
]

ID = 0x54524E43
"""The value of register ID."""
MAP_VERSION = 1
MAP_WORDS = 32
"""Words of 32 bits that the map spans; what is not in it answers with an error."""
BLOCK = "TERNAC"
OKAY, SLVERR = 0, 2
"""AXI's responses: SLVERR to an access that no register answers."""


class Access(enum.Enum):
    """Access to a register; the values are SVD's words: its access, and its element for side effects."""

    READ = ("read-only", "")
    #: Reading has an effect: it takes what was read.
    TAKE = ("read-only", "<readAction>modify</readAction>")
    WRITE = ("write-only", "")
    BOTH = ("read-write", "")
    #: Writing starts one thing, reading another.
    MOVE = ("read-write", "<readAction>modify</readAction>")
    #: Bits written as 1 are cleared.
    CLEAR = ("read-write", "<modifiedWriteValues>oneToClear</modifiedWriteValues>")

    @property
    def readable(self) -> bool:
        """May be read."""
        return self is not Access.WRITE

    @property
    def writable(self) -> bool:
        """May be written."""
        return self in (Access.WRITE, Access.BOTH, Access.MOVE, Access.CLEAR)


@dataclass(frozen=True)
class Field:
    """``bits`` bits from bit ``low`` on; ``rows``: only in a top level with rows."""

    name: str
    low: int
    bits: int
    text: str
    rows: bool = False


@dataclass(frozen=True)
class Register:
    """A word at byte ``offset``; ``stream``: only with the streaming unit, ``rows``: only with rows."""

    name: str
    offset: int
    access: Access
    text: str
    fields: tuple[Field, ...] = field(default_factory=tuple)
    stream: bool = False
    rows: bool = False


@dataclass(frozen=True)
class RegisterMap:
    """All registers of a block of ``words`` words; ``block`` is its name in headers, ``text`` what it is."""

    block: str
    text: str
    version: int
    words: int
    registers: tuple[Register, ...]


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
        Field("ROWS", 17, 1, "1: the engine has rows", rows=True),
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
        Field("ROWS", 6, 1, "rows were accessed while BUSY; the access was ignored", rows=True),
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
    Register("ROW_SHAPE", 0x68, Access.READ, "What row RAM the engine has.", (
        Field("WORDS", 0, 17, "words of 8 bits in each column"),
        Field("COLUMNS", 24, 8, "columns"),
    ), rows=True),
    Register("ROW_ADDRESS", 0x6C, Access.BOTH, "First word of the next access; behind it after one.", (
        Field("WORD", 0, 16, "the word"), Field("COLUMN", 16, 8, "the column"),
    ), rows=True),
    Register("ROW_DATA", 0x70, Access.MOVE, "Four words, lowest first. Writing stores them at ROW_ADDRESS; "
             "reading takes those fetched and fetches the next four.", rows=True),
    Register("ROW_START", 0x74, Access.WRITE, "Begins an access at ROW_ADDRESS.", (
        Field("CLEAR", 0, 1, "0: fetch four words; 1: clear words of every column, and ROW_ADDRESS stays"),
        Field("BLOCKS", 8, 8, "16 words more than so many times 16 are cleared"),
    ), rows=True),
    Register("ROW_STATUS", 0x78, Access.READ, "The access, now.", (
        Field("BUSY", 0, 1, "it is not over: it waits for the link to be IDLE, and the engine"),
    ), rows=True),
)  # fmt: skip
"""All registers, offsets upwards."""


def register(name: str) -> Register:
    """The register of that name; KeyError if there is none."""
    return {each.name: each for each in REGISTERS}[name]


def chosen(*, stream: bool, rows: bool) -> tuple[Register, ...]:
    """The registers, with their fields, of a top level with or without the streaming unit and rows."""
    return tuple(
        replace(each, fields=tuple(part for part in each.fields if rows or not part.rows))
        for each in REGISTERS
        if (stream or not each.stream) and (rows or not each.rows)
    )


def engine_map(*, stream: bool, rows: bool) -> RegisterMap:
    """The map of the engine's top level, with or without the streaming unit and rows."""
    text = "Ternary matrix engine behind AXI4-Lite"
    return RegisterMap(BLOCK, text, MAP_VERSION, MAP_WORDS, chosen(stream=stream, rows=rows))
