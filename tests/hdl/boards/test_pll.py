"""Divider settings: exact frequencies within the vendors' limits."""

from __future__ import annotations

from fractions import Fraction

import pytest

from ternac.errors import UsageError
from ternac.hdl.boards.pll import ecp5_pll, gowin_pll, ice40_pll


@pytest.mark.parametrize(
    ("mhz", "ref", "fb", "out"), [("50", 1, 2, 12), ("60", 5, 12, 10), ("62.5", 2, 5, 10), ("75", 1, 3, 8)]
)
def test_ecp5(mhz: str, ref: int, fb: int, out: int) -> None:
    pll = ecp5_pll(25_000_000, Fraction(mhz) * 1_000_000)
    assert (pll.ref, pll.fb, pll.out) == (ref, fb, out)
    assert 25_000_000 * Fraction(pll.fb, pll.ref) == pll.clock_hz
    assert 400_000_000 <= pll.vco_hz <= 800_000_000


@pytest.mark.parametrize(
    ("mhz", "divf", "divq"), [("16.5", 87, 6), ("18", 47, 5), ("21", 55, 5), ("24", 63, 5), ("30", 79, 5)]
)
def test_ice40(mhz: str, divf: int, divq: int) -> None:
    """As the icepll tool answers for 12 MHz, lower VCO where two fit."""
    pll = ice40_pll(12_000_000, Fraction(mhz) * 1_000_000)
    assert (pll.divr, pll.divf, pll.divq, pll.filter_range) == (0, divf, divq, 1)
    assert Fraction(12_000_000 * (pll.divf + 1), 2**pll.divq) == pll.clock_hz


@pytest.mark.parametrize(
    ("mhz", "ref", "fb", "out"), [("27", 1, 1, 32), ("54", 1, 2, 16), ("40.5", 2, 3, 16)]
)
def test_gowin(mhz: str, ref: int, fb: int, out: int) -> None:
    pll = gowin_pll(27_000_000, Fraction(mhz) * 1_000_000, (400_000_000, 1_200_000_000))
    assert (pll.ref, pll.fb, pll.out) == (ref, fb, out)
    assert Fraction(27_000_000 * pll.fb, pll.ref) == pll.clock_hz
    assert 400_000_000 <= pll.vco_hz <= 1_200_000_000
    with pytest.raises(UsageError, match="no Gowin PLL setting makes 61.3 MHz from 27 MHz"):
        gowin_pll(27_000_000, Fraction("61.3") * 1_000_000, (400_000_000, 1_200_000_000))


@pytest.mark.parametrize("mhz", ["2", "61.3", "900"])
def test_impossible(mhz: str) -> None:
    with pytest.raises(UsageError, match="no ECP5 PLL setting"):
        ecp5_pll(25_000_000, Fraction(mhz) * 1_000_000)
    with pytest.raises(UsageError, match="no iCE40 PLL setting"):
        ice40_pll(12_000_000, Fraction(mhz) * 1_000_000)
