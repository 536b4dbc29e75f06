"""Places by first fit: the fast bookkeeping gives what the definition gives."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ternac.program.allocate import Lifetimes, first_fit


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2), st.integers(0, 12)), max_size=60))
def test_places_are_those_of_first_fit(wanted: list[tuple[int, int, int]]) -> None:
    memory, live, now, top = Lifetimes(), list[tuple[int, int, int]](), 0, 0
    for size, step, length in wanted:
        now += step
        live = [entry for entry in live if entry[2] >= now]
        at = first_fit(((offset, taken) for offset, taken, _ in live), size)
        live.append((at, size, now + length))
        top = max(top, at + size)
        assert memory.place(size, now, now + length) == at
    assert memory.top == top


def test_many_places_that_are_all_needed_are_given_out_in_no_time() -> None:
    memory = Lifetimes()
    assert [memory.place(64, 0, 1) for _ in range(1 << 15)] == list(range(0, 64 << 15, 64))
