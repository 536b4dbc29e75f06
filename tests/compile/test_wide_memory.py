"""External memory of a wide program: what the readers find where the map says."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.compile.wide_memory import PAGE, lay_out
from ternac.hdl.wide.fetch import ConstantReader, RowReader


@pytest.mark.parametrize(("port_bits", "lanes"), [(128, 8), (512, 8), (32, 4), (256, 2)])
def test_readers_find_constants_and_rows(port_bits: int, lanes: int) -> None:
    rng = np.random.default_rng(port_bits)
    weights = rng.integers(0, 256, 3 * port_bits // 8).astype(np.uint8)
    constants = rng.integers(-32768, 32768, (37, lanes)).astype(np.int16)
    embedding = rng.integers(-32768, 32768, (5, 3, lanes)).astype(np.int16)
    found = lay_out(weights, constants, embedding, port_bits // 8)
    assert found.weights % PAGE == found.constants % PAGE == found.rows % PAGE == found.image.size % PAGE == 0
    assert np.array_equal(found.image[found.weights :][: weights.size], weights)
    reader, rows = ConstantReader(port_bits, lanes), RowReader(port_bits, lanes)
    assert np.array_equal(reader.model(found.image, found.constants, found.constant_words), constants)
    assert found.row_bytes % (port_bits // 8) == 0
    for token, row in enumerate(embedding):
        assert np.array_equal(rows.model(found.image, found.rows, found.row_words, token), row)
    found.image[found.rows + 2 * found.row_bytes] ^= 1  # a planted bit in the row of token 2
    wrong = [
        not np.array_equal(rows.model(found.image, found.rows, found.row_words, token), row)
        for token, row in enumerate(embedding)
    ]
    assert wrong == [False, False, True, False, False]


def test_other_lanes_are_refused() -> None:
    with pytest.raises(ValueError, match="constants have 4 lanes, the embedding 8"):
        lay_out(np.zeros(0, np.uint8), np.zeros((1, 4), np.int16), np.zeros((1, 1, 8), np.int16), 16)
