"""A downloaded package -> pages of prose and conversations."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from recipes.starter import (
    dictionaries,
    encyclopaedia,
    headings,
    manpages,
    packages,
    pods,
    prose,
    smalltalk,
    vimhelp,
    web,
)
from recipes.starter.blocks import Block
from recipes.starter.sources import Source
from recipes.starter.wording import Exchange

PAGES: dict[str, Callable[[bytes], list[Block]]] = {
    "html": web.blocks,
    "pod": pods.blocks,
    "man": manpages.blocks,
    "vim": vimhelp.blocks,
}
DICTIONARIES: dict[str, Callable[[str], Iterator[tuple[str, Exchange]]]] = {
    "wordnet": dictionaries.wordnet,
    "foldoc": dictionaries.foldoc,
    "jargon": dictionaries.jargon,
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """Exchanges and their kind of conversation."""

    kind: str
    exchanges: list[Exchange]
    word: str = ""
    """The headword that a dictionary defines; empty for other sources."""


@dataclass(slots=True)
class Extract:
    """The prose and conversations of one package."""

    pages: list[list[str]] = field(default_factory=list)
    """Consecutive paragraphs of prose of each page."""
    conversations: list[Conversation] = field(default_factory=list)


def extract(source: Source, path: Path, verbs: frozenset[str]) -> Extract:
    """Extract pages and conversations from a package, in the order of its files.

    Args:
        source: the package's entry in sources.yaml.
        path: the downloaded package.
        verbs: base forms of English verbs.
    """
    found = Extract()
    for name, content in packages.read(path, source.files, source.without):
        if source.format in PAGES:
            page = PAGES[source.format](content)
            found.pages.append(prose.paragraphs(page))
            found.conversations += [
                Conversation(kind, [exchange]) for kind, exchange in headings.exchanges(page, source.subject, verbs)
            ]
        elif source.format in DICTIONARIES:
            found.conversations += _definitions(source.format, content)
        elif source.format == "encyclopaedia":
            _read_articles(content, found)
        else:
            talks = smalltalk.conversations(PurePosixPath(name).stem, content)
            found.conversations += [Conversation("smalltalk", exchanges) for exchanges in talks]
    return found


def _definitions(name: str, content: bytes) -> Iterator[Conversation]:
    for word, exchange in DICTIONARIES[name](content.decode("utf-8", "replace")):
        yield Conversation("definitions", [exchange], word)


def _read_articles(content: bytes, found: Extract) -> None:
    for title, topic, opening in encyclopaedia.articles(content):
        found.pages.append([opening] if prose.is_prose(opening) else [])
        found.conversations += [
            Conversation("encyclopaedia", exchanges) for exchanges in encyclopaedia.conversations(title, topic, opening)
        ]
