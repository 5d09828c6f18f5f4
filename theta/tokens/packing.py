"""Packing of documents into rows."""

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np


def pack(documents: Sequence[int], lengths: Sequence[int] | np.ndarray, tokens_per_row: int) -> list[list[int]]:
    """Pack documents into rows of at most `tokens_per_row` tokens, without splitting any (best-fit decreasing).

    Args:
        documents: the documents to place, as indices into `lengths`.
        lengths: tokens of each document.
        tokens_per_row: must be at least the longest length.

    Returns:
        The documents of each row.
    """
    rows: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (tokens left, row), sorted
    for document in sorted(documents, key=lambda document: (-lengths[document], document)):
        length = int(lengths[document])
        assert length <= tokens_per_row, f"document {document} has {length} tokens, a row {tokens_per_row}"
        place = bisect_left(free, (length, 0))
        if place == len(free):
            rows.append([])
            left, row = tokens_per_row, len(rows) - 1
        else:
            left, row = free.pop(place)
        rows[row].append(document)
        insort(free, (left - length, row))
    return rows
