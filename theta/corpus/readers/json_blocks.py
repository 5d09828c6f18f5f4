"""A block of a JSON file -> items: values one after another, and what is no JSON with its line and column."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from theta.corpus.items import Item
from theta.corpus.readers import json_repairs, json_values
from theta.corpus.readers.blocks import IsMessage, Named
from theta.corpus.readers.finding import File
from theta.corpus.readers.json_values import NOT_JSON, Fault
from theta.corpus.readers.structure import Structure

SEPARATORS = json_values.SEPARATORS.encode()
FILLERS = (b"", b"[", b"]")
"""What is left of a piece without a value: separators, or the brackets of an outermost list."""
FAULTS_AT_MOST = 100
"""In a piece with more faults, the rest is one broken item."""
JOINED_AT_MOST = 20
"""How many values that are printed in several lines are tried for in a block of JSON Lines that is otherwise broken."""


@dataclass(slots=True)
class Place:
    """A place in a file."""

    line: int = 1
    column: int = 0
    """The characters of the line before it."""

    def advance(self, content: bytes) -> None:
        """Go on by these bytes."""
        self.line += content.count(b"\n")
        last = content.rfind(b"\n")
        self.column = len(content[last + 1 :].decode("utf-8", "replace")) + (self.column if last < 0 else 0)

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column + 1}"


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """Values of a JSON file, as bytes."""

    file: File
    content: bytes
    ends: tuple[int, ...] | None
    """Where the pieces end, each of which holds a value; None if each is a line."""
    first: int
    """The number of the first piece: of the line, or of the values so far."""
    begin: Place
    """Where the content begins."""
    is_message: IsMessage
    is_chat: bool = False
    """Whether all values together are the messages of one chat, and so one item."""

    def items(self) -> Iterator[Item]:
        """Yield the items; a piece that holds several values, or a list of them, numbers them as 12.1, 12.2, ..."""
        named, places = Named(self.file), _Places(self.content, self.begin)
        chat: list[Any] = []
        for number, offset, piece in self._lines() if self.ends is None else self._pieces(self.ends):
            value = json_values.only(piece)
            entries = [value] if value is not None else list(self._entries(piece, offset, places))
            for rank, entry in enumerate(entries, start=1):
                label = number if len(entries) == 1 else f"{number}.{rank}"
                if isinstance(entry, Fault):
                    yield named.broken(label, entry.text, entry.why)
                elif self.is_chat:
                    chat.append(entry)
                else:
                    yield named.item(label, entry)
        if chat:
            yield named.item(self.first, chat)

    def _pieces(self, ends: tuple[int, ...]) -> Iterator[tuple[int, int, bytes]]:
        """Yield the number, the offset and the bytes of each piece that holds a value."""
        begin, number = 0, self.first
        for end in ends:
            piece = self.content[begin:end]
            if piece.strip(SEPARATORS) not in FILLERS:
                yield number, begin, piece
                number += 1
            begin = end

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield each line, and a value that is printed in several lines as one piece, under the number of its first."""
        offset, joined, goes_on_till = 0, 0, 0
        for number, line in enumerate(self.content.split(b"\n"), start=self.first):
            value = line.strip(SEPARATORS)
            if value and offset >= goes_on_till:
                length = 0
                if value[:1] in b"[{" and value[-1:] not in b"]}" and joined < JOINED_AT_MOST:
                    joined += 1
                    length = _length_of_value(self.content[offset:])
                    goes_on_till = offset + length
                yield number, offset, self.content[offset:goes_on_till] if length else line
            offset += len(line) + 1

    def _entries(self, piece: bytes, offset: int, places: "_Places") -> Iterator[Any]:
        """Yield the values of a piece, the entries of a list that is a line, and faults with their places."""
        faults = 0
        while piece:
            lead = len(piece) - len(piece.lstrip(SEPARATORS))
            try:
                text = piece[lead:].rstrip(SEPARATORS).decode()
            except UnicodeDecodeError as fault:
                at = lead + fault.start
                why = f"not_utf8: {places.at(offset + at)}: byte 0x{piece[at]:02x} is not UTF-8"
                yield Fault(piece[lead:].decode("utf-8", "replace").rstrip(json_values.SEPARATORS), why)
                return
            end = len(piece)
            for value in json_values.values(text):
                if isinstance(value, Fault) and value.why.startswith(NOT_JSON):
                    faults += 1
                    end = (next_value(piece, value) if faults < FAULTS_AT_MOST else 0) or end
                    broken = piece[lead:end].rstrip(SEPARATORS).decode()[value.begin :]
                    if (meant := json_repairs.values(broken)) is not None:
                        yield from meant
                        continue
                    where = places.at(offset + lead + len(text[: value.offset].encode()))
                    yield Fault(broken, f"{NOT_JSON}{where}: {value.why.removeprefix(NOT_JSON)}")
                elif isinstance(value, list) and self.ends is None and not self._is_chat(value):
                    yield from value
                else:
                    yield value
            piece, offset = piece[end:], offset + end

    def _is_chat(self, values: list[Any]) -> bool:
        return bool(values) and self.is_message(values[0])


class _Places:
    """Lines and columns in a content, the next of which is quickly found if it is behind the last."""

    def __init__(self, content: bytes, begin: Place) -> None:
        self._content, self._begin = content, begin
        self._offset, self._place = 0, replace(begin)

    def at(self, offset: int) -> Place:
        """Return the place of the byte at an offset."""
        if offset < self._offset:
            self._offset, self._place = 0, replace(self._begin)
        self._place.advance(self._content[self._offset : offset])
        self._offset = offset
        return self._place


def is_whole_value(content: bytes) -> bool:
    """Whether a text is values without faults, other than a key that stands twice."""
    found = list(json_values.values(content.decode("utf-8", "replace")))
    return bool(found) and not any(isinstance(each, Fault) and not each.why.startswith("key_twice") for each in found)


def next_value(piece: bytes, fault: Fault) -> int:
    """The offset of the next value after a fault in a piece; 0 if no later line begins as that of the piece does."""
    value = piece.lstrip(SEPARATORS)
    separators = piece[: len(piece) - len(value)]
    indentation = separators.rpartition(b"\n")[2] if b"\n" in separators else b""
    text = value.decode("utf-8", "replace")
    line = text.rfind("\n", fault.begin, fault.offset)  # the fault may be that the next value begins in this line
    before = len(separators) + len(text[: line if line >= 0 else fault.offset].encode())
    found = re.compile(rb"\n" + re.escape(indentation) + rb"[\[{]").search(piece, before)
    return found.start() + 1 if found else 0


def _length_of_value(content: bytes) -> int:
    """The length of the value with which a text begins, if a line ends after it; 0 if it is broken."""
    closer = b"]" if content.lstrip(SEPARATORS).startswith(b"[") else b"}"
    end = next((cut for cut in Structure().cuts(content) if content[cut - 1 : cut] == closer), 0)
    ends_a_line = content[end : end + 2].lstrip(b"\r,")[:1] in (b"", b"\n")
    return end if ends_a_line and is_whole_value(content[:end]) else 0
