"""All packages -> Datasets/corpus/written/<package>.jsonl: texts and conversations without duplicates."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from recipes.starter import dictionaries, figures, packages, prose
from recipes.starter.duplicates import Seen
from recipes.starter.extract import Conversation, Extract, extract
from recipes.starter.figures import Item
from recipes.starter.sources import Source
from theta import files
from theta.corpus import splits

LEAST_USES = 3
"""A dictionary's word must stand so often in the texts: nobody asks for the others."""


@dataclass
class Met:
    """What earlier packages said."""

    paragraphs: Seen = field(default_factory=Seen)
    conversations: set[tuple[str, ...]] = field(default_factory=set)
    questions: Counter[str] = field(default_factory=Counter)


def write(
    sources: Sequence[Source],
    folder: Path,
    out: Path,
    shipped: frozenset[str],
    processes: int,
    tell: Callable[[str], None],
) -> dict[str, figures.Figures]:
    """Write a file for each package; the figures of each.

    Args:
        sources: the packages.
        folder: where they were downloaded to.
        out: folder of the files.
        shipped: keys of the questions that Theta ships.
        processes: how many read packages at once.
        tell: is told what was found, a line at a time.
    """
    met, vocabulary = Met(), figures.vocabulary()
    extracted, written = {}, {}
    for source, found in extract_all(sources, folder, processes):
        extracted[source.name], written[source.name] = (source, found), texts(found, met)
        tell(f"{source.name}: {len(written[source.name]):,} texts")
    uses = word_counts(item for items in written.values() for item in items)
    by_source = {}
    for name, (source, found) in extracted.items():
        items = written[name] + conversations(found, met, shipped, uses)
        files.write_json_lines(out / f"{name}.jsonl", items)
        by_source[name] = figures.of_source(source, items, vocabulary)
        tell(f"{name}: {by_source[name]['conversations']:,} conversations")
    return by_source


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
