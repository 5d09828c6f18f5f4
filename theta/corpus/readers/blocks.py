"""What a reader yields, and how items of a file are named."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from theta.corpus.items import Item
from theta.corpus.readers.content import CHUNK_BYTES
from theta.corpus.readers.finding import File

IsMessage = Callable[[Any], bool]
"""Whether a value is one message of a chat, so that a list of such values is one conversation. It must be a function of
a module, so that a block can be sent to another process."""


class Block(Protocol):
    """A piece of one file, about as large as content.CHUNK_BYTES, that another process can decode."""

    @property
    def file(self) -> File:
        """The file that it is from."""
        ...

    def items(self) -> Iterator[Item]:
        """Decode it. What cannot be decoded is an item with the reason in `broken`; nothing is raised."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """Makes the items of a file."""

    file: File

    def item(self, number: int | str, value: Any) -> Item:
        """Return an item of the file."""
        return Item(value, f"{self.file.name}#{number}", self.file.domain)

    def broken(self, number: int | str, text: Any, why: str) -> Item:
        """Return an item that could not be read."""
        return Item(text, f"{self.file.name}#{number}", self.file.domain, why)


T = TypeVar("T")


def grouped(parts: Iterable[T], bytes_of: Callable[[T], int], *, together: bool = False) -> Iterator[list[T]]:
    """Yield lists of parts that have about CHUNK_BYTES each, or one list of all.

    If `parts` raises an error, what came before it is yielded first.
    """
    group: list[T] = []
    group_bytes = 0
    try:
        for part in parts:
            group.append(part)
            group_bytes += bytes_of(part)
            if group_bytes >= CHUNK_BYTES and not together:
                yield group
                group, group_bytes = [], 0
    except Exception:
        if group:
            yield group
        raise
    if group:
        yield group


def never(_: Any) -> bool:
    """Take no value for a message: each is an item of its own."""
    return False
