"""The SDRAM chip that holds streamed weights: its timing in nanoseconds, and where a word of it lies.

Word ``w`` is column ``w % 512`` of bank ``w // 512 % 4`` of row ``w // 2048``: a sequential reader comes from
one bank's row into the next bank's, which can be opened in time.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ternac.errors import UsageError

__all__ = ["BURST", "NOMINAL_HZ", "ULX3S_CHIP", "Cycles", "SdramChip"]

BURST = 8
"""Words of one read burst; writes are single words."""
NOMINAL_HZ = 60_000_000
"""Clock of the shipped bitstream, which a simulated board's memory assumes too."""


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """A chip's minimum distances in clock cycles, and ``cas``, its latency from READ to the first word."""

    rcd: int
    rp: int
    ras: int
    rc: int
    rfc: int
    rrd: int
    wr: int
    mrd: int
    cas: int
    refresh: int
    """From one refresh to the next at most, on average."""
    power_up: int


@dataclass(frozen=True, kw_only=True)
class SdramChip:
    """A single data rate SDRAM of 16 bits. Times in ns as data sheets give them; see `Cycles`."""

    name: str
    rcd: float
    rp: float
    ras: float
    rc: float
    rfc: float
    rrd: float
    wr: float
    """From a written word to the precharge of its bank, two cycles at least."""
    cas2_mhz: float
    """Up to this clock the latency is 2, above it 3."""
    max_mhz: float
    ras_max: float = 100_000
    power_up: float = 200_000
    refresh: float = 64e6 / 8192
    mrd_cycles: int = 2
    row_bits: int = 13
    bank_bits: int = 2
    column_bits: int = 9

    @property
    def word_bits(self) -> int:
        """Width of a word's number."""
        return self.row_bits + self.bank_bits + self.column_bits

    def cycles(self, clock_hz: int) -> Cycles:
        """Return the distances at a clock. Raises UsageError if it is outside what the chip can run at."""
        if not 1_000_000 <= clock_hz <= self.max_mhz * 1e6:
            raise UsageError(f"{self.name} runs at 1 to {self.max_mhz:g} MHz, not {clock_hz / 1e6:g}")

        def whole(ns: float) -> int:
            return int(-(-round(ns * clock_hz / 1e6) // 1000))

        return Cycles(
            rcd=whole(self.rcd),
            rp=whole(self.rp),
            ras=whole(self.ras),
            rc=whole(self.rc),
            rfc=whole(self.rfc),
            rrd=whole(self.rrd),
            wr=max(2, whole(self.wr)),
            mrd=self.mrd_cycles,
            cas=2 if clock_hz <= self.cas2_mhz * 1e6 else 3,
            refresh=int(self.refresh * clock_hz / 1e9),
            power_up=whole(self.power_up),
        )

    def place(self, word: int) -> tuple[int, int, int]:
        """Return (bank, row, column) of a word."""
        bank = word >> self.column_bits & (1 << self.bank_bits) - 1
        column = word & (1 << self.column_bits) - 1
        return bank, word >> self.column_bits + self.bank_bits, column


ULX3S_CHIP = SdramChip(
    name="16Mx16 SDRAM of the ULX3S", rcd=20, rp=20, ras=45, rc=67.5, rfc=67.5, rrd=15, wr=15,
    cas2_mhz=100, max_mhz=133,
)  # fmt: skip
"""Chips of several makers are on the boards (IS42S16160G-7, MT48LC16M16A2-75): the slowest of each time."""

assert all(getattr(ULX3S_CHIP.cycles(NOMINAL_HZ), field.name) > 0 for field in fields(Cycles))
