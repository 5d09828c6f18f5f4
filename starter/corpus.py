"""All packages -> Datasets/corpus/<package>.jsonl: texts and conversations without duplicates, and their figures."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from starter import dictionaries, packages, prose
from starter.duplicates import Seen
from starter.extract import Conversation, Extract, extract
from starter.sources import Source
from theta.corpus import readers, shapes, splits
from theta.tokens.vocabulary import GPT2_FOLDER, Vocabulary

LEAST_USES = 3
"""A dictionary's word must stand so often in the texts: nobody asks for the others."""

Item = dict[str, Any]


@dataclass
class Met:
    """What earlier packages said."""

    paragraphs: Seen = field(default_factory=Seen)
    conversations: set[tuple[str, ...]] = field(default_factory=set)
    questions: Counter[str] = field(default_factory=Counter)


def extract_all(sources: Sequence[Source], folder: Path, processes: int) -> Iterator[tuple[Source, Extract]]:
    """What each package gives, in their order."""
    verbs = _verbs(sources, folder)
    paths = [packages.find(source, folder) for source in sources]
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from zip(sources, pool.map(partial(extract, verbs=verbs), sources, paths), strict=True)


def _verbs(sources: Sequence[Source], folder: Path) -> frozenset[str]:
    """The verbs of WordNet, if it is among the packages: they turn "Creating" into "create"."""
    contents = (
        content
        for source in sources
        if source.format == "wordnet"
        for _, content in packages.read(packages.find(source, folder), source.files, source.without)
    )
    return frozenset(verb for content in contents for verb in dictionaries.verbs(content.decode("utf-8", "replace")))


def texts(extracted: Extract, met: Met) -> list[Item]:
    """The pages' paragraphs that say something new, joined into texts."""
    found: list[Item] = []
    for page in extracted.pages:
        new = [paragraph for paragraph in page if met.paragraphs.is_new(paragraph)]
        found += [{"domain": "prose", "text": text} for text in prose.texts(new) if len(text) >= prose.SHORTEST_TEXT]
    return found


def conversations(extracted: Extract, met: Met, shipped: frozenset[str], uses: Mapping[str, int]) -> list[Item]:
    """The conversations that say something new and ask nothing that the shipped data ask.

    Args:
        extracted: what a package gives.
        met: what was said before; it is added to.
        shipped: keys of the questions that Theta ships.
        uses: how often each word stands in the texts; a dictionary's words rarer than `LEAST_USES` are left out.
    """
    found: list[Item] = []
    for conversation in extracted.conversations:
        questions = [splits.key(exchange.question) for exchange in conversation.exchanges]
        answers = tuple(splits.key(exchange.answer) for exchange in conversation.exchanges)
        rare = conversation.word and not _is_common(conversation.word, uses)
        if rare or answers in met.conversations or not shipped.isdisjoint(questions):
            continue
        if met.questions[questions[0]] and conversation.kind != "smalltalk":
            continue
        met.conversations.add(answers)
        met.questions[questions[0]] += 1
        found.append(_item(conversation))
    return found


def _item(conversation: Conversation) -> Item:
    if len(conversation.exchanges) == 1:
        question, answer = conversation.exchanges[0]
        return {"domain": conversation.kind, "question": question, "answer": answer}
    exchanges = [exchange._asdict() for exchange in conversation.exchanges]
    return {"domain": conversation.kind, "exchanges": exchanges}


def word_counts(items: Iterable[Item]) -> Counter[str]:
    """How often each word stands in the texts, in lower case."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(re.findall(r"[a-z]+", str(item["text"]).lower()))
    return counts


def _is_common(word: str, uses: Mapping[str, int]) -> bool:
    """Whether each word of a headword is used; a phrase of common words is common enough."""
    parts = re.findall(r"[a-z]+", word.lower())
    return all(uses.get(part, 0) >= LEAST_USES for part in parts if part not in prose.STOP_WORDS)


def shipped_questions(path: Path) -> frozenset[str]:
    """Keys of every question in a folder of conversations."""
    shaped = (
        shapes.read(item.value, item.source, item.domain)
        for file in readers.find(path, [])
        for item in readers.read(file)
    )
    return frozenset(
        splits.key(message.content)
        for each in shaped
        if isinstance(each, shapes.Shaped)
        for message in each.conversation.messages
        if message.role == "user"
    )


def figures(source: Source, items: Sequence[Item], vocabulary: Vocabulary) -> dict[str, Any]:
    """Sizes of what a package gave; tokens are those of GPT-2, without the special ones."""
    written = [item["text"] for item in items if "text" in item]
    told = [text for item in items if "text" not in item for text in _told(item)]
    return {
        "licence": source.licence,
        "copyleft": source.copyleft,
        "texts": len(written),
        "text_megabytes": round(sum(map(len, written)) / 1e6, 2),
        "text_tokens": _tokens(written, vocabulary),
        "conversations": len(items) - len(written),
        "conversation_megabytes": round(sum(map(len, told)) / 1e6, 2),
        "conversation_tokens": _tokens(told, vocabulary),
    }


def _told(item: Item) -> Iterator[str]:
    for exchange in item.get("exchanges", [item]):
        yield from (exchange["question"], exchange["answer"])


def _tokens(written: Sequence[str], vocabulary: Vocabulary) -> int:
    encoded = vocabulary.tokenizer.encode_batch_fast(list(written), add_special_tokens=False)
    return sum(len(each.ids) for each in encoded)


def total(by_source: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Sums over all sources, over the permissive ones and over the copyleft ones."""
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
    """The shipped vocabulary of GPT-2."""
    return Vocabulary.from_base(GPT2_FOLDER)
