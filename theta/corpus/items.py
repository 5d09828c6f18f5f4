"""What flows through the corpus: raw items in, conversations and rejects out, and notes about both.

file -> Block -> Item -> Conversation or Reject
        readers   shapes
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from theta.conversation.messages import Role


class Number(str):
    """A number of a JSON file as it is written there, so that "1.10" stays "1.10"."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Item:
    """One raw entry of a file; for a broken entry, `value` is its text."""

    value: Any
    source: str
    """The file and the number of the entry, counting from 1; in JSON Lines the number of the line."""
    domain: str
    """The name of the file without its extension: the domain of an item that names none."""
    broken: str = ""
    """Why the entry could not be read; empty if it could."""
    is_file: bool = False
    """Whether it is a text file as a whole, which may hold many conversations."""


@dataclass(frozen=True, slots=True)
class Reject:
    """An item that was dropped."""

    source: str
    reason: str
    """One of a few short names, such as "empty_reply"; metrics count them."""
    detail: str
    """The value that caused it, such as the name of a role; may be empty."""
    item: Any
    """The raw item."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that a line of `Datasets/prepared/rejected.jsonl` holds."""
        reason = f"{self.reason}: {self.detail}" if self.detail else self.reason
        row = {"source": self.source, "reason": reason, "item": self.item}
        # The raw item may contain halves of surrogate pairs, which UTF-8 cannot encode: they are written as "?".
        safe: dict[str, Any] = json.loads(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace"))
        return safe


class Note(NamedTuple):
    """Something to tell the user about the data, counted over all items."""

    kind: str
    """`shape`, `mended`, `unused_key`, `unused_mark`, `speaker`, `chosen`, `not_learned`, `template`, `personal` or
    `redacted`."""
    name: str
    """What was met, such as the name of the mending, of the key or of the speaker."""


@dataclass(slots=True)
class Notes:
    """How often each note was made, and the source of the first item that it was made about.

    Attributes:
        mended: every repair, as source and name; `merge` leaves them out.
    """

    counts: dict[Note, int] = field(default_factory=dict)
    first: dict[Note, str] = field(default_factory=dict)
    mended: list[tuple[str, str]] = field(default_factory=list)

    def add(self, kind: str, name: str, source: str, count: int = 1) -> None:
        """Count a note."""
        self.add_note(Note(kind, name), source, count)
        if kind == "mended":
            self.mended.append((source, name))

    def add_note(self, note: Note, source: str, count: int = 1) -> None:
        """Count a note that exists already."""
        self.counts[note] = self.counts.get(note, 0) + count
        self.first.setdefault(note, source)

    def merge(self, later: "Notes") -> None:
        """Add the notes of later items."""
        for note, count in later.counts.items():
            self.add_note(note, later.first[note], count)

    def of(self, kind: str) -> Iterator[tuple[str, int, str]]:
        """Yield name, count and first source of the notes of one kind, the most frequent first."""
        for note in sorted((n for n in self.counts if n.kind == kind), key=lambda n: (-self.counts[n], n.name)):
            yield note.name, self.counts[note], self.first[note]


@dataclass(frozen=True, slots=True)
class Rules:
    """The settings that say how items are to be understood."""

    fields: Mapping[str, str] = field(default_factory=dict)
    """Other names of keys: from the name in the files to Theta's, such as {"frage": "question"}."""
    roles: Mapping[str, Role] = field(default_factory=dict)
    """Other names of roles, such as {"bing": "assistant"}."""
    speakers: Mapping[str, Role] = field(default_factory=dict)
    """Who is who in exported chats, such as {"Ann": "user", "Bob": "assistant"}."""
    first_speaker: Role = "user"
    """Who speaks first in a list of strings."""
    repair_encoding: bool = False
    """Whether text that was decoded wrongly, such as "cafÃ©", is repaired."""
