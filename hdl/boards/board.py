"""What a board is: one declaration, from which its names, its build and its rows in the tables follow.

A declaration says what is soldered (through an Amaranth platform), which engine the board's bitstream
carries and at which clock. `ternac.hdl.boards.boards` is the table of those that come with the package; a
Python file with one in it, named ``BOARD``, is a board too (docs/add_your_board.md). Importing this module
does not import Amaranth, so that the names are known to every command line at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ternac.compile.geometry import Geometry
from ternac.errors import UsageError
from ternac.hdl.boards.pll import ecp5_pll, gowin_pll, ice40_pll
from ternac.hdl.cells.tech import Technology
from ternac.link import WINDOW

__all__ = ["NAME", "Board", "Chip", "Led"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
"""Names of boards: folders and options are called so."""
BAUD_MOST = 12_000_000
"""Beyond what any USB bridge of today does."""


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A device that place and route knows, in whatever package."""

    name: str
    title: str
    family: str
    """``ecp5``, ``ice40`` or ``gowin``: which tools build it."""
    tech: Technology
    nextpnr: tuple[str, ...]
    """Options that name the device; on Gowin the start of the part's name and the family of its database."""
    resources: Mapping[str, int]
    """What it has, under the keys of a manifest: comb, ff, bram (and spram)."""
    synth: tuple[str, ...] = ()
    """Options of synthesis."""
    floor_plans: bool = False
    """The sites of `ternac.hdl.netlist.floorplan` are this device's."""
    pll_hz: tuple[int, int] | None = None
    """Range of the VCO of its PLL, where devices of a family differ (Gowin)."""


@dataclass(frozen=True)
class Led:
    """One lamp: a resource of the platform, its number, and a part of it such as ``"g"``."""

    resource: str = "led"
    number: int = 0
    part: str | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """One board. Raises UsageError if its parts contradict each other; the message names the field."""

    name: str
    """Lower-case letters, digits and ``-``; ``--board`` takes it."""
    title: str
    """Maker, model and chip, for people."""
    chip: Chip
    package: str
    """As nextpnr calls it, such as CABGA381 or sg48."""
    speed: str
    """Speed grade, as nextpnr calls it; empty where there is but one."""
    engine: Geometry
    """The engine of the board's own bitstream."""
    make_platform: Callable[[], Any]
    """Makes the Amaranth platform: pins and their attributes."""
    clock_pin: str
    """The platform's resource of the oscillator, whose frequency is ``crystal_hz``."""
    crystal_hz: int
    clock_through_fabric: bool = False
    """iCE40: the oscillator is not on the PLL's own pad."""
    clock_hz: int
    """Clock of the design."""
    target_hz: int
    """What place and route aims at: above the clock, so that the result has slack."""
    baud: int
    """Bits per second of the serial line."""
    serial: str
    """What carries the serial line, for people: ``FTDI FT231X`` or the pins of a header."""
    leds: tuple[Led, ...]
    """Up to three, for alive, loaded and busy; one shows alive, changed while busy; none is fine."""
    loader: tuple[str, ...]
    """Options of openFPGALoader that name board or cable; empty where it does not know the board."""
    verified: str
    """How the board's bitstream was verified."""
    notes: str = ""
    """What its owner must know, such as a jumper to set."""
    route: tuple[str, ...] = ()
    """More options of nextpnr."""
    seed: int = 1
    held_high: Mapping[str, str] = field(default_factory=dict)
    """Outputs that must be 1: name of the pin's buffer and resource of the platform."""
    flash_offset: int | None = None
    """Offset of the image of ``build MODEL`` in the flash, which the design reads at power-up; None: it reads
    none."""
    window: int = WINDOW
    """Requests that may be in flight on its link: with 1 there are no block RAMs for the line."""
    supply_watts: float = 2.5
    """Most power that the board may draw: 0.5 A at the 5 V of a USB 2.0 port."""

    def __post_init__(self) -> None:
        def need(ok: bool, what: str, hint: str) -> None:
            if not ok:
                raise UsageError(f"board {self.name!r}: {what}", hint)

        for key, kind in _KINDS.items():
            value = getattr(self, key)
            fits = isinstance(value, kind) and not isinstance(value, bool)
            need(fits, f"{key} is {value!r}", f"it is a {kind.__name__}: see docs/add_your_board.md")
        need(
            bool(NAME.fullmatch(self.name)),
            "this is no name",
            "lower-case letters, digits and '-', at most 32",
        )
        need(callable(self.make_platform), "make_platform is not callable", "give the class of the platform")
        for key in ("crystal_hz", "clock_hz", "target_hz"):
            value = getattr(self, key)
            need(1_000_000 <= value <= 1_000_000_000, f"{key} is {value}", "give Hz, from 1 MHz to 1 GHz")
        need(
            self.target_hz >= self.clock_hz,
            f"target_hz {self.target_hz} is below clock_hz {self.clock_hz}",
            "place and route must aim at the clock or above it",
        )
        need(300 <= self.baud <= BAUD_MOST, f"baud is {self.baud}", f"bits per second, 300 to {BAUD_MOST:,}")
        need(len(self.leds) <= 3, f"{len(self.leds)} leds", "name at most three")
        need(
            self.chip.family == "ice40" or self.flash_offset is None,
            f"flash_offset is {self.flash_offset}",
            f"{self.chip.family} boards keep a model in block RAM: leave it out",
        )
        self.check_clock(self.clock_hz)

    @property
    def geometry(self) -> str:
        """The name of the board's engine."""
        return self.engine.name

    @property
    def family(self) -> str:
        """``ecp5``, ``ice40`` or ``gowin``."""
        return self.chip.family

    @property
    def tech(self) -> Technology:
        """The vendor cells of its chip."""
        return self.chip.tech

    @property
    def resources(self) -> Mapping[str, int]:
        """What its chip has."""
        return self.chip.resources

    @property
    def bitstream_suffix(self) -> str:
        """The ending of its bitstream's name."""
        return {"ecp5": ".bit", "ice40": ".bin", "gowin": ".fs"}[self.family]

    @property
    def nextpnr_device(self) -> tuple[str, ...]:
        """Options of nextpnr for chip, package, speed grade, and the board's own."""
        if self.family == "gowin":
            part, database = self.chip.nextpnr
            names = ("--device", f"{part}{self.package}{self.speed}", "--vopt", f"family={database}")
            return (*names, *self.route)
        speed = ("--speed", self.speed) if self.speed else ()
        return (*self.chip.nextpnr, "--package", self.package, *speed, *self.route)

    def check_clock(self, clock_hz: int) -> None:
        """Raise UsageError unless the board can make ``clock_hz`` exactly and the UART can divide it."""
        from ternac.hdl.link.rate import rate_increment

        wanted = Fraction(clock_hz)
        if self.family == "ecp5":
            ecp5_pll(self.crystal_hz, wanted)
        elif self.family == "gowin":
            assert self.chip.pll_hz is not None
            gowin_pll(self.crystal_hz, wanted, self.chip.pll_hz)
        elif clock_hz != self.crystal_hz:
            ice40_pll(self.crystal_hz, wanted)

        try:
            rate_increment(clock_hz, self.baud)
        except ValueError as error:
            raise UsageError(f"{self.name}: {error}", "take a faster clock") from None


_KINDS: dict[str, type] = {
    "name": str, "title": str, "chip": Chip, "package": str, "speed": str, "engine": Geometry,
    "clock_pin": str, "crystal_hz": int, "clock_hz": int, "target_hz": int, "baud": int, "serial": str,
    "leds": tuple, "loader": tuple, "verified": str, "notes": str, "route": tuple, "seed": int,
    "held_high": Mapping, "window": int,
}  # fmt: skip
"""Types that are checked: a board may come from anybody's file."""
