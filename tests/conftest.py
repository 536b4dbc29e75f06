"""Shared by all tests: what a missing tool means, names of parameters, a summary of what was not run.

A test whose tool is missing is skipped with a reason that says so (``... is not installed``). With
``CI=true`` such a skip is a failure, so that continuous integration cannot pass without the tool. Icarus is
needed by tests that carry ``@pytest.mark.icarus`` or a parameter whose value is ``"icarus"``.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Generator
from dataclasses import is_dataclass
from enum import Enum
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine deadlines and "too slow" mean nothing; the printed blob reproduces a failure elsewhere.
settings.register_profile(
    "ternac", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ternac")

NO_ICARUS = "Icarus Verilog (iverilog) is not installed: apt-get install iverilog"
R = TypeVar("R", pytest.TestReport, pytest.CollectReport)
ID_LENGTH = 60
_left_out: Counter[str] = Counter()


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name what pytest would number or print in full: things by their name, sequences by what they hold."""
    if isinstance(val, Enum):
        return val.name
    if isinstance(val, (list, tuple, dict)) and val:
        return " ".join(map(str, val))[:ID_LENGTH]
    if isinstance(val, (str, bytes)) and len(val) > ID_LENGTH:
        return f"{val[:ID_LENGTH]!r}..."
    if is_dataclass(val) and not isinstance(val, type):
        return str(getattr(val, "name", type(val).__name__))
    return None


def needs_icarus(item: pytest.Item) -> bool:
    """Return True if ``item`` is marked or parametrized for Icarus."""
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec is not None else ()
    return item.get_closest_marker("icarus") is not None or any(
        isinstance(value, str) and value == "icarus" for value in values
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs Icarus where there is none."""
    if needs_icarus(item) and shutil.which("iverilog") is None:
        pytest.skip(NO_ICARUS)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let a test fail that a missing tool would skip, if this is continuous integration."""
    return fail_in_ci((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a file that is skipped as a whole."""
    return fail_in_ci((yield))


def fail_in_ci(report: R) -> R:
    """Turn a skip for a missing tool into a failure where ``CI=true``."""
    if os.environ.get("CI") == "true" and report.skipped and "is not installed" in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"CI=true, but {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    return str(reason).removeprefix("Skipped: ")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what compiles and simulates first, so that no test process is left alone with it at the end."""
    heavy = ("tests/sim/", "tests/hdl/", "tests/host/")
    items.sort(
        key=lambda item: next((i for i, at in enumerate(heavy) if item.nodeid.startswith(at)), len(heavy))
    )


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that ``-m`` or ``-k`` deselects, by file."""
    _left_out.update(item.nodeid.split("::")[0] for item in items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist: pass the count to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = dict(_left_out)


@pytest.hookimpl(optionalhook=True)  # xdist's hook: unknown where xdist is not installed
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take a worker's count: each worker collects everything, so one count is the whole."""
    _left_out.clear()
    _left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how many tests did not run, and why."""
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        skipped[_reason(report)] += 1
    if not skipped and not _left_out:
        return
    terminalreporter.section("not run")
    for reason, count in sorted(skipped.items()):
        terminalreporter.line(f"{count:4d} skipped: {reason}")
    if _left_out:
        total = sum(_left_out.values())
        terminalreporter.line(f"{total:4d} left out by -m or -k (slow tests: make nightly):")
        for path, count in sorted(_left_out.items()):
            terminalreporter.line(f"       {count:4d} in {path}")
