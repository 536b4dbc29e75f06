"""The blocks of RTL that are mutated, and the tests whose stimulus is replayed to their mutants."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Block:
    """A component and the tests that drive it.

    ``when``: outputs that mean something only while a bit of a port is 1, of the same or of another one
    ("dot.0": bit 0 of ``dot``; without a number bit 0). What a mutant does to them at other times is not
    counted as seen.
    """

    name: str
    component: str
    """Module and class."""
    tests: tuple[str, ...]
    when: dict[str, str] = field(default_factory=dict)
    cycles: int = 12_000
    """Of the recorded cycles at most so many are replayed; whole simulations, the first ones."""
    mutants: int = 120

    @property
    def folder(self) -> str:
        """The name of a folder for it."""
        return self.name.replace(" ", "-")


_LINK = (
    *(f"test_all_requests[{seed}-loaded]" for seed in range(3)), "test_two_runs_of_one_crc_are_two",
    "test_the_line_is_closed_until_hello", "test_a_frame_that_only_begins_well_is_dropped",
    "test_a_token_that_takes_too_long_is_given_up[3-552]", "test_a_token_in_time_is_not_given_up",
    "test_without_a_window_nothing_follows", "test_refusals_change_nothing", "test_idle_and_fault_pins",
    "test_faulty_line[0]",
)  # fmt: skip
"""Tests of one netlist: that of a board that is loaded and has no window."""
_ENGINE = {
    f"engine__{name}": f"engine__{bit}"
    for bit, names in (
        ("wr_en", ("wr_mem", "wr_block", "wr_addr", "wr_data")),
        ("rd_en", ("rd_block", "rd_addr")),
        ("start", ("start_context", "again", "entry", "token", "session_base")),
        ("busy", ("emit", "rng_in", "greedy", "inv_m", "inv_s", "top_k")),
    )
    for name in names
}
_SEQUENCER = {
    "dot": "dot.0", "elem": "elem.0",
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
    Block("side lane", "ternac.hdl.engine.side_lane:SideLane", ("tests/hdl/engine/test_side_lane.py",),
          {"x_word": "x_en", "x_chunk": "x_en", "x": "x_en", "retire_context": "retire"}),
    Block("side column", "ternac.hdl.engine.side_lane:SideColumn", ("tests/hdl/engine/test_side_lane.py",)),
    Block("sampler", "ternac.hdl.engine.sampler:Sampler",
          ("tests/hdl/engine/test_sampler.py::test_draws_at_the_edges_of_weights[4]",
           "tests/hdl/engine/test_sampler.py::test_matches_model[3-7-20-4]"),
          {"next_token": "done", "rng_out": "done"}, cycles=80_000),
    Block("sequencer", "ternac.hdl.engine.sequencer:Sequencer",
          ("tests/hdl/engine/test_random_microcode.py",), _SEQUENCER, cycles=200_000),
    Block("controller", "ternac.hdl.link.controller:LinkController",
          tuple(f"tests/hdl/link/test_controller.py::{name}" for name in _LINK),
          {"tx__payload": "tx__valid", **_ENGINE}, cycles=400_000),
    Block("SDRAM controller", "ternac.hdl.sdram.controller:SdramController",
          ("tests/hdl/sdram/test_controller.py::test_random_traffic",
           "tests/hdl/sdram/test_controller.py::test_pace"),
          {"data": "valid", "pins__dq_o": "pins__dq_oe"}, cycles=40_000),
)  # fmt: skip
