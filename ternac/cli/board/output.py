"""What both checks print and return: a line a section, each mismatch with what to do, the report's file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import ternac
from ternac.cli.verb import Outcome, Say
from ternac.errors import UsageError
from ternac.files import write_json

if TYPE_CHECKING:
    from ternac.host.board.check.report import Report
    from ternac.host.executors import ExecutorName

SIMULATED = "a simulated board: nothing above was measured on hardware"
INTERRUPTED = 130
PORTS = ("sim", "serial:PORT")


def parse_port(text: str) -> ExecutorName:
    """Parse PORT. Raises UsageError if it is neither a serial port nor ``sim``."""
    from ternac.host.executors import parse_executor

    return parse_executor(text, PORTS)


def about(port: str, board: str, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the head of a report."""
    return {
        "ternac": ternac.__version__,
        "port": port,
        "board": board,
        "geometry": name,
        "manifest": manifest,
    }


def show(report: Report, out: Path, say: Say) -> Outcome:
    """Write the report to ``out``, print it, and return it."""
    data = report.data()
    width = max(map(len, report.sections))
    for section in report.sections.values():
        say(f"{section.state:11}  {section.name:{width}}  {section.seconds:7.1f} s")
        for finding in section.findings:
            say(f"  {finding.what}")
            if finding.hint:
                say(f"    hint: {finding.hint}")
        if section.mismatches > len(section.findings):
            say(f"  and {section.mismatches - len(section.findings)} more")
        for note in section.notes:
            say(f"  note: {note}")
    if report.simulated:
        say(SIMULATED)
    if report.interrupted:
        say("interrupted: what was found until then is in the report")
    try:
        write_json(out, data, indent=1)
    except UsageError as error:
        raise UsageError(f"the check is done, but {error}", error.hint) from None
    say(f"report: {out}" + ("" if report.ok else ", send it to the maintainers"))
    return Outcome(
        {**data, "report": str(out)}, ok=report.ok, status=INTERRUPTED if report.interrupted else 1
    )
