"""Matrices as the streaming dot engine reads them: packing, padding, descriptors."""

from __future__ import annotations

import numpy as np
import pytest

from ternac.compile.stream_layout import Descriptor, Encoding, matrix_words, pack_matrix, unpack_matrix


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(("rows", "columns", "port"), [(1, 1, 8), (5, 16, 16), (37, 50, 16), (12, 129, 64)])
def test_returns_what_went_in(rows: int, columns: int, port: int, encoding: Encoding) -> None:
    trits = np.random.default_rng(rows).integers(-1, 2, (rows, columns)).astype(np.int8)
    data = pack_matrix(trits, port, encoding)
    assert data.size == matrix_words(rows, columns, port, encoding) * port
    assert np.array_equal(unpack_matrix(data, rows, columns, port, encoding), trits)


@pytest.mark.parametrize("encoding", Encoding)
def test_a_byte_is_one_column_of_consecutive_rows(encoding: Encoding) -> None:
    trits = np.zeros((2 * encoding.rows, 20), np.int8)
    row, column, port = encoding.rows + 2, 13, 8
    trits[row, column] = -1
    data = pack_matrix(trits, port, encoding)
    (at,) = np.flatnonzero(data)
    assert at == (1 * 3 + column // port) * port + column % port
    assert encoding.table[data[at]].tolist() == [-(i == 2) for i in range(encoding.rows)]


def test_descriptor_counts_padded_groups() -> None:
    descriptor = Descriptor(0, rows=11, words=7)
    assert descriptor.groups(Encoding.FIVE) == 3
    assert descriptor.beats(Encoding.TWO) == 21
