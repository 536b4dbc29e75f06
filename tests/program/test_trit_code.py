"""The trit code: its published rule, one code per content, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ternac.program.trit_code import DECODE, ENCODE, NETWORK, pack_code5, unpack_code5

TRITS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=1, max_dims=2, max_side=40), elements=st.integers(-1, 1)
)


def _rule(code: int) -> list[int]:
    """The five numbers 0..2 of a byte, as the texture format's specification words it."""

    def bits(value: int, high: int, low: int) -> int:
        return value >> low & ((1 << (high - low + 1)) - 1)

    t = [0] * 5
    if bits(code, 4, 2) == 7:
        c = bits(code, 7, 5) << 2 | bits(code, 1, 0)
        t[4] = t[3] = 2
    else:
        c = bits(code, 4, 0)
        if bits(code, 6, 5) == 3:
            t[4], t[3] = 2, bits(code, 7, 7)
        else:
            t[4], t[3] = bits(code, 7, 7), bits(code, 6, 5)
    if bits(c, 1, 0) == 3:
        t[2], t[1] = 2, bits(c, 4, 4)
        t[0] = bits(c, 3, 3) << 1 | (bits(c, 2, 2) & ~bits(c, 3, 3) & 1)
    elif bits(c, 3, 2) == 3:
        t[2], t[1], t[0] = 2, 2, bits(c, 1, 0)
    else:
        t[2], t[1] = bits(c, 4, 4), bits(c, 3, 2)
        t[0] = bits(c, 1, 1) << 1 | (bits(c, 0, 0) & ~bits(c, 1, 1) & 1)
    return t


def test_every_byte_decodes_by_the_rule() -> None:
    for code in range(256):
        assert [(0, 1, -1)[digit] for digit in _rule(code)] == DECODE[code].tolist()


def test_all_243_have_a_code_and_zero_is_zero() -> None:
    assert len({tuple(row) for row in DECODE.tolist()}) == 243
    assert len(set(ENCODE.tolist())) == 243
    assert not DECODE[0].any()
    assert pack_code5(np.zeros(7)).tolist() == [0, 0]


def test_no_function_has_more_inputs_than_a_lookup_table() -> None:
    assert len(NETWORK) == 15
    assert all(len(inputs) <= 4 for inputs, _ in NETWORK.values())


@given(TRITS)
def test_returns_what_went_in(trits: np.ndarray) -> None:
    data = pack_code5(trits)
    assert data.shape == (-(-trits.size // 5),)
    assert unpack_code5(data, trits.size).tolist() == trits.reshape(-1).tolist()


@given(hnp.arrays(np.uint8, st.integers(1, 12)), st.integers(0, 4))
def test_what_unpacks_packs_to_the_same_bytes(data: np.ndarray, missing: int) -> None:
    try:
        trits = unpack_code5(data, len(data) * 5 - missing)
    except ValueError:
        return
    assert pack_code5(trits).tobytes() == data.tobytes()


def test_refusals() -> None:
    with pytest.raises(ValueError, match="not in -1, 0, 1"):
        pack_code5(np.array([0, 2]))
    with pytest.raises(ValueError, match="uint8\\[1\\], need uint8\\[2\\]"):
        unpack_code5(np.zeros(1, np.uint8), 6)
    with pytest.raises(ValueError, match="padding"):
        unpack_code5(pack_code5(np.ones(5)), 4)
    second = next(code for code in range(256) if ENCODE[code != ENCODE].size == 243)
    with pytest.raises(ValueError, match="not the smallest"):
        unpack_code5(np.array([second], np.uint8), 5)
