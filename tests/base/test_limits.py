"""Budgets: both numbers in the refusal, a hint that suffices, and a raise that ends with its block."""

from __future__ import annotations

from pathlib import Path

import pytest

from ternac import limits
from ternac.errors import OverBudget, UsageError
from ternac.limits import Budget, raised

BUDGET = Budget("sheep", 10, 2)


def test_a_limit_grows_with_the_file() -> None:
    assert BUDGET.limit() == 10
    assert BUDGET.limit(5) == 20
    BUDGET.require(20, "a field", 5)
    with pytest.raises(OverBudget, match="a field needs 21 sheep, the limit is 20") as found:
        BUDGET.require(21, "a field", 5)
    assert (found.value.resource, found.value.needed, found.value.limit) == ("sheep", 21, 20)
    assert str(found.value.at("hill")) == "hill: a field needs 21 sheep, the limit is 20"


@pytest.mark.parametrize("needed", [21, 40, 41, 1_000_000_007])
def test_the_factor_of_the_hint_suffices(needed: int) -> None:
    for factor in (1, 1.5):
        with raised(factor), pytest.raises(OverBudget) as found:
            BUDGET.require(needed + 20, "a field", 5)
        said = found.value.hint.partition("--budget ")[2].partition(",")[0]
        with raised(int(said)):
            BUDGET.require(needed + 20, "a field", 5)


def test_a_raise_ends_with_its_block_also_after_an_error() -> None:
    with pytest.raises(OverBudget, match="the limit is 30"), raised(3):
        BUDGET.require(31, "a field")
    assert BUDGET.limit() == 10
    for factor in (0.5, 0, -1, float("inf"), float("nan")):
        with pytest.raises(UsageError, match="needs 1 to 1e9"), raised(factor):
            pass


def test_every_budget_is_described_on_its_page() -> None:
    page = Path(__file__).parents[2] / "docs" / "limits.md"
    text = page.read_text().replace(",", "")
    for name, found in vars(limits).items():
        if isinstance(found, Budget):
            assert f"`{name}`" in text, f"{name} is not on {page.name}"
            row = next(line for line in text.splitlines() if f"`{name}`" in line)
            assert f" {found.fixed}" in row, f"{page.name}: {name} is {found.fixed}"
            assert not found.per_byte or f" {found.per_byte} " in row
