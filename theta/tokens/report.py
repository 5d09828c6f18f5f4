"""The figures of metrics/tokenize.json, and the histogram of document lengths."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from theta.tokens.encode import Encoding

TOKENS_PER_BIN = 32


def report(counts: Encoding, max_length: int) -> dict[str, Any]:
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
        "replies_cut": counts.replies_cut,
        "exchanges_dropped": counts.exchanges_dropped,
    }


def histogram(splits: Iterable[Encoding]) -> str:
    """Return CSV with the upper edge of each bin in tokens and the number of documents of all splits in it."""
    bins: Counter[int] = Counter()
    for counts in splits:
        for length, number in counts.lengths.items():
            bins[-(-length // TOKENS_PER_BIN) * TOKENS_PER_BIN] += number
    edges = range(TOKENS_PER_BIN, max(bins, default=0) + 1, TOKENS_PER_BIN)
    return "tokens,documents\n" + "".join(f"{edge},{bins[edge]}\n" for edge in edges)
