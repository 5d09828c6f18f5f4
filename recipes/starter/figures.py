"""Sizes of texts and conversations: millions of characters, and tokens of GPT-2 without special tokens."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recipes.starter.sources import Package
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

Item = dict[str, Any]
"""A text or a conversation as a line of JSON."""
Figures = dict[str, Any]

_AT_ONCE = 10_000
"""Number of texts encoded at once: the tokenizer's result is far larger than the text."""


def of_source(package: Package, items: Sequence[Item], vocabulary: Vocabulary) -> Figures:
    """Return the licence of a package and the sizes of its texts and conversations."""
    written = [item["text"] for item in items if "text" in item]
    return {
        "licence": package.licence,
        "copyleft": package.copyleft,
        "texts": len(written),
        "text_megabytes": _megabytes(written),
        "text_tokens": _tokens(written, vocabulary),
        **of_conversations([item for item in items if "text" not in item], vocabulary),
    }


def of_conversations(items: Sequence[Item], vocabulary: Vocabulary) -> Figures:
    """Return the sizes of conversations."""
    texts = [text for item in items for text in _texts(item)]
    return {
        "conversations": len(items),
        "conversation_megabytes": _megabytes(texts),
        "conversation_tokens": _tokens(texts, vocabulary),
    }


def by_domain(items: Sequence[Item], vocabulary: Vocabulary) -> dict[str, Figures]:
    """Return the sizes of the conversations of each domain."""
    domains: dict[str, list[Item]] = {}
    for item in items:
        domains.setdefault(item["domain"], []).append(item)
    return {domain: of_conversations(found, vocabulary) for domain, found in domains.items()}


def total(by_source: Mapping[str, Figures]) -> dict[str, Figures]:
    """Return sums over all sources, the permissive ones and the copyleft ones."""
    names = ("texts", "text_megabytes", "text_tokens", "conversations", "conversation_megabytes", "conversation_tokens")
    groups = {"all": ("yes", "no"), "permissive": ("no",), "copyleft": ("yes",)}
    return {
        group: {
            name: round(sum(each[name] for each in by_source.values() if each["copyleft"] in kinds), 2)
            for name in names
        }
        for group, kinds in groups.items()
    }


def vocabulary() -> Vocabulary:
    """Return the shipped vocabulary of GPT-2."""
    return Vocabulary.from_base(GPT2_FOLDER)


def _texts(item: Item) -> Iterator[str]:
    if "messages" in item:
        yield from (message["content"] for message in item["messages"])
    else:
        for exchange in item.get("exchanges", [item]):
            yield from (exchange["question"], exchange["answer"])


def _megabytes(texts: Sequence[str]) -> float:
    return round(sum(map(len, texts)) / 1e6, 2)


def _tokens(texts: Sequence[str], vocabulary: Vocabulary) -> int:
    batches = (texts[begin : begin + _AT_ONCE] for begin in range(0, len(texts), _AT_ONCE))
    encoded = (vocabulary.tokenizer.encode_batch_fast(list(batch), add_special_tokens=False) for batch in batches)
    return sum(len(each.ids) for batch in encoded for each in batch)
