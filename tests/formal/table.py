"""The table of docs/formal.md: what is proven, how, to which depth, and how long it takes.

Everything but the seconds comes from the proofs themselves; the seconds are those of the last
``python -m tests.formal --write``.
"""

from __future__ import annotations

import re
from pathlib import Path

from ternac.files import write_text
from ternac.table import markdown
from tests.formal.proofs import PROOFS
from tests.formal.prove import SOLVERS, Proof

__all__ = ["PAGE", "read_seconds", "table", "write_table"]

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formal.md"
BEGIN = "<!-- table of proofs: made by `python -m tests.formal --write`, checked by the tests -->\n"
END = "<!-- table of proofs ends -->\n"
COLUMNS = ("proof", "of", "claims, each with a planted bug that breaks it", "method, depth", *SOLVERS)


def method(proof: Proof) -> str:
    """Say how far a proof reaches."""
    if not proof.induction:
        return f"bounded: {proof.bound} cycles from the start"
    steps = "step" if proof.induction == 1 else "steps"
    cycles = "1 cycle" if proof.bound == 1 else f"{proof.bound} cycles"
    return f"unbounded: {proof.induction} {steps} of induction, {cycles} from the start"


def row(proof: Proof, seconds: dict[tuple[str, str], float]) -> list[str]:
    """Return the cells of one proof."""
    bench = proof.build(None, None)
    bench.rtlil()
    claims = ", ".join(name.replace("_", " ") for name in bench.claims)
    times = [
        f"{seconds[proof.name, solver]:.1f} s" if (proof.name, solver) in seconds else "-"
        for solver in SOLVERS
    ]
    return [f"`{proof.name}`", proof.block, claims, method(proof), *times]


def table(seconds: dict[tuple[str, str], float]) -> str:
    """Return the table."""
    return markdown(COLUMNS, [row(proof, seconds) for proof in PROOFS.values()])


def read_seconds() -> dict[tuple[str, str], float]:
    """Return the seconds of each proof and solver in the page."""
    found = {}
    for line in _between(PAGE.read_text()).splitlines():
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        name = re.fullmatch(r"`(\w+)`", cells[0])
        if name is not None:
            for solver, cell in zip(SOLVERS, cells[-len(SOLVERS) :], strict=True):
                if cell.endswith(" s"):
                    found[name[1], solver] = float(cell.removesuffix(" s").replace(",", ""))
    return found


def write_table(seconds: dict[tuple[str, str], float]) -> None:
    """Put the table into the page."""
    text = PAGE.read_text()
    head, tail = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    write_text(PAGE, head + table(seconds) + tail)


def _between(text: str) -> str:
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
