"""An AXI block as a board: its registers, the link's bytes through them, and memory rows."""

from __future__ import annotations

import mmap
import os
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from ternac.errors import DeviceRefused, NoAnswer, UsageError, WrongBitstream
from ternac.hdl.axi.registers import ID, MAP_VERSION, MAP_WORDS, OKAY, register
from ternac.host.board.transport import ProcessTransport
from ternac.link import CLEAR_WORDS, MOST_CLEAR

__all__ = ["AxiRows", "AxiTransport", "MappedRegisters", "Registers", "SimulatedRegisters"]

Words = npt.NDArray[np.uint32]

WORDS_AN_ACCESS = 4
ROW_SECONDS = 10.0
"""Longest wait for rows: longer than any request of the link keeps the engine."""
ANSWER_SECONDS = 30.0
"""Longest wait for a simulated access."""


class Registers(Protocol):
    """The registers of one AXI block. A method raises NoAnswer if they are out of reach."""

    name: str

    def read(self, offset: int) -> int:
        """Read the 32 bits at a byte offset."""

    def write(self, offset: int, value: int) -> None:
        """Write 32 bits at a byte offset."""

    def close(self) -> None:
        """Release the block; closing twice is allowed."""


class MappedRegisters:
    """Registers in the memory of this machine: a UIO device such as ``/dev/uio0``, or /dev/mem at ``base``.

    Raises UsageError if the file cannot be mapped.
    """

    def __init__(self, path: str | Path, base: int = 0) -> None:
        self.name = str(path)
        try:
            handle = os.open(path, os.O_RDWR | os.O_SYNC)
            try:
                self._map = mmap.mmap(handle, max(mmap.PAGESIZE, 4 * MAP_WORDS), offset=base)
            finally:
                os.close(handle)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"cannot map the registers in {path}: {error}",
                "name the block's UIO device, /dev/uioN, or a base on a page of /dev/mem",
            ) from None
        self._words = memoryview(self._map).cast("I")

    def read(self, offset: int) -> int:
        return self._words[offset // 4]

    def write(self, offset: int, value: int) -> None:
        self._words[offset // 4] = value & 0xFFFFFFFF

    def close(self) -> None:
        self._words.release()
        self._map.close()


class SimulatedRegisters:
    """Those of `ternac.sim.axi_board`, a program that makes the accesses."""

    def __init__(self, command: Sequence[str]) -> None:
        self._line = ProcessTransport(command)
        self.name = "simulated AXI block"

    def read(self, offset: int) -> int:
        return self._access(b"r", offset, 0)

    def write(self, offset: int, value: int) -> None:
        self._access(b"w", offset, value)

    def _access(self, kind: bytes, offset: int, value: int) -> int:
        self._line.write(struct.pack("<cBI", kind, offset, value & 0xFFFFFFFF))
        answer = b""
        while len(answer) < ANSWER.size:
            found = self._line.read(ANSWER_SECONDS)
            if not found:
                raise NoAnswer(f"{self.name}: no answer for {ANSWER_SECONDS:g} s", "open the device again")
            answer += found
        response, data = ANSWER.unpack(answer)
        if response != OKAY:
            raise DeviceRefused(
                f"{self.name} has no register at {offset:#x}", "it was emitted without that part"
            )
        return int(data)

    def close(self) -> None:
        self._line.close()


ANSWER = struct.Struct("<BI")


class AxiRows:
    """Rows of the engine in an AXI block, by its registers; a `RowMemory`."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        shape = _fields("ROW_SHAPE", registers.read(register("ROW_SHAPE").offset))
        self.columns, self.words = shape["COLUMNS"], shape["WORDS"]

    def read(self, column: int, start: int, count: int) -> Words:
        self._check(column, start, count)
        return self._fetch(column, start, count)

    def write(self, column: int, start: int, words: Words) -> None:
        self._check(column, start, len(words))
        whole = -(-len(words) // WORDS_AN_ACCESS) * WORDS_AN_ACCESS
        data = np.zeros(whole, np.uint8)
        data[: len(words)] = words
        if rest := whole - len(words):  # what lies behind, after the last word the first, stays
            data[len(words) :] = self._fetch(column, (start + len(words)) % self.words, rest)
        self._point(column, start)
        for word in data.view("<u4"):
            self._write("ROW_DATA", int(word))
            self._wait()

    def clear(self, start: int, count: int) -> None:
        self._check(0, start, count)
        if count % CLEAR_WORDS:
            raise UsageError(f"{count} words cannot be cleared", f"clear a multiple of {CLEAR_WORDS}")
        most = MOST_CLEAR * CLEAR_WORDS
        for at in range(0, count, most):
            blocks = min(most, count - at) // CLEAR_WORDS
            self._point(0, start + at)
            self._write("ROW_START", 1 | (blocks - 1) << 8)
            self._wait()

    def _check(self, column: int, start: int, count: int) -> None:
        if not (0 <= column < self.columns and 0 <= start <= start + count <= self.words):
            raise UsageError(
                f"there are no {count} words of rows from word {start} of column {column} on",
                f"the engine has {self.columns} columns of {self.words} words",
            )

    def _fetch(self, column: int, start: int, count: int) -> Words:
        found = np.zeros(-(-count // WORDS_AN_ACCESS), "<u4")
        if count:
            self._point(column, start)
            self._write("ROW_START", 0)
        for at in range(len(found)):
            self._wait()
            found[at] = self._read("ROW_DATA")  # and fetches the next ones
        self._wait()
        return found.view(np.uint8)[:count].astype(np.uint32)

    def _point(self, column: int, word: int) -> None:
        self._write("ROW_ADDRESS", column << 16 | word)

    def _wait(self) -> None:
        until = time.monotonic() + ROW_SECONDS
        while self._read("ROW_STATUS"):
            if time.monotonic() > until:
                raise NoAnswer(
                    f"{self._registers.name}: rows are busy for {ROW_SECONDS:g} s", "reset the block"
                )

    def _read(self, name: str) -> int:
        return self._registers.read(register(name).offset)

    def _write(self, name: str, value: int) -> None:
        self._registers.write(register(name).offset, value)


class AxiTransport:
    """The link's bytes through IN and OUT of an AXI block: a `Transport`. ``rows`` are those of its engine.

    Raises WrongBitstream if there is no such block, or one with another register map.
    """

    byte_seconds = 0.0

    def __init__(self, registers: Registers) -> None:
        self._registers, self.name = registers, registers.name
        self._at = {name: register(name).offset for name in ("STATUS", "IN", "OUT")}
        self._room = _mask("STATUS", "IN_READY")
        found = registers.read(register("ID").offset)
        if found != ID:
            raise WrongBitstream(
                f"{self.name}: register ID is {found:#010x}, not {ID:#010x}",
                "name the address of an AXI block",
            )
        version = _fields("VERSION", registers.read(register("VERSION").offset))
        if version["MAP"] != MAP_VERSION:
            raise WrongBitstream(
                f"{self.name} has version {version['MAP']} of the register map, this host {MAP_VERSION}",
                "emit the block again: ternac emit --top axi",
            )
        registers.write(register("CONTROL").offset, 0)
        self.rows = AxiRows(registers) if version["ROWS"] else None

    def write(self, data: bytes) -> None:
        for byte in data:
            self._wait_for_room()
            self._registers.write(self._at["IN"], byte)

    def _wait_for_room(self) -> None:
        """Raises NoAnswer if the block takes no byte for `ROW_SECONDS`: no request keeps it so long."""
        if self._registers.read(self._at["STATUS"]) & self._room:
            return
        until = time.monotonic() + ROW_SECONDS
        while not self._registers.read(self._at["STATUS"]) & self._room:
            if time.monotonic() > until:
                raise NoAnswer(f"{self.name}: it takes no byte for {ROW_SECONDS:g} s", "reset the block")

    def read(self, timeout: float) -> bytes:
        until, found = time.monotonic() + timeout, bytearray()
        while True:
            value = self._registers.read(self._at["OUT"])
            if value >> 8:
                found.append(value & 0xFF)
            elif found or time.monotonic() > until:
                return bytes(found)

    def close(self) -> None:
        self._registers.close()


def _mask(name: str, part: str) -> int:
    field = next(each for each in register(name).fields if each.name == part)
    return ((1 << field.bits) - 1) << field.low


def _fields(name: str, value: int) -> dict[str, int]:
    """Return the fields of a register's value by name."""
    return {each.name: value >> each.low & ((1 << each.bits) - 1) for each in register(name).fields}
