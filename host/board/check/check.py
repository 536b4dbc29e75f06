"""The whole check of a board with an engine: identity, line, memories, program, soak."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from ternac.compile.compiler import compile_program
from ternac.compile.fitting import Model
from ternac.compile.geometry import Geometry
from ternac.compile.loading import program_id
from ternac.errors import DeviceError
from ternac.host.board.backend import BoardBackend
from ternac.host.board.check import bank_patterns, line
from ternac.host.board.check.identity import (
    check_identity,
    check_program,
    expected_identity,
    hear,
)
from ternac.host.board.check.report import Report, Section
from ternac.host.board.check.texts import check_contents, check_sessions, check_tokens, soak
from ternac.host.board.client import LinkClient, Patience
from ternac.host.board.transport import Transport
from ternac.host.device import Device
from ternac.link import Identity
from ternac.program.program import Program
from ternac.program.zoo import TEXT
from ternac.progress import Progress
from ternac.run.evaluate import encode, read_text, split

__all__ = ["SECTIONS", "Extent", "check_board"]

SECTIONS = ("identity", "line", "banks", "contents", "program", "soak")
CHUNK = 32
"""Tokens of an answer."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """How much is tested. ``tokens``: of the program, ``fills``: of the memories that are only written."""

    minutes: float = 3.0
    tokens: int = 200
    fills: int = 2
    seed: int = 1


Say = Callable[[str], None]


class _Check:
    """A check in work."""

    def __init__(
        self,
        transport: Transport,
        geometry: Geometry,
        board: str,
        model: Model,
        report: Report,
        patience: Patience,
    ) -> None:
        self.client = LinkClient(transport, patience)
        self.geometry, self.board, self.model, self.report = geometry, board, model, report

    def open(self, program: Program, section: Section, *, load: bool = True) -> Device:
        """Return the device with ``program`` loaded (without ``load``: as it is said to be); a board that
        does not say so is a mismatch.
        """
        image = compile_program(program, self.geometry)
        identity = self.client.hello()
        backend = BoardBackend(self.client, identity, program, image, CHUNK, board=self.board, measured=True)
        if load and backend.load(force=True, progress=False):
            held = self.client.hello().program_hash
            if held != program_id(image):
                section.fail(
                    f"program: {program.name} was loaded, the board says that it holds {held.hex()}",
                    "flash the board again: ternac flash",
                    expected=program_id(image).hex(), found=held.hex(),
                )  # fmt: skip
        return Device("serial", backend, self.board)

    def bar(self, total: int, label: str, unit: str) -> Progress:
        return Progress(total, label, unit)

    def identity(self, named: bool) -> Identity | None:
        """Section ``identity``; returns None where nothing else can be tested. What the board holds is run as
        it is.
        """
        with self.report.section("identity") as section:
            identity = hear(self.client)
            expected = expected_identity(self.board, self.geometry, simulated=self.report.simulated)
            if not check_identity(section, identity, self.geometry, expected, self.board):
                return None
            held = check_program(section, identity, self.model.program, self.geometry, named)
            if held is not None:
                device = self.open(held, section, load=False)
                tokens = _tokens(held, 20, 1)
                if check_tokens(section, device, tokens, f"{held.name}, as it was found on the board"):
                    section.note(
                        f"the board held {held.name}, which gave the right tokens and states as found"
                    )
        return identity


def check_board(
    transport: Transport,
    geometry: Geometry,
    board: str,
    model: Model,
    extent: Extent,
    *,
    simulated: bool,
    patience: Patience,
    named: bool = False,
    about: dict[str, Any] | None = None,
) -> Report:
    """Run all sections and return the report. The board holds ``model`` afterwards, and no session.

    ``named``: the user named the model, so that a board which holds another is a mismatch. A section that
    finds a mismatch does not stop the others; a line that is cut or silent does, as does another engine.
    Ctrl-C ends the check; what was found until then is in the report. Closes ``transport``.
    """
    report = Report(SECTIONS, simulated=simulated, about=about or {})
    check = _Check(transport, geometry, board, model, report, patience)
    try:
        with suppress(DeviceError, KeyboardInterrupt):  # both are in the report
            if check.identity(named) is not None:
                _run(check, extent)
    finally:
        transport.close()
    return report


def _run(check: _Check, extent: Extent) -> None:
    report, client, geometry = check.report, check.client, check.geometry
    with (
        report.section("line") as section,
        check.bar(line.steps_of(geometry.bank_depth), "line", "lengths") as bar,
    ):
        client.commit()  # what the tests write is no program
        line.check_line(section, client, geometry.bank_depth, bar.update)
    with (
        report.section("banks") as section,
        check.bar(bank_patterns.steps_of(extent.seed), "banks", "patterns") as bar,
    ):
        bank_patterns.check_banks(section, client, geometry, extent.seed, bar.update)
    program = check.model.program
    _contents(check, extent)
    with report.section("program") as section, check.bar(extent.tokens, program.name, "tokens") as bar:
        device = check.open(program, section)
        ids = _tokens(program, extent.tokens, extent.seed)
        check_tokens(section, device, ids, program.name, bar.update)
        check_sessions(section, device, ids[: max(2, extent.tokens // 4)])
        section.figure("model", program.name, "", "program")
        section.figure("tokens, each compared in logits and states", extent.tokens)
        meter = device.board.meter
        if meter.steps:
            cycles = round(meter.cycles / meter.steps, 1)
            section.figure("cycles a token", cycles, "", "counted by the engine")
    if not extent.minutes:
        report.leave_out("soak", "--minutes 0")
        return
    with report.section("soak") as section, check.bar(round(60 * extent.minutes), "soak", "s") as bar:
        soak(section, device.board, extent.minutes, extent.seed, bar.update)


def _contents(check: _Check, extent: Extent) -> None:
    report, program = check.report, check.model.program
    if not extent.fills:
        report.leave_out("contents", "--fills 0")
        return
    total = extent.fills * program.vocab
    with report.section("contents") as section, check.bar(total, "contents", "tokens") as bar:

        def open_filled(filled: Program) -> Device:
            return check.open(filled, section)

        check_contents(section, open_filled, program, extent.fills, extent.seed, bar.update)


def _tokens(program: Program, count: int, seed: int) -> list[int]:
    """Return ``count`` tokens of the validation text, or random ones where the program has no tokenizer."""
    if "tokenizer" not in program.meta:
        return np.random.default_rng(seed).integers(0, program.vocab, count).tolist()
    return np.resize(encode(program, split(read_text(TEXT), "val")), count).tolist()
