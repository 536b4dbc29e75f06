"""Names in a plan: chosen here, not taken from bytecode that differs from one Python to the next."""

from __future__ import annotations

import re

import pytest

from ternac.compile.geometry import preset
from ternac.hdl.boards.boards import BOARDS, VARIANTS
from ternac.hdl.build.bitstream import engine_plan

TARGETS = {
    "icebreaker": BOARDS["icebreaker"],
    "ulx3s-85f-sdram": VARIANTS["ulx3s-85f-sdram"],
    "ulx3s-85f": BOARDS["ulx3s-85f"],
}
INFERRED = re.compile(r"^ *wire .*\\\$(?:signal|like|signature)", re.MULTILINE)


@pytest.mark.parametrize(
    "name", ["icebreaker", "ulx3s-85f-sdram", pytest.param("ulx3s-85f", marks=pytest.mark.slow)]
)
def test_no_name_depends_on_the_python_version(name: str) -> None:
    target = TARGETS[name]
    plan = engine_plan(target, preset(name), target.clock_hz)
    assert len(re.findall(r"^ *wire ", plan.design, re.MULTILINE)) > 1_000
    assert INFERRED.findall(plan.design) == []
