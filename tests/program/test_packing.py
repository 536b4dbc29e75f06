"""Trit packing: exact, and one encoding per content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ternac.program import packing

TRITS = hnp.arrays(
    np.int8, hnp.array_shapes(min_dims=1, max_dims=2, max_side=40), elements=st.integers(-1, 1)
)


@given(TRITS)
def test_both_packings_return_what_went_in(trits: np.ndarray) -> None:
    for pack, unpack, size in (
        (packing.pack2, packing.unpack2, packing.packed2_size),
        (packing.pack5, packing.unpack5, packing.packed5_size),
    ):
        data = pack(trits)
        assert data.shape == (size(trits.size),)
        assert unpack(data, trits.size).tolist() == trits.reshape(-1).tolist()


@given(hnp.arrays(np.uint8, st.integers(1, 12)), st.integers(0, 4))
def test_what_unpacks_packs_to_the_same_bytes(data: np.ndarray, missing: int) -> None:
    for pack, unpack, per_byte in ((packing.pack2, packing.unpack2, 4), (packing.pack5, packing.unpack5, 5)):
        count = len(data) * per_byte - min(missing, per_byte - 1)
        try:
            trits = unpack(data, count)
        except ValueError:
            continue
        assert pack(trits).tobytes() == data.tobytes()


def test_known_bytes() -> None:
    assert packing.pack5(np.array([-1, 0, 1, 1, -1])).tolist() == [0 + 3 + 2 * 9 + 2 * 27]
    assert packing.pack5(np.zeros(3)).tolist() == [121]
    assert packing.pack2(np.array([1, -1, 0, 1, -1])).tolist() == [0b01001101, 0b11]


@pytest.mark.parametrize("pack", [packing.pack2, packing.pack5])
def test_refuses_what_is_no_trit(pack: object) -> None:
    with pytest.raises(ValueError, match="not in -1, 0, 1"):
        pack(np.array([0, 2]))  # type: ignore[operator]


def test_refuses_other_encodings() -> None:
    with pytest.raises(ValueError, match="negative zero"):
        packing.unpack2(np.array([2], np.uint8), 1)
    with pytest.raises(ValueError, match="padding"):
        packing.unpack2(np.array([4], np.uint8), 1)
    with pytest.raises(ValueError, match="over 242"):
        packing.unpack5(np.array([243], np.uint8), 5)
    with pytest.raises(ValueError, match="padding"):
        packing.unpack5(np.array([0], np.uint8), 1)
    with pytest.raises(ValueError, match="need uint8"):
        packing.unpack5(np.zeros(2, np.uint8), 5)
