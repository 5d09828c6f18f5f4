"""The figures of metrics/tokenize.json, and the histogram of document lengths."""

from collections import Counter
from collections.abc import Iterable
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
    }


def losses(counts: Counts, max_length: int, positions: int) -> str:
    """Return how many conversations lost a reply or the end of one, and which `max_length` would keep more of them.

    Args:
        counts: of all splits together.
        positions: the largest length that the base allows.
    """
    lost, total = counts.needed.total(), counts.conversations
    words = f"{lost:,} of {total:,} conversations lost a reply, or the end of one, to tokenizer.max_length {max_length}"
    kept = {length: total - sum(number for needed, number in counts.needed.items() if needed > length)
            for length in _longer(max_length, positions)}  # fmt: skip
    if not kept or max(kept.values()) == total - lost:
        return f"{words}, and no length up to the base's {positions} positions would keep more"
    # The shortest length that keeps nearly all of what the longest one would.
    enough = next(length for length, number in kept.items() if number - (total - lost) >= ENOUGH * (max(kept.values()) - (total - lost)))
    return f"{words}; {enough} would keep {kept[enough]:,}"


def _longer(max_length: int, positions: int) -> list[int]:
    """The powers of two above `max_length` and below `positions`, and `positions`."""
    powers = (2**exponent for exponent in range(4, positions.bit_length()))
    return [*(power for power in powers if max_length < power < positions), *([positions] if positions > max_length else [])]


def empty_split(split: str, counts: Counts, max_length: int, positions: int) -> str:
    """Return the error about a split without documents."""
    if not counts.conversations:
        return (
            f"Datasets/prepared/{split}.jsonl holds no conversations; add conversations, or raise "
            f"data.{split}_fraction." if split != "train" else
            "Datasets/prepared/train.jsonl holds no conversations; add conversations, or lower data.validation_fraction."
        )
    return f"The {split} split would be empty: {losses(counts, max_length, positions)}. Raise it, or shorten the questions."


def histogram(splits: Iterable[Counts]) -> str:
    """Return CSV with the upper edge of each bin in tokens and the number of documents of all splits in it."""
    bins: Counter[int] = Counter()
    for counts in splits:
        for length, number in counts.lengths.items():
            bins[-(-length // TOKENS_PER_BIN) * TOKENS_PER_BIN] += number
    edges = range(TOKENS_PER_BIN, max(bins, default=0) + 1, TOKENS_PER_BIN)
    return "tokens,documents\n" + "".join(f"{edge},{bins[edge]}\n" for edge in edges)
