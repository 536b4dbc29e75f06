"""Record what the tests of a component put in and see come out, cycle by cycle."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import amaranth.sim
import numpy as np
import pytest
from amaranth.back import rtlil
from amaranth.hdl import Value

from tests.mutants.rtl.blocks import Block
from tests.mutants.runner import ROOT

WORD = 32


@dataclass(frozen=True)
class Port:
    """A port of the component as the netlist has it."""

    name: str
    bits: int
    out: bool

    @property
    def words(self) -> int:
        """Words of `WORD` bits that a value takes."""
        return -(-self.bits // WORD)


def ports_of(component: Any) -> list[tuple[Port, Value]]:
    """Return the ports of a component with their signals; those of no bits are left out."""
    found = []
    for path, member, value in component.signature.flatten(component):
        cast = Value.cast(value)
        if len(cast):
            out = member.flow == amaranth.lib.wiring.Out
            found.append((Port("__".join(map(str, path)), len(cast), out), cast))
    return found


class Recorder:
    """Notes the ports of every component of a class in every simulation, before each clock edge.

    ``traces``: for each way to build the component (its RTLIL), simulations as arrays of words.
    """

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.made: list[Any] = []
        self.running: list[tuple[Any, list[list[int]]]] = []

    def install(self, patch: pytest.MonkeyPatch) -> None:
        elaborate, simulator = self.kind.elaborate, amaranth.sim.Simulator  # type: ignore[attr-defined]

        def noted(component: Any, platform: Any) -> Any:
            self.made.append(component)
            return elaborate(component, platform)

        class Recording(simulator):  # type: ignore[misc, valid-type]
            def __init__(simulation, *arguments: Any, **options: Any) -> None:
                self.made = []
                super().__init__(*arguments, **options)
                for component in {id(one): one for one in self.made}.values():
                    rows: list[list[int]] = []
                    self.running.append((component, rows))
                    signals = [value for _, value in ports_of(component)]

                    async def watch(ctx: Any, rows: Any = rows, signals: Any = signals) -> None:
                        async for _, _, *values in ctx.tick().sample(*signals):
                            rows.append([int(value) for value in values])

                    simulation.add_process(watch)

        patch.setattr(self.kind, "elaborate", noted)
        patch.setattr(amaranth.sim, "Simulator", Recording)


def _words(ports: list[Port], rows: list[list[int]]) -> np.ndarray:
    found = np.zeros((len(rows), sum(port.words for port in ports)), np.uint32)
    for at, row in enumerate(rows):
        column = 0
        for port, value in zip(ports, row, strict=True):
            left = value & ((1 << port.bits) - 1)
            for _ in range(port.words):
                found[at, column] = left & 0xFFFFFFFF
                left >>= WORD
                column += 1
    return found


def record(block: Block, folder: Path) -> None:
    """Run the tests of a block; write ``top.il``, ``ports.json`` and ``trace.bin`` of what they drove most.

    ``trace.bin``: number of cycles and words of each simulation, in 32-bit words, one after the other.
    """
    module, _, name = block.component.partition(":")
    recorder = Recorder(getattr(importlib.import_module(module), name))
    with pytest.MonkeyPatch.context() as patch:
        recorder.install(patch)
        status = pytest.main(
            ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow", f"--rootdir={ROOT}",
             "--hypothesis-seed=17",
             "-W", "ignore::pytest.PytestAssertRewriteWarning",
             *(str(ROOT / test) for test in block.tests)]
        )  # fmt: skip
    assert status == 0, f"the tests of {block.name} fail"
    builds: dict[str, list[tuple[Any, list[list[int]]]]] = {}
    for component, rows in recorder.running:
        if rows:
            builds.setdefault(repr([port for port, _ in ports_of(component)]), []).append((component, rows))
    # Ports tell most builds apart; of those with the same ports, the text of the netlist does.
    largest = max(builds.values(), key=lambda some: sum(len(rows) for _, rows in some))
    texts: dict[str, list[tuple[Any, list[list[int]]]]] = {}
    for component, rows in largest:
        ports = [port for port, _ in ports_of(component)]
        text = rtlil.convert(component, name="mutated_block", emit_src=False)
        texts.setdefault(text, []).append((ports, rows))
    text, chosen = max(texts.items(), key=lambda pair: sum(len(rows) for _, rows in pair[1]))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "top.il").write_text(text)
    ports = chosen[0][0]
    with (folder / "trace.bin").open("wb") as file:
        total = 0
        for _, rows in chosen:
            kept = rows[: block.cycles - total]
            if not kept:
                break
            total += len(kept)
            file.write(np.array([len(kept)], np.uint32).tobytes() + _words(ports, kept).tobytes())
    (folder / "ports.json").write_text(
        json.dumps([[port.name, port.bits, port.out] for port in ports]) + "\n"
    )


def ports_in(folder: Path) -> Iterator[Port]:
    """Yield the ports that were recorded."""
    for name, bits, out in json.loads((folder / "ports.json").read_text()):
        yield Port(name, bits, out)
