"""Sampler: logits in, next token out, by argmax or by seeded top-k / temperature sampling."""

from __future__ import annotations

from amaranth.hdl import Elaboratable, Module, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

__all__ = ["Sampler"]


class Sampler(wiring.Component):
    """Chooses the next token from the logits of one step; docs/numerics.md, section Sampling, is its formula.

    Logits arrive a row at a time: the row of slot t holds elements t * columns .. t * columns + columns - 1. The rows
    0, 1, .., last_slot come in this order, with any gaps; the row of slot 0 begins a new step. In the last row only the
    first ``tail`` columns exist (vocab = last_slot * columns + tail). The argmax is found on the way in; ties go to the
    lowest index.

    ``start`` may come in any cycle after that of the last row (not in the same one). The parameters ``greedy``,
    ``inv_m``, ``inv_s``, ``top_k``, ``rng_in``, ``last_slot`` and ``tail`` must be stable from the first row (``last_slot``,
    ``tail``) or from ``start`` (the others) until ``done``. ``done`` is high for one cycle, exactly
    :meth:`latency` cycles after ``start``; then ``next_token`` and ``rng_out`` are valid until the next ``start``.
    ``busy`` is high from the cycle after ``start`` to the cycle before ``done``. Rows must not arrive while busy.

    greedy = 1: the argmax; rng_out = rng_in.  greedy = 0: one draw, rng_out = xorshift32(rng_in).

    Parameters
    ----------
    columns : logits a row, 1..64.
    slots : rows of the logits memory, 2..65536 // columns.

    Members
    -------
    row_valid, row_slot(ceil_log2(slots)), row (array of ``columns`` signed(16)) : In.
    last_slot(ceil_log2(slots)), tail(bits_for(columns), 1..columns) : In.
    start, greedy, inv_m(8), inv_s(5), top_k(16, 0 = off, at most vocab), rng_in(32) : In.
    busy, done, next_token(16), rng_out(32) : Out.
    """

    def __init__(self, *, columns: int, slots: int) -> None:
        if not 1 <= columns <= 64:
            raise ValueError(f"columns must be 1..64, not {columns!r}")
        if not 2 <= slots <= 65536 // columns:
            raise ValueError(f"slots must be 2..{65536 // columns} for {columns} columns, not {slots!r}")
        self.columns = columns
        self.slots = slots
        super().__init__(
            {
                "row_valid": In(1),
                "row_slot": In(ceil_log2(slots)),
                "row": In(signed(16)).array(columns),
                "last_slot": In(ceil_log2(slots)),
                "tail": In(bits_for(columns)),
                "start": In(1),
                "greedy": In(1),
                "inv_m": In(8),
                "inv_s": In(5),
                "top_k": In(16),
                "rng_in": In(32),
                "busy": Out(1),
                "done": Out(1),
                "next_token": Out(16),
                "rng_out": Out(32),
            }
        )

    def latency(self, vocab: int, *, greedy: bool, top_k: int = 0) -> int:
        """Cycles from ``start`` to ``done``: a constant for argmax; linear in ``vocab`` for a draw."""
        raise NotImplementedError

    def elaborate(self, platform: object) -> Elaboratable:
        return Module()
