"""A behavioural SDRAM that knows its data sheet: it stores words, and refuses whoever breaks a timing rule.

Written from the command truth table and the timing rules that the makers' data sheets share, and from nothing
of the controller's, so that the two check each other. Read bursts of any programmed length, burst or single
writes, DQM; no auto precharge, no burst termination, no power down: whoever uses them is refused as well.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ternac.compile.sdram import SdramChip

__all__ = ["SdramFault", "SdramModel"]

POSTPONED = 8
"""Refreshes that may be late."""
NEVER = -1e12
_NAMES = {
    0b000: "NOP",
    0b001: "BURST STOP",
    0b100: "ACTIVATE",
    0b010: "READ",
    0b011: "WRITE",
    0b101: "PRECHARGE",
    0b110: "REFRESH",
    0b111: "MODE",
}


class SdramFault(AssertionError):
    """A rule of the data sheet was broken; the message names rule, time and bank."""


@dataclass
class _Bank:
    row: int | None = None
    activated: float = NEVER
    precharged: float = NEVER
    busy: float = NEVER
    """No precharge before: end of a read burst, or the recovery of a write."""


@dataclass
class SdramModel:
    """``clock`` once for every rising edge of the chip's clock, ``period`` ns apart.

    ``words``: contents by word number; ``reads``, ``writes``, ``refreshes`` count what was done;
    ``edge`` counts edges.
    """

    chip: SdramChip
    period: float
    words: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.banks = [_Bank() for _ in range(1 << self.chip.bank_bits)]
        self.edge = self.reads = self.writes = self.refreshes = 0
        self.refreshed = self.moded = NEVER
        self.last_activate = NEVER
        self.live_since: float | None = None
        self.cas = self.burst = 0
        self.single_write = False
        self.initial = 0  # refreshes before the mode register was set
        self.precharged_once = False
        self._out: dict[int, int] = {}
        self._write_burst: tuple[int, int, int, int] | None = None  # bank, first column, done, row
        self._mask: list[int] = [3, 3, 3]  # of the edge before the last one, the last one, this one
        self._drove = -2

    @property
    def now(self) -> float:
        """Time of this edge in ns."""
        return self.edge * self.period

    def fault(self, text: str) -> SdramFault:
        """The exception, with the time."""
        return SdramFault(f"edge {self.edge} ({self.now:.1f} ns): {text}")

    def need(self, since: float, least: float, rule: str) -> None:
        """``least`` ns must have passed since ``since``."""
        if self.now - since < least - 1e-6:
            raise self.fault(f"{rule}: {self.now - since:.1f} ns, needs {least:.1f}")

    def clock(
        self,
        *,
        cke: int,
        cs: int,
        ras: int,
        cas: int,
        we: int,
        ba: int,
        a: int,
        dqm: int = 0,
        dq: int | None = None,
    ) -> int | None:
        """One rising edge; ``dq`` is what the controller drives, or None. Returns what the chip drives."""
        self._mask = [*self._mask[1:], dqm]
        code = (ras << 2 | cas << 1 | we) if cs else 0
        if not cke:
            raise self.fault("CKE low: power down and self refresh are not part of this model")
        name = _NAMES[code]
        if name == "BURST STOP":
            raise self.fault("BURST STOP is not part of this model")
        if name != "NOP":
            if self.now < self.chip.power_up - 1e-6:
                raise self.fault(f"{name} before the power-up time of {self.chip.power_up:.0f} ns")
            if name in ("ACTIVATE", "READ", "WRITE") and self.live_since is None:
                raise self.fault(f"{name} before the mode register was set")
            self.need(self.refreshed, self.chip.rfc, f"tRFC before {name}")
            self.need(self.moded, self.chip.mrd_cycles * self.period, f"tMRD before {name}")
            getattr(self, "_" + name.lower())(ba, a, dq)
        self._check_refresh()
        if name not in ("NOP", "WRITE"):
            self._write_burst = None
        if self._write_burst and name == "NOP":
            bank, column, done, row = self._write_burst
            self._store(bank, row, self._wrap(column, done), dq)
            self._write_burst = (bank, column, done + 1, row) if done + 1 < self.burst else None
        driven = self._out.pop(self.edge, None)
        if dq is not None and (driven is not None or self._drove == self.edge - 1):
            raise self.fault("bus contention: the controller drives DQ within a cycle of the chip")
        if driven is not None:
            self._drove = self.edge
        self.edge += 1
        return None if driven is None else driven & ~_masked(self._mask[0])

    def _wrap(self, column: int, offset: int) -> int:
        low = self.burst - 1
        return column & ~low | (column + offset) & low

    def _number(self, bank: int, row: int, column: int) -> int:
        return (row << self.chip.bank_bits | bank) << self.chip.column_bits | column

    def _all_idle(self, name: str) -> None:
        for number, bank in enumerate(self.banks):
            if bank.row is not None:
                raise self.fault(f"{name} while row {bank.row} of bank {number} is open")
            self.need(bank.precharged, self.chip.rp, f"tRP of bank {number} before {name}")

    def _mode(self, ba: int, a: int, dq: int | None) -> None:
        self._all_idle("MODE")
        if not self.precharged_once or self.initial < 2:
            raise self.fault("MODE needs a precharge of all banks and two refreshes before it")
        if ba or a >> 10 or a >> 7 & 3 or a & 8 or a & 7 > 3 or a >> 4 & 7 not in (2, 3):
            raise self.fault(f"mode {a:#x} is reserved or not part of this model")
        self.cas, self.burst, self.single_write = a >> 4 & 7, 1 << (a & 7), bool(a >> 9 & 1)
        if self.cas == 2 and 1e3 / self.period > self.chip.cas2_mhz + 1e-6:
            raise self.fault(f"latency 2 above {self.chip.cas2_mhz} MHz")
        self.moded = self.now
        if self.live_since is None:
            self.live_since = self.now

    def _refresh(self, ba: int, a: int, dq: int | None) -> None:
        self._all_idle("REFRESH")
        self.refreshed = self.now
        if self.live_since is None:
            self.initial += 1
        else:
            self.refreshes += 1

    def _check_refresh(self) -> None:
        if self.live_since is not None:
            owed = int((self.now - self.live_since) / self.chip.refresh)
            if owed - self.refreshes > POSTPONED:
                raise self.fault(f"refresh: {self.refreshes} done, {owed} due")

    def _activate(self, ba: int, a: int, dq: int | None) -> None:
        bank = self.banks[ba]
        if bank.row is not None:
            raise self.fault(f"ACTIVATE of bank {ba}, whose row {bank.row} is open")
        self.need(bank.precharged, self.chip.rp, f"tRP of bank {ba}")
        self.need(bank.activated, self.chip.rc, f"tRC of bank {ba}")
        self.need(self.last_activate, self.chip.rrd, "tRRD")
        bank.row, bank.activated, self.last_activate = a, self.now, self.now

    def _precharge(self, ba: int, a: int, dq: int | None) -> None:
        every = bool(a >> 10 & 1)
        self.precharged_once |= every
        for number in range(len(self.banks)) if every else (ba,):
            bank = self.banks[number]
            if bank.row is None:
                continue
            self.need(bank.activated, self.chip.ras, f"tRAS of bank {number}")
            if self.now - bank.activated > self.chip.ras_max:
                raise self.fault(f"row of bank {number} open for {self.now - bank.activated:.0f} ns")
            self.need(bank.busy, 0, f"bank {number} is precharged within a burst or tWR")
            bank.row, bank.precharged = None, self.now

    def _column(self, ba: int, a: int, name: str) -> int:
        bank = self.banks[ba]
        if bank.row is None:
            raise self.fault(f"{name} in bank {ba}, which has no open row")
        if a >> 10 & 1:
            raise self.fault("auto precharge is not part of this model")
        self.need(bank.activated, self.chip.rcd, f"tRCD of bank {ba}")
        return a & (1 << self.chip.column_bits) - 1

    def _read(self, ba: int, a: int, dq: int | None) -> None:
        column = self._column(ba, a, "READ")
        bank = self.banks[ba]
        assert bank.row is not None
        first = self.edge + self.cas
        self._out = {edge: word for edge, word in self._out.items() if edge < first}
        for i in range(self.burst):
            self._out[first + i] = self.words.get(self._number(ba, bank.row, self._wrap(column, i)), 0)
        bank.busy = (self.edge + self.burst) * self.period
        self.reads += 1

    def _write(self, ba: int, a: int, dq: int | None) -> None:
        column = self._column(ba, a, "WRITE")
        bank = self.banks[ba]
        assert bank.row is not None
        self._store(ba, bank.row, column, dq)
        if not self.single_write and self.burst > 1:
            self._write_burst = (ba, column, 1, bank.row)
        self.writes += 1

    def _store(self, ba: int, row: int, column: int, dq: int | None) -> None:
        if dq is None:
            raise self.fault("a word is to be written and nobody drives DQ")
        keep = _masked(self._mask[-1])
        number = self._number(ba, row, column)
        self.words[number] = self.words.get(number, 0) & keep | dq & ~keep & 0xFFFF
        recovery = max(self.chip.wr, 2 * self.period)
        self.banks[ba].busy = max(self.banks[ba].busy, self.now + recovery)


def _masked(dqm: int) -> int:
    """The bits of a word that DQM keeps away."""
    return (0xFF if dqm & 1 else 0) | (0xFF00 if dqm & 2 else 0)
