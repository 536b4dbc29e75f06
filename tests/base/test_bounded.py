"""A library in a process of its own: what it takes is bounded, and what it does harms one call."""

from __future__ import annotations

import sys
import threading

import pytest

from ternac import limits
from ternac.bounded import Worker
from ternac.errors import OverBudget, UsageError
from ternac.limits import Budget

MODULE = "tests.base.misbehaving"


def worker(first: str = "it") -> Worker:
    return Worker(MODULE, first, 1000, "a file")


def test_calls_are_answered_in_order_by_one_process() -> None:
    here = worker()
    assert [here.call(["echo", number]) for number in range(20)] == [["it", number] for number in range(20)]
    assert here.call(["print", 5]) == ["it", 5]
    assert here.started == 1
    here.close()


def test_what_it_raises_is_an_error_and_the_process_stays() -> None:
    here = worker()
    with pytest.raises(UsageError, match="BaseException: a panic"):
        here.call(["raise", 0])
    assert here.call(["echo", 1]) == ["it", 1]
    assert here.started == 1
    with pytest.raises(UsageError, match="no such file"):
        worker("fail").call(["echo", 1])


def test_a_call_that_takes_too_long_is_ended_and_the_next_one_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = worker()
    assert here.call(["echo", 0]) == ["it", 0]
    with monkeypatch.context() as patch:
        patch.setattr(limits, "PARSER_SECONDS", Budget("seconds in a library", 1))
        with pytest.raises(OverBudget, match="a file took more than 1 seconds of a library") as found:
            here.call(["sleep", 600])
    assert "--budget" in found.value.hint
    assert here.call(["echo", 1]) == ["it", 1]
    assert here.started == 2


@pytest.mark.parametrize("death", [["die", 0], ["die", 139]])
def test_a_process_that_ends_costs_one_call(death: list[object]) -> None:
    here = worker()
    with pytest.raises(OverBudget, match="a file ended the library that reads it"):
        here.call(death)
    assert here.call(["echo", 1]) == ["it", 1]


@pytest.mark.skipif(sys.platform != "linux", reason="no limit of address space")
def test_memory_is_limited() -> None:
    here = worker()
    assert here.call(["allocate", 1 << 20]) == 1 << 20
    with pytest.raises(OverBudget, match=r"may take 2,147,499,648 bytes of memory"):
        here.call(["allocate", 1 << 32])
    assert here.call(["echo", 1]) == ["it", 1]


def test_threads_share_it() -> None:
    here, found = worker(), []
    calls = [threading.Thread(target=lambda n=n: found.append(here.call(["echo", n]))) for n in range(8)]
    for each in calls:
        each.start()
    for each in calls:
        each.join()
    assert sorted(found) == [["it", n] for n in range(8)]
    assert here.started == 1
