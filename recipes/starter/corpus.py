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
from theta.corpus import keys

MIN_USES = 3
"""A dictionary's word must occur at least this often in the texts, because nobody asks about rare ones."""


@dataclass
class Earlier:
    """The content of earlier packages."""

    paragraphs: Seen = field(default_factory=Seen)
    conversations: set[tuple[str, ...]] = field(default_factory=set)
    questions: Counter[str] = field(default_factory=Counter)


def write(
    sources: Sequence[Source],
    folder: Path,
    out: Path,
    shipped: frozenset[str],
    processes: int,
    report: Callable[[str], None],
) -> dict[str, figures.Figures]:
    """Write a file for each package, and return the figures of each.

    Args:
        sources: the packages.
        folder: the folder that they were downloaded to.
        out: the folder of the files.
        shipped: keys of the questions that Theta ships.
        processes: number of processes that read packages in parallel.
        report: called with a line of text for each result.
    """
    earlier, vocabulary = Earlier(), figures.vocabulary()
    extracted, written = {}, {}
    for source, found in extract_all(sources, folder, processes):
        extracted[source.name], written[source.name] = (source, found), texts(found, earlier)
        report(f"{source.name}: {len(written[source.name]):,} texts")
    uses = word_counts(item for items in written.values() for item in items)
    by_source = {}
    for name, (source, found) in extracted.items():
        items = written[name] + conversations(found, earlier, shipped, uses)
        files.write_json_lines(out / f"{name}.jsonl", items)
        by_source[name] = figures.of_source(source, items, vocabulary)
        report(f"{name}: {by_source[name]['conversations']:,} conversations")
    return by_source


def extract_all(sources: Sequence[Source], folder: Path, processes: int) -> Iterator[tuple[Source, Extract]]:
    """Yield each package with its extract, in order."""
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


def texts(extracted: Extract, earlier: Earlier) -> list[Item]:
    """Return the pages' new paragraphs, joined into texts."""
    found: list[Item] = []
    for page in extracted.pages:
        new = [paragraph for paragraph in page if earlier.paragraphs.is_new(paragraph)]
        found += [{"domain": "prose", "text": text} for text in prose.texts(new) if len(text) >= prose.SHORTEST_TEXT]
    return found


def conversations(extracted: Extract, earlier: Earlier, shipped: frozenset[str], uses: Mapping[str, int]) -> list[Item]:
    """Return the new conversations whose questions are not in the shipped data.

    Args:
        extracted: the extract of a package.
        earlier: the content of earlier packages; the new conversations are added to it.
        shipped: keys of the questions that Theta ships.
        uses: number of occurrences of each word in the texts; a dictionary's words with fewer than `MIN_USES` are left
            out.
    """
    found: list[Item] = []
    for conversation in extracted.conversations:
        questions = [keys.key(exchange.question) for exchange in conversation.exchanges]
        answers = tuple(keys.key(exchange.answer) for exchange in conversation.exchanges)
        rare = conversation.word and not _is_common(conversation.word, uses)
        if rare or answers in earlier.conversations or not shipped.isdisjoint(questions):
            continue
        if earlier.questions[questions[0]] and conversation.kind != "smalltalk":
            continue
        earlier.conversations.add(answers)
        earlier.questions[questions[0]] += 1
        found.append(_item(conversation))
    return found


def _item(conversation: Conversation) -> Item:
    if len(conversation.exchanges) == 1:
        question, answer = conversation.exchanges[0]
        return {"domain": conversation.kind, "question": question, "answer": answer}
    exchanges = [exchange._asdict() for exchange in conversation.exchanges]
    return {"domain": conversation.kind, "exchanges": exchanges}


def word_counts(items: Iterable[Item]) -> Counter[str]:
    """Count the occurrences of each lower-case word in the texts."""
    counts: Counter[str] = Counter()
    for item in items:
        counts.update(re.findall(r"[a-z]+", str(item["text"]).lower()))
    return counts


def _is_common(word: str, uses: Mapping[str, int]) -> bool:
    """Whether every word of a headword is used often; a phrase of common words counts as common."""
    parts = re.findall(r"[a-z]+", word.lower())
    return all(uses.get(part, 0) >= MIN_USES for part in parts if part not in prose.STOP_WORDS)
