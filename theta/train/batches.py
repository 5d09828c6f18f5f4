"""Which documents each step sees, and how a step is cut into rows.

The whole order is known before the first step, so resuming is an index.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapreplace
from itertools import count

import numpy as np

AHEAD = 1.5
"""Steps' worth of tokens that a step's documents are taken from. One leaves half a document of each step empty."""


def steps_of(
    lengths: Sequence[int],
    *,
    tokens_per_step: int,
    epochs: int,
    seed: int,
    rehearsal_lengths: Sequence[int] = (),
    rehearsal_share: float = 0.0,
) -> list[list[int]]:
    """The documents of each step: shuffled anew each epoch; one that does not fit any more begins the next step.

    An epoch has all documents, and among them the next ones for rehearsal, whose indices follow.

    Steps run on over the border of an epoch, so only the last ones may be small. They do not depend on how a step
    is cut into microbatches.

    Args:
        lengths: tokens of each document; none above `tokens_per_step`.
        rehearsal_lengths: the same of each document for rehearsal.
        rehearsal_share: tokens of rehearsal for each of `lengths`.
    """
    own, lengths = range(len(lengths)), [*lengths, *rehearsal_lengths]
    tokens_per_slice = rehearsal_share * sum(int(lengths[document]) for document in own)
    slices = rehearsal_slices(rehearsal_lengths, tokens_per_slice, seed)
    steps: list[list[int]] = []
    waiting: list[int] = []
    tokens = 0
    for epoch in range(epochs):
        documents = [*own, *(len(own) + document for document in next(slices))]
        for document in np.random.default_rng([seed, epoch]).permutation(documents).tolist():
            waiting.append(document)
            tokens += int(lengths[document])
            if tokens >= AHEAD * tokens_per_step:
                step, waiting = _filled(waiting, lengths, tokens_per_step)
                steps.append(step)
                tokens -= sum(int(lengths[member]) for member in step)
    while waiting:
        step, waiting = _filled(waiting, lengths, tokens_per_step)
        steps.append(step)
    return steps


def rehearsal_slices(lengths: Sequence[int], tokens_per_slice: float, seed: int) -> Iterator[list[int]]:
    """Without end the next documents, so many tokens of them but for a part of a document; all before any again."""
    order = _rounds(len(lengths), seed)
    due, taken = 0.0, 0
    while True:
        due += tokens_per_slice if len(lengths) else 0
        documents = []
        while taken < due:
            documents.append(next(order))
            taken += int(lengths[documents[-1]])
        yield documents


def _rounds(documents: int, seed: int) -> Iterator[int]:
    """All documents in an order drawn by the seed, then all in another order, without end."""
    for each in count():
        # The third number keeps this apart from the orders of the epochs.
        yield from np.random.default_rng([seed, each, 1]).permutation(documents).tolist()


def _filled(waiting: Iterable[int], lengths: Sequence[int], room: int) -> tuple[list[int], list[int]]:
    """The first documents that fit, and the others."""
    step: list[int] = []
    others: list[int] = []
    for document in waiting:
        if (length := int(lengths[document])) <= room:
            step.append(document)
            room -= length
        else:
            others.append(document)
    return step, others


def rows_of(
    documents: Sequence[int], lengths: Sequence[int], tokens_per_row: int, multiple: int = 1
) -> list[list[int]]:
    """Documents into as few rows of at most `tokens_per_row` tokens as will do, of nearly equal length.

    A compiled model sees rows of one length only, so the longest of them is what each costs.

    Args:
        documents: indices into `lengths`.
        lengths: tokens of each document; none above `tokens_per_row`.
        multiple: of how many the number of rows is; the last ones may be empty.
    """
    longest_first = sorted(documents, key=lambda document: (-lengths[document], document))
    tokens = sum(int(lengths[document]) for document in documents)
    rows = -(-tokens // (tokens_per_row * multiple)) * multiple
    while (placed := _balanced(longest_first, lengths, rows))[0] > tokens_per_row:
        rows += multiple
    return placed[1]


def _balanced(longest_first: Iterable[int], lengths: Sequence[int], rows: int) -> tuple[int, list[list[int]]]:
    """Each document into the row that is shortest so far; with the length of the longest row."""
    filled: list[tuple[int, int]] = [(0, row) for row in range(rows)]
    placed: list[list[int]] = [[] for _ in range(rows)]
    for document in longest_first:
        tokens, row = filled[0]
        placed[row].append(document)
        heapreplace(filled, (tokens + int(lengths[document]), row))
    return max(filled)[0], placed
