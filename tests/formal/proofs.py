"""All proofs, by name."""

from __future__ import annotations

from tests.formal import (
    axi_reader,
    contexts,
    controller,
    line_buffer,
    registers,
    sdram,
    sequencer,
    slip,
    trits,
    uart,
)
from tests.formal.prove import Proof

__all__ = ["PROOFS"]

PROOFS: dict[str, Proof] = {
    proof.name: proof
    for block in (
        slip,
        registers,
        line_buffer,
        uart,
        controller,
        contexts,
        sequencer,
        sdram,
        axi_reader,
        trits,
    )
    for proof in block.PROOFS
}
