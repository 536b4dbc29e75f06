"""The blocks of RTL that are mutated, and the tests whose stimulus is replayed to their mutants."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Block:
    """A component and the tests that drive it.

    ``when``: outputs that mean something only while another output is 1. What a mutant does to them at other
    times is not counted as seen.
    """

    name: str
    component: str
    """Module and class."""
    tests: tuple[str, ...]
    when: dict[str, str] = field(default_factory=dict)
    cycles: int = 12_000
    """Of the recorded cycles at most so many are replayed; whole simulations, the first ones."""
    mutants: int = 120


_PINS = {f"pins__{name}": "pins__dq_oe" for name in ("dq_o",)}
_SEQUENCER = {
    "done_context": "done", "claim_slots": "claim", "norm_post": "norm_start", "norm_table": "norm_start",
    "norm_tail": "norm_start", "logits_last": "logits_start", "logits_tail": "logits_start",
}  # fmt: skip

BLOCKS = (
    Block("dot", "ternac.hdl.array.dot:DotUnit", ("tests/hdl/array/test_dot.py::test_rows_with_bubbles",)),
    Block("requant", "ternac.hdl.cells.requant:Requant",
          ("tests/hdl/cells/test_requant.py::test_against_numerics",)),
    Block("multiply", "ternac.hdl.cells.multiply:ShiftAddMultiplier",
          ("tests/hdl/cells/test_multiply.py::test_products",)),
    Block("norm", "ternac.hdl.engine.norm:NormUnit", ("tests/hdl/engine/test_norm.py::test_matches_model",)),
    Block("side lane", "ternac.hdl.engine.side_lane:SideLane",
          ("tests/hdl/engine/test_engine.py", "tests/hdl/engine/test_epilogue.py"),
          {"x_word": "x_en", "x_chunk": "x_en", "x": "x_en", "retire_context": "retire"}),
    Block("side column", "ternac.hdl.engine.side_lane:SideColumn", ("tests/hdl/engine/test_engine.py",)),
    Block("sampler", "ternac.hdl.engine.sampler:Sampler", ("tests/hdl/engine/test_sampler.py",),
          {"next_token": "done", "rng_out": "done"}),
    Block("sequencer", "ternac.hdl.engine.sequencer:Sequencer",
          ("tests/hdl/engine/test_sequencer.py::test_every_pass_is_issued_whole_in_order_and_on_time",),
          _SEQUENCER),
    Block("controller", "ternac.hdl.link.controller:LinkController",
          ("tests/hdl/link/test_controller.py",), {"tx__payload": "tx__valid"}),
    Block("SDRAM controller", "ternac.hdl.sdram.controller:SdramController",
          ("tests/hdl/sdram/test_controller.py::test_random_traffic",
           "tests/hdl/sdram/test_controller.py::test_pace"),
          {"data": "valid", **_PINS}),
)  # fmt: skip
