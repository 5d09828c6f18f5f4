"""Which samples each step sees, and how a step is cut into rows.

The whole order is known before the first step, so resuming is an index.
"""

from collections.abc import Iterable, Iterator, Sequence
from heapq import heapreplace
from itertools import count

import numpy as np

AHEAD = 1.5
"""A step's samples are chosen from this many steps' worth of tokens. With 1, each step lacks half a sample."""


def steps_of(
    epochs: Sequence[Sequence[int]],
    lengths: Sequence[int] | np.ndarray,
    *,
    tokens_per_step: int,
    seed: int,
    rehearsal: Sequence[int] = (),
    rehearsal_share: float = 0.0,
) -> list[list[int]]:
    """Return the samples of each step, shuffled anew each epoch; one that no longer fits begins the next step.

    An epoch contains its samples and the next ones for rehearsal. A step may cross the border between two epochs, so
    only the last steps can be small. Steps do not depend on how they are cut into microbatches.

    Args:
        epochs: the samples of each epoch, as indices into `lengths`.
        lengths: tokens of each sample; none above `tokens_per_step`.
        rehearsal: the samples for rehearsal.
        rehearsal_share: tokens of rehearsal per token of the others.
    """
    own_tokens = sum(int(lengths[sample]) for samples in epochs for sample in samples)
    tokens_per_slice = rehearsal_share * own_tokens / len(epochs)
    slices = rehearsal_slices([lengths[sample] for sample in rehearsal], tokens_per_slice, seed)
    steps: list[list[int]] = []
    waiting: list[int] = []
    tokens = 0
    for epoch, own in enumerate(epochs):
        samples = [*own, *(rehearsal[place] for place in next(slices))]
        for sample in np.random.default_rng([seed, epoch]).permutation(samples).tolist():
            waiting.append(sample)
            tokens += int(lengths[sample])
            if tokens >= AHEAD * tokens_per_step:
                step, waiting = _filled(waiting, lengths, tokens_per_step)
                steps.append(step)
                tokens -= sum(int(lengths[member]) for member in step)
    while waiting:
        step, waiting = _filled(waiting, lengths, tokens_per_step)
        steps.append(step)
    return steps


def rehearsal_slices(lengths: Sequence[int] | np.ndarray, tokens_per_slice: float, seed: int) -> Iterator[list[int]]:
    """Yield slices of about `tokens_per_slice` tokens without end; all documents are used before any recurs."""
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
    """Yield all documents in an order drawn by the seed, then all in another order, without end."""
    for each in count():
        # The third number makes these orders differ from those of the epochs.
        yield from np.random.default_rng([seed, each, 1]).permutation(documents).tolist()


def _filled(waiting: Iterable[int], lengths: Sequence[int] | np.ndarray, room: int) -> tuple[list[int], list[int]]:
    """Return the first documents that fit, and the others."""
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
    documents: Sequence[int], lengths: Sequence[int] | np.ndarray, tokens_per_row: int, multiple: int = 1
) -> list[list[int]]:
    """Distribute documents over as few rows of at most `tokens_per_row` tokens as possible, of nearly equal length.

    Rows of a compiled model are padded to the longest of them, so that length is what each row costs.

    Args:
        documents: indices into `lengths`.
        lengths: tokens of each document; none above `tokens_per_row`.
        multiple: the number of rows is a multiple of this; the last rows may be empty.
    """
    longest_first = sorted(documents, key=lambda document: (-lengths[document], document))
    tokens = sum(int(lengths[document]) for document in documents)
    rows = -(-tokens // (tokens_per_row * multiple)) * multiple
    while (placed := _balanced(longest_first, lengths, rows))[0] > tokens_per_row:
        rows += multiple
    return placed[1]


def _balanced(
    longest_first: Iterable[int], lengths: Sequence[int] | np.ndarray, rows: int
) -> tuple[int, list[list[int]]]:
    """Put each document into the row that is shortest so far; return the length of the longest row, and the rows."""
    filled: list[tuple[int, int]] = [(0, row) for row in range(rows)]
    placed: list[list[int]] = [[] for _ in range(rows)]
    for document in longest_first:
        tokens, row = filled[0]
        placed[row].append(document)
        heapreplace(filled, (tokens + int(lengths[document]), row))
    return max(filled)[0], placed
