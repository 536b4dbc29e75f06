"""``make demo``: the shipped model on the simulated board, in four verbs that anyone can type.

Each step is a ``ternac`` command, printed before it runs; the first that fails ends the demo with its status.
"""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass

PROMPT = "ROMEO:"
BOARD = "ulx3s-85f"


@dataclass(frozen=True)
class Step:
    """One command, without the leading ``ternac``, and its title."""

    title: str
    command: str


STEPS = (
    Step("Is everything here?", "doctor --for demo"),
    Step("The shipped model: loss of the integer program, NumPy executor", "eval --split val"),
    Step(
        f"The engine of {BOARD}, cycle by cycle: every logit and state word against NumPy",
        f"verify --geometry {BOARD} --executors numpy,rtl --tokens 24",
    ),
    Step(
        f"The complete RTL of {BOARD} behind its byte link, as a board; every token against NumPy's",
        f"run --device sim --board {BOARD} --check --prompt {PROMPT} --tokens 240 --temperature 0.7 --seed 1",
    ),
)

NEXT = """What to do next
  .venv/bin/ternac run --prompt "JULIET:" --tokens 400           another text, on the NumPy executor
  .venv/bin/ternac run --device sim --temperature 0.9           other draws, on the simulated board
  .venv/bin/ternac inspect                                       what the program consists of
  .venv/bin/ternac estimate --board ulx3s-85f --ops              cycles by op, tokens per second
  .venv/bin/ternac report --out report.html                      all of it on one page
  .venv/bin/ternac train my.txt --out runs/mine                  your own model (make env-test first)
  .venv/bin/ternac flash --board ulx3s-85f                       then: run --device /dev/ttyUSB0"""


def main(steps: tuple[Step, ...] = STEPS) -> int:
    """Run the steps in order; returns 0, or the exit code of the step that failed."""
    out = sys.stdout
    began = time.monotonic()
    for number, step in enumerate(steps, start=1):
        out.write(f"\n[{number}/{len(steps)}] {step.title}\n$ ternac {step.command}\n")
        out.flush()
        start = time.monotonic()
        code = subprocess.run(
            [sys.executable, "-m", "ternac.cli", *step.command.split()], check=False
        ).returncode
        if code:
            out.write(f"\nThe demo stops here: step {number} failed (exit code {code}).\n")
            return code
        out.write(f"    ({time.monotonic() - start:.0f} s)\n")
    out.write(f"\nAll {len(steps)} steps passed in {time.monotonic() - began:.0f} s.\n\n{NEXT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
