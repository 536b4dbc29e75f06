"""Sums of a row from several ports, added in a tree: values, cycles, pauses, faults."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ternac.hdl.stream.partial import PartialSums
from tests.hdl.sim import simulate
from tests.hdl.yosys import assert_no_multiplier, netlist

Part = list[tuple[int, int]]


def run(
    unit: PartialSums, parts: list[Part], rng: random.Random, pauses: float
) -> tuple[Part, list[int], int]:
    """(sum, last) of every row, the cycles in which they came, and the fault at the end."""
    found: Part = []
    cycles: list[int] = []
    faults: list[int] = []

    async def bench(ctx: Any) -> None:
        at = [0] * unit.ports
        offered = [False] * unit.ports
        ready = cycle = 0
        while len(found) < len(parts[0]):
            assert cycle < 60 * len(parts[0]) + 100
            for i, part in enumerate(parts):
                offered[i] = at[i] < len(part) and (offered[i] or rng.random() >= pauses)
                ctx.set(unit.parts[i].valid, offered[i])
                if offered[i]:
                    ctx.set(unit.parts[i].payload, dict(zip(("sum", "last"), part[at[i]], strict=True)))
            ctx.set(unit.sums.ready, ready := rng.random() >= pauses)
            if ready and ctx.get(unit.sums.valid):
                payload = ctx.get(unit.sums.payload)
                found.append((payload.sum, payload.last))
                cycles.append(cycle)
            for i in range(unit.ports):
                if offered[i] and ctx.get(unit.parts[i].ready):
                    at[i] += 1
                    offered[i] = False
            await ctx.tick()
            cycle += 1
        faults.append(ctx.get(unit.fault))
        ctx.set(unit.clear, 1)
        await ctx.tick()
        assert not ctx.get(unit.fault)

    simulate(unit, bench)
    return found, cycles, faults[0]


def made(rng: random.Random, ports: int, rows: int) -> list[Part]:
    """Rows whose whole sum is below 2^23."""
    most = ((1 << 23) - 1) // ports
    ends = [rng.randrange(4) == 0 for _ in range(rows)]
    return [
        [(rng.choice((-most, most, rng.randint(-most, most))), int(end)) for end in ends]
        for _ in range(ports)
    ]


@pytest.mark.parametrize("ports", [1, 2, 3, 4, 7, 32])
def test_rows_are_added_one_a_cycle(ports: int) -> None:
    rng = random.Random(ports)
    unit, parts = PartialSums(ports), made(rng, ports, 12)
    sums, fault = unit.model(parts)
    found, cycles, seen = run(unit, parts, rng, 0.0)
    assert found == sums and not fault and not seen
    assert cycles == [unit.latency + i for i in range(len(sums))]
    assert unit.latency == (ports - 1).bit_length()


@pytest.mark.parametrize("ports", [1, 3, 4])
def test_pauses_change_nothing(ports: int) -> None:
    rng = random.Random(ports)
    unit, parts = PartialSums(ports), made(rng, ports, 60)
    assert run(unit, parts, rng, 0.5)[0] == unit.model(parts)[0]
    right = unit.model(parts)[0]
    parts[-1][30] = (parts[-1][30][0] ^ 1, parts[-1][30][1])  # a planted bit of one port
    planted = run(unit, parts, rng, 0.0)[0]
    assert [i for i, (x, y) in enumerate(zip(planted, right, strict=True)) if x != y] == [30]


def test_ports_out_of_step_are_a_fault() -> None:
    rng = random.Random(4)
    unit, parts = PartialSums(3), made(rng, 3, 20)
    parts[1][7] = (parts[1][7][0], parts[1][7][1] ^ 1)
    assert unit.model(parts)[1]
    assert run(unit, parts, rng, 0.2)[2] == 1


@pytest.mark.slow
def test_no_multiplier() -> None:
    assert_no_multiplier(netlist(PartialSums(4), "synth_ecp5"))


def test_refused() -> None:
    with pytest.raises(ValueError, match="ports must be at least 1, not 0"):
        PartialSums(0)
