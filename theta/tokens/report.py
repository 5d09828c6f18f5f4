"""The figures of metrics/tokenize.json, and the histogram of document lengths."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from theta.tokens.encode import Counts

TOKENS_PER_BIN = 32

ENOUGH = 0.95
"""The share of the losses that a longer `max_length` could avoid, of which one that is proposed avoids at least so
much."""


def report(counts: Counts, max_length: int) -> dict[str, Any]:
    """Return the figures of one split."""
    documents = sum(counts.lengths.values())
    tokens = sum(length * number for length, number in counts.lengths.items())
    return {
        "conversations": counts.conversations,
        "documents": documents,
        "tokens": tokens,
        "learned_tokens": counts.learned_tokens,
        "longest_document_tokens": max(counts.lengths, default=0),
        "mean_document_tokens": round(tokens / documents, 1) if documents else 0,
        "padding_to_max_length_would_waste": round(1 - tokens / (documents * max_length), 3) if documents else 0,
        "conversations_split": counts.split,
        "conversations_cut": counts.needed.total(),
        "replies_cut": counts.replies_cut,
        "exchanges_dropped": counts.exchanges_dropped,
        "wordings": counts.wordings,
        "wordings_left_out": counts.wordings_left_out,
    }


def together(splits: Iterable[Counts]) -> Counts:
    """Return the figures of several splits together."""
    total = Counts()
    for counts in splits:
        total.add(counts)
    return total


def losses(counts: Counts, max_length: int, positions: int) -> str:
    """Say how many conversations lost a reply or the end of one, and which `max_length` would keep more of them.

    Args:
        counts: of all splits together.
        max_length: with which they were encoded.
        positions: the largest `max_length` that the base allows.
    """
    total, lost = counts.conversations, counts.needed.total()
    words = f"{lost:,} of {total:,} conversations lost a reply, or the end of one, to tokenizer.max_length {max_length}"
    saved = {
        length: sum(number for needed, number in counts.needed.items() if needed <= length)
        for length in _longer(max_length, positions)
    }
    most = max(saved.values(), default=0)
    if not most:
        return f"{words}, and the base's {positions:,} positions are too few for them"
    length = next(length for length, number in saved.items() if number >= ENOUGH * most)
    return f"{words}; {length} would keep {total - lost + saved[length]:,}"


def _longer(max_length: int, positions: int) -> list[int]:
    """Return the powers of two between the two lengths, and `positions` if it is longer."""
    powers = [2**exponent for exponent in range(positions.bit_length())]
    return sorted({length for length in (*powers, positions) if max_length < length <= positions})


def empty_split(path: Path, counts: Counts, max_length: int, positions: int) -> str:
    """Say why a split has no documents.

    Args:
        path: its prepared conversations.
        counts: of the split.
        max_length, positions: see `losses`.
    """
    if not counts.conversations:
        return f"{path} holds no conversations; add some to your data, or change the fractions of the section data."
    if not counts.needed:
        return f"{path} holds no reply that is to be learned; unmark some, or change the fractions of the section data."
    return (
        f"No conversation of {path} is left: {losses(counts, max_length, positions)}. Raise tokenizer.max_length as "
        "far as the base allows, or shorten the questions and system messages of your data."
    )


def histogram(splits: Iterable[Counts]) -> str:
    """Return CSV with the upper edge of each bin in tokens and the number of documents of all splits in it."""
    bins: Counter[int] = Counter()
    for counts in splits:
        for length, number in counts.lengths.items():
            bins[-(-length // TOKENS_PER_BIN) * TOKENS_PER_BIN] += number
    edges = range(TOKENS_PER_BIN, max(bins, default=0) + 1, TOKENS_PER_BIN)
    return "tokens,documents\n" + "".join(f"{edge},{bins[edge]}\n" for edge in edges)
