"""The check of a board with its loopback bitstream: line, block RAM, SDRAM and the phase of its clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from ternac.compile.geometry import PRESETS, Mem
from ternac.compile.sdram import BURST
from ternac.errors import DeviceError, NoAnswer
from ternac.hdl.boards.board import Board
from ternac.hdl.diagnostics.design import LINE_SECONDS, loopback_board, memories, phase_steps, sdram_of
from ternac.hdl.diagnostics.line_test import LineCount, check_bytes, random_bytes
from ternac.hdl.diagnostics.march import Errors, MarchElement
from ternac.hdl.diagnostics.patterns import Pattern
from ternac.hdl.diagnostics.registers import (
    LOOPBACK,
    REGISTERS,
    SCRATCH_WORDS,
    Action,
    Setting,
    Status,
    Value,
)
from ternac.host.board.check import line
from ternac.host.board.check.identity import FLASH, hear, manifest_facts
from ternac.host.board.check.report import Report, Section
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.transport import Transport
from ternac.link import Identity
from ternac.progress import Progress

__all__ = ["LoopbackClient", "check_loopback", "elements", "sections_of"]

RAW_BYTES = 32_768
"""Bytes of a line test each way: the whole sequence and more."""
ECHO_BYTES = 512
MEMORY_SECONDS = 60.0
"""Longest wait for an element; the largest takes a second."""
RETENTION_SECONDS = 2.0
PHASE_WORDS = 1 << 16
SIMULATED_WORDS = 1 << 12
"""Words of each memory that are tested where the board is simulated."""
LEAST_MARGIN = 3
"""Steps that the shipped phase must be away from the first one that fails."""
LOW_WORD, WORD = 0xFFFF, 16


class LoopbackClient:
    """The loopback's registers over its link."""

    def __init__(self, client: LinkClient) -> None:
        self.client = client

    def _set(self, first: Setting, *values: int) -> None:
        words = np.array(values, np.uint32) & np.uint32(LOW_WORD)
        self.client.write(Mem.BANK, REGISTERS, first, words, 2)

    def _do(self, action: Action) -> None:
        self._set(Setting.ACTION, action)

    def status(self, bit: Status) -> bool:
        """Return a bit of STATUS."""
        return bool(int(self.client.read(REGISTERS, Value.STATUS, 1)[0]) >> bit & 1)

    def _wait(self, bit: Status, value: bool, seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while self.status(bit) != value:
            if time.monotonic() > deadline:
                raise NoAnswer(f"{what} is not over after {seconds:g} s", "flash the board again, and repeat")

    def run(self, memory: int, element: MarchElement) -> Errors:
        """Run an element on a memory, the SDRAM behind the others."""

        def code(which: tuple[Pattern, bool] | None) -> int:
            return 0 if which is None else 1 | which[0] << 1 | which[1] << 4

        def wide(value: int) -> tuple[int, int]:
            return value & LOW_WORD, value >> WORD

        self._set(
            Setting.MEMORY, memory, code(element.check), code(element.write), *wide(element.seed),
            *wide(element.first), *wide(element.count), element.down,
        )  # fmt: skip
        self._do(Action.MEMORY)
        self._wait(Status.MEMORY, False, MEMORY_SECONDS, f"memory {memory}: the test")
        words = self.client.read(REGISTERS, Value.ERRORS, 10).astype(np.int64)
        return Errors(*(int(low | high << WORD) for low, high in words.reshape(5, 2)))

    def line(self, data: bytes, send: int, *, echo: bool) -> tuple[bytes, LineCount]:
        """Send raw ``data`` and let the board send ``send`` bytes of its own (``echo``: the same); returns
        what came, and what the board counted.
        """
        self._set(Setting.RECEIVE, len(data), send, echo)
        self._do(Action.LINE)
        transport, came, wanted = self.client.transport, bytearray(), len(data) if echo else send
        for at in range(0, len(data), ECHO_BYTES):
            transport.write(data[at : at + ECHO_BYTES])
            came += transport.read(0)
            while (
                echo and len(came) < min(at + ECHO_BYTES, wanted) and (more := transport.read(LINE_SECONDS))
            ):
                came += more
        while len(came) < wanted and (more := transport.read(2 * LINE_SECONDS)):
            came += more
        # The board may miss bytes and wait for them: what is sent before it gives up is taken for those.
        quiet = time.monotonic() + 1.5 * LINE_SECONDS
        while (left := quiet - time.monotonic()) > 0:
            came += transport.read(left)
        self._wait(Status.LINE, False, 20 * LINE_SECONDS, "the line test")
        words = self.client.read(REGISTERS, Value.RECEIVED, 3)
        return bytes(came), LineCount(*(int(word) for word in words))

    def step_phase(self, steps: int) -> None:
        """Move the phase of the SDRAM's clock; negative is earlier."""
        self._set(Setting.EARLIER, steps < 0)
        for _ in range(abs(steps)):
            self._do(Action.PHASE)
            self._wait(Status.PHASE, False, 1, "the phase step")

    def restore_phase(self) -> None:
        """Bring the phase to the shipped one, wherever an interrupted check has left it."""
        position = int(self.client.read(REGISTERS, Value.PHASE, 1)[0])
        self.step_phase(-(position - (position >> WORD - 1 << WORD)))

    def reset_sdram(self) -> None:
        """Initialise the SDRAM anew."""
        self._do(Action.SDRAM_RESET)
        self._wait(Status.SDRAM_READY, True, 1, "the SDRAM's initialisation")


def sections_of(target: Board) -> tuple[str, ...]:
    """Return the sections of a board's check."""
    more = ("SDRAM", "SDRAM phase") if sdram_of(target) else ()
    return ("identity", "line", "raw line", *(shape.name for shape in memories(target)), *more)


def elements(words: int, bits: int, seed: int, *, march: bool = True) -> Iterator[tuple[str, MarchElement]]:
    """Yield the elements of a memory test and their names: each pattern written, then checked; with ``march``
    also March C-, which goes down as well, and every phase of the walking bits.
    """
    turns = range(bits) if march else range(2)
    rounds = [
        *((Pattern.CONSTANT, 0), (Pattern.STRIPES, 0), (Pattern.ADDRESS, 0), (Pattern.HIGH, 0)),
        *((Pattern.WALKING, 1 << turn) for turn in turns),
        *((Pattern.RANDOM, (seed + number) % 0xFFFFFFFF + 1) for number in range(2)),
    ]
    for pattern, parameter in rounds:
        for invert in (False, True):
            which = (pattern, invert)
            name = f"{pattern.name.lower()}{f' {parameter:#x}' * bool(parameter)}{', inverted' * invert}"
            yield name, MarchElement(write=which, seed=parameter, count=words)
            yield name, MarchElement(check=which, seed=parameter, count=words)
    if not march:
        return
    zeros, ones = (Pattern.CONSTANT, False), (Pattern.CONSTANT, True)
    yield "march, zeros", MarchElement(write=zeros, count=words)
    for down in (False, True):
        for old, new in ((zeros, ones), (ones, zeros)):
            first = words - 1 if down else 0
            name = f"march {'down' if down else 'up'}, {'zeros' if old is zeros else 'ones'}"
            yield name, MarchElement(check=old, write=new, first=first, count=words, down=down)
    yield "march, at its end", MarchElement(check=zeros, count=words)


def check_loopback(
    transport: Transport,
    target: Board,
    *,
    simulated: bool,
    patience: Patience,
    seed: int = 1,
    words: int | None = None,
    about: dict[str, Any] | None = None,
) -> Report:
    """Run all tests of the loopback of ``target`` and return the report; closes ``transport``.

    ``words``: most words of each memory that are tested (default: all; of a simulated board
    `SIMULATED_WORDS`). As `ternac.host.board.check.check.check_board` in all else.
    """
    report = Report(sections_of(target), simulated=simulated, about=about or {})
    most = words or (SIMULATED_WORDS if simulated else 1 << 32)
    try:
        with suppress(DeviceError, KeyboardInterrupt):  # both are in the report
            _run(report, LinkClient(transport, patience), target, seed, most)
    finally:
        transport.close()
    return report


def _run(report: Report, client: LinkClient, target: Board, seed: int, most: int) -> None:
    device = LoopbackClient(client)
    with report.section("identity") as section:
        if not _identify(section, hear(client), target, report.simulated):
            return
    with report.section("line") as section, Progress(line.steps_of(SCRATCH_WORDS), "line", "lengths") as bar:
        line.check_line(section, client, SCRATCH_WORDS, bar.update)
    with report.section("raw line") as section:
        _raw_line(section, device)
    for number, shape in enumerate(memories(target)):
        tested = list(elements(min(shape.words, most), shape.bits, seed))
        with report.section(shape.name) as section, Progress(len(tested), shape.name, "elements") as bar:
            _memory(section, device, number, tested, bar.update)
            section.figure(
                "words", min(shape.words, most), f"words of {shape.bits} bits", f"of {shape.words}"
            )
    chip = sdram_of(target)
    if chip is None:
        return
    device.restore_phase()
    number, count = len(memories(target)), min(1 << chip.word_bits, most)
    tested = list(elements(count, WORD, seed, march=False))
    with report.section("SDRAM") as section, Progress(len(tested), "SDRAM", "elements") as bar:
        _memory(section, device, number, tested, bar.update)
        _retention(section, device, number, count, seed)
        section.figure("words", count, f"words of {WORD} bits", f"of {1 << chip.word_bits}")
        section.figure("clock", loopback_board(target).clock_hz, "Hz", "what the bitstream was made for")
    # A simulated chip wants its refreshes also while it is initialised again, and has no phase.
    prepare = (lambda: None) if report.simulated else device.reset_sdram
    half = phase_steps(target)[0] // 2
    with report.section("SDRAM phase") as section, Progress(2 * half, "SDRAM phase", "steps") as bar:
        _phase(section, device, number, target, min(PHASE_WORDS, most), prepare, bar.update)


def _identify(section: Section, identity: Identity, target: Board, simulated: bool) -> bool:
    hint = FLASH.format(board=target.name) + " --loopback"
    section.figure("bitstream", identity.bitstream_id.hex(), "", "HELLO")
    section.figure("clock", identity.clock_hz, "Hz", "HELLO: what the bitstream was made for")
    if identity.geometry_hash != LOOPBACK.hash:
        name = next((g.name for g in PRESETS.values() if g.hash == identity.geometry_hash), "unknown")
        section.fail(
            f"identity: the board carries an engine ({name}), not the loopback bitstream",
            hint, expected=LOOPBACK.hash.hex(), found=identity.geometry_hash.hex(),
        )  # fmt: skip
        return False
    shipped = {} if simulated else manifest_facts(target.name, LOOPBACK.name)
    if shipped and shipped["bitstream_id"] != identity.bitstream_id.hex():
        section.fail(
            f"identity: the board carries loopback {identity.bitstream_id.hex()}, shipped is "
            f"{shipped['bitstream_id']}",
            f"it is older, or your own; {hint}",
            expected=shipped["bitstream_id"], found=identity.bitstream_id.hex(),
        )  # fmt: skip
    return True


def _raw_line(section: Section, device: LoopbackClient) -> None:
    data, began = random_bytes(RAW_BYTES), time.monotonic()
    came, counted = device.line(data, RAW_BYTES, echo=False)
    seconds = time.monotonic() - began
    ours = check_bytes(came)
    for way, count, by in (("to the board", counted, "the board"), ("from the board", ours, "the host")):
        section.figure(f"bytes {way}", count.received, f"of {RAW_BYTES}", f"counted by {by}")
        section.figure(f"wrong bytes {way}", count.wrong_bytes, "", f"counted by {by}")
        if count != LineCount(RAW_BYTES):
            section.fail(
                f"raw line {way}: {RAW_BYTES - count.received} of {RAW_BYTES} bytes are missing, "
                f"{count.wrong_bytes} wrong, in {count.wrong_bits} bits",
                line.LOST_HINT,
                way=way, received=count.received, wrong_bytes=count.wrong_bytes, wrong_bits=count.wrong_bits,
            )  # fmt: skip
    section.figure("both ways at once", round((len(came) + counted.received) / seconds), "bytes/s")
    every = bytes(range(256)) * (ECHO_BYTES // 256) * 8
    came, counted = device.line(every, 0, echo=True)
    section.figure("bytes echoed", len(came), f"of {len(every)}", "counted by the host")
    if came != every:
        at = next((i for i, (a, b) in enumerate(zip(came, every, strict=False)) if a != b), len(came))
        found = f"{came[at]:#04x}" if at < len(came) else "missing"
        section.fail(
            f"raw line, echo: byte {at} is {found}, not {every[min(at, len(every) - 1)]:#04x}; {len(came)} "
            f"of {len(every)} bytes came, the board received {counted.received}",
            line.LOST_HINT,
            at=at, came=len(came), received=counted.received,
        )  # fmt: skip


def _memory(
    section: Section,
    device: LoopbackClient,
    memory: int,
    tested: list[tuple[str, MarchElement]],
    update: Callable[[int], None],
) -> None:
    for done, (name, element) in enumerate(tested, 1):
        _judge(section, name, element, device.run(memory, element))
        update(done)
    section.figure("elements", len(tested))


def _judge(section: Section, name: str, element: MarchElement, errors: Errors) -> None:
    if errors.count and element.check is not None:
        section.fail(
            f"{section.name}, pattern {name}: word {errors.address:#x} is {errors.found:#x}, not "
            f"{errors.expected:#x}; {errors.count} of {element.count} words differ, in bits {errors.mask:#x}",
            "one bit at few addresses: a cell; words of other addresses: an address line; all words: timing "
            "or supply",
            memory=section.name, pattern=name, address=errors.address, expected=errors.expected,
            found=errors.found, words=errors.count, bits=errors.mask,
        )  # fmt: skip


def _retention(section: Section, device: LoopbackClient, memory: int, count: int, seed: int) -> None:
    which = (Pattern.RANDOM, False)
    device.run(memory, MarchElement(write=which, seed=seed + 1, count=count))
    time.sleep(RETENTION_SECONDS)
    check = MarchElement(check=which, seed=seed + 1, count=count)
    _judge(section, f"random after {RETENTION_SECONDS:g} s", check, device.run(memory, check))


def _phase(
    section: Section,
    device: LoopbackClient,
    memory: int,
    target: Board,
    count: int,
    prepare: Callable[[], None],
    update: Callable[[int], None],
) -> None:
    """Test at every phase of the chip's clock, and find the window around the shipped one.

    ``prepare``: what the chip took for a command at the phase before may have been another one.
    """
    period, step_ns = phase_steps(target)
    count -= count % BURST
    wrong: dict[int, int] = {}
    done = 0
    try:
        for way in (-1, 1):
            for distance in range(1 - (way < 0), period // 2 + (way < 0)):
                device.step_phase(way * (distance > 0))
                prepare()
                wrong[way * distance] = _words_wrong(device, memory, count)
                done += 1
                update(done)
            device.step_phase(-way * (period // 2 - (way > 0)))
    finally:
        with suppress(DeviceError):
            prepare()
    earlier = next((d for d in range(period // 2 + 1) if wrong.get(-d, 1)), period // 2 + 1) - 1
    later = next((d for d in range(period // 2) if wrong.get(d, 1)), period // 2) - 1
    section.figure("phase step", round(step_ns, 4), "ns", "PLL's dividers")
    section.figure("steps in a period", period, "", "PLL's dividers")
    section.figure("words at each phase", count)
    section.figure(
        "phases without an error", " ".join(str(p) for p in sorted(wrong) if not wrong[p]), "steps"
    )
    if wrong[0]:
        first = next((p for p in sorted(wrong, key=abs) if not wrong[p]), None)
        where = "no phase works" if first is None else f"the nearest that works is {first} steps away"
        section.fail(
            f"SDRAM phase: at the shipped phase {wrong[0]} words are wrong; {where}",
            "the pads' timing does not fit this board: send the report",
            phases={str(p): n for p, n in sorted(wrong.items())},
        )  # fmt: skip
        return
    section.figure("margin, clock earlier", round(earlier * step_ns, 2), "ns")
    section.figure("margin, clock later", round(later * step_ns, 2), "ns")
    if min(earlier, later) < LEAST_MARGIN:
        section.fail(
            f"SDRAM phase: it works, but only {earlier} steps earlier and {later} later than shipped, "
            f"{earlier * step_ns:.2f} and {later * step_ns:.2f} ns; at least {LEAST_MARGIN} steps are wanted",
            "it may fail when warm: send the report",
            earlier=earlier, later=later, phases={str(p): n for p, n in sorted(wrong.items())},
        )  # fmt: skip


def _words_wrong(device: LoopbackClient, memory: int, count: int) -> int:
    wrong = 0
    for which, seed in (
        ((Pattern.RANDOM, False), 7),
        ((Pattern.STRIPES, False), 0),
        ((Pattern.STRIPES, True), 0),
    ):
        device.run(memory, MarchElement(write=which, seed=seed, count=count))
        wrong += device.run(memory, MarchElement(check=which, seed=seed, count=count)).count
    return wrong
