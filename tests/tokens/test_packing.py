"""Every document is packed once, no row is too long, and little room is left."""

import numpy as np

from theta.tokens.packing import pack


def test_rows_hold_every_document_once_and_are_nearly_full() -> None:
    lengths = np.random.default_rng(0).integers(20, 512, size=500)
    rows = pack(range(500), lengths.tolist(), 2048)
    assert sorted(document for row in rows for document in row) == list(range(500))
    sums = [int(lengths[row].sum()) for row in rows]
    assert max(sums) <= 2048
    assert sum(sums) / (2048 * len(rows)) > 0.98


def test_a_subset_in_any_order_gives_the_same_rows() -> None:
    lengths = [5, 9, 3, 7, 2]
    assert pack([1, 3, 4], lengths, 11) == pack([4, 3, 1], lengths, 11) == [[1, 4], [3]]


def test_one_long_document_fills_a_row() -> None:
    assert pack([0, 1], [10, 10], 10) == [[0], [1]]
