"""The blocks of a row's documents, one for each program of the attention kernel."""

from collections.abc import Sequence

import numpy as np
import torch

BLOCK = 64
"""Tokens of a block."""


def blocks_of(lengths: Sequence[int]) -> int:
    """Count the blocks of documents of these lengths."""
    return sum(-(-length // BLOCK) for length in lengths)


def block_table(lengths: Sequence[int], blocks: int | None = None) -> torch.Tensor:
    """Return for each block the begin and end of its document and its own begin, int32 [blocks, 3].

    Args:
        lengths: tokens of the documents, laid end to end.
        blocks: entries of the table, the last of which may be empty; None for as many as the documents need.
    """
    counts = np.asarray(lengths)
    ends = counts.cumsum()
    per_document = -(-counts // BLOCK)
    document = np.repeat(np.arange(len(counts)), per_document)
    within = np.arange(len(document)) - np.repeat(per_document.cumsum() - per_document, per_document)
    begins = ends - counts
    table = np.zeros((len(document) if blocks is None else blocks, 3), np.int32)
    table[: len(document)] = np.stack([begins[document], ends[document], begins[document] + BLOCK * within], axis=1)
    return torch.from_numpy(table)
