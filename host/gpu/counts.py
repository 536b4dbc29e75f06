"""What a token moves and multiplies, counted from the plan: what measured times are held against."""

from __future__ import annotations

from dataclasses import dataclass

from ternac.host.gpu.plan import Plan
from ternac.host.gpu.weights import Weights
from ternac.program.program import Program

_BYTES = {"i8": 1, "i16": 2, "acc": 4}


@dataclass(frozen=True)
class Counts:
    """Of one token of one session. ``weights``: bytes at 2 bits a trit, without filling; ``packed``: as they
    lie in memory; ``values``: of everything else that is read or written, each once for each phase.
    ``macs``: multiply-accumulates of all products; ``prompt_macs``: without what only the logits need.
    """

    weights: int
    packed: int
    values: int
    macs: int
    prompt_macs: int

    @property
    def bytes_moved(self) -> int:
        """Packed weights and values."""
        return self.packed + self.values


def count(program: Program, plan: Plan, weights: Weights) -> Counts:
    """Count a plan."""
    trits = packed = values = macs = prompt = 0
    for phase in plan.phases:
        for op in phase.products:
            place = weights.places[op.text("weights")]
            product = place.rows * place.columns
            trits += product
            packed += place.nbytes
            macs += product
            prompt += 0 if phase.tail else product
        read = [plan.values[name] for name in phase.reads() if name in plan.values]
        made = [plan.values[name] for name in phase.outs]
        values += sum(value.length * _BYTES[value.dtype] for value in (*read, *made))
        states = [program.states[name] for name in (*phase.loads, *phase.stores)]
        values += 2 * sum(states)
        for op in phase.ops():
            if op.kind in ("GATHER", "GATHER16"):
                values += plan.values[op.out].length * (1 if op.kind == "GATHER" else 2)
    return Counts(-(-trits // 4), packed, values, macs, prompt)
