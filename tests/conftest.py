"""What every test shares: the tool gate (Icarus), hypothesis' profile, a summary of what was not run.

A test needs Icarus when it carries ``@pytest.mark.icarus`` or a parameter whose value is ``"icarus"``.
Where Icarus is absent such a test is skipped with that reason; with ``CI=true`` it fails, so that continuous
integration can never pass without it.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine deadlines and "too slow" mean nothing; the printed blob reproduces a failure elsewhere.
settings.register_profile(
    "ternac", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ternac")

NO_ICARUS = "Icarus Verilog (iverilog) is not installed: apt-get install iverilog"
_left_out: Counter[str] = Counter()


def needs_icarus(item: pytest.Item) -> bool:
    """Whether ``item`` is marked or parametrized for Icarus."""
    callspec = getattr(item, "callspec", None)
    values = callspec.params.values() if callspec is not None else ()
    return item.get_closest_marker("icarus") is not None or any(
        isinstance(value, str) and value == "icarus" for value in values
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip (or, in CI, fail) what needs a tool that is not here."""
    if needs_icarus(item) and shutil.which("iverilog") is None:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI=true, but {NO_ICARUS}", pytrace=False)
        pytest.skip(NO_ICARUS)


def pytest_deselected(items: list[pytest.Item]) -> None:
    """Count the tests that ``-m`` or ``-k`` left out, by file."""
    _left_out.update(item.nodeid.split("::")[0] for item in items)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under xdist: hand the count to the process that prints the summary."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["left_out"] = dict(_left_out)


@pytest.hookimpl(optionalhook=True)  # xdist's hook: unknown where xdist is not installed
def pytest_testnodedown(node: Any, error: object) -> None:
    """Take over a worker's count; every worker collects everything, so the last one's is the whole."""
    _left_out.clear()
    _left_out.update(getattr(node, "workeroutput", {}).get("left_out", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say what was not run, and why."""
    skipped: Counter[str] = Counter()
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        skipped[str(reason).removeprefix("Skipped: ")] += 1
    if not skipped and not _left_out:
        return
    terminalreporter.section("not run")
    for reason, count in sorted(skipped.items()):
        terminalreporter.line(f"{count:4d} skipped: {reason}")
    if _left_out:
        total = sum(_left_out.values())
        terminalreporter.line(f"{total:4d} left out by -m or -k (slow tests: make test-all):")
        for path, count in sorted(_left_out.items()):
            terminalreporter.line(f"       {count:4d} in {path}")
