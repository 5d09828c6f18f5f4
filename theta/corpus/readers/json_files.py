"""Files of JSON: JSON Lines, lists, and values one after another -> blocks.

JSON Lines are cut at line ends, all others where structure.py finds the end of a value.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from theta.corpus.items import Item
from theta.corpus.readers import json_values
from theta.corpus.readers.blocks import IsMessage, Named
from theta.corpus.readers.content import CHUNK_BYTES, Content
from theta.corpus.readers.finding import File
from theta.corpus.readers.json_values import Fault
from theta.corpus.readers.structure import Structure
from theta.errors import DataError

VALUE_BYTES_AT_MOST = 256 << 20
"""A single value that is larger is refused: decoded, it would need several times as much memory."""
LINES_TRIED = 20
RESUMPTIONS_AT_MOST = 20
_LINE_OF_A_VALUE = re.compile(rb"\n[ \t]*[\[{]")
_SEPARATORS = json_values.SEPARATORS.encode()
_FILLERS = (b"", b"[", b"]")
"""What is left of a piece without a value: separators, or the brackets of an outermost list."""


@dataclass(frozen=True, slots=True)
class JsonBlock:
    """Values of a JSON file, as bytes."""

    file: File
    content: bytes
    ends: tuple[int, ...] | None
    """Where the pieces end, each of which holds a value; None if each is a line."""
    first: int
    """The number of the first piece: of the line, or of the values so far."""
    line: int
    """The line in which the content begins, counting from 1."""
    column: int
    """The characters of that line before it."""
    is_message: IsMessage
    is_chat: bool = False
    """Whether all values together are the messages of one chat, and so one item."""

    def items(self) -> Iterator[Item]:
        """Yield the items; a piece that holds several values, or a list of them, numbers them as 12.1, 12.2, ..."""
        named = Named(self.file)
        chat: list[Any] = []
        for number, offset, piece in self._pieces():
            entries = list(self._entries(piece, offset))
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

    def _pieces(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield the number, the offset and the bytes of each piece that holds a value."""
        if self.ends is None:
            yield from self._lines()
            return
        begin, number = 0, self.first
        for end in self.ends:
            piece = self.content[begin:end].strip(_SEPARATORS)
            if piece not in _FILLERS:
                yield number, begin, piece
                number += 1
            begin = end

    def _lines(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield each line, and a value that is printed in several lines as one piece, under the number of its first."""
        offset, tries, goes_on_till = 0, 0, 0
        for number, line in enumerate(self.content.split(b"\n"), start=self.first):
            piece = line.strip(_SEPARATORS)
            if piece and offset >= goes_on_till:
                if piece[:1] in b"[{" and piece[-1:] not in b"]}" and tries < LINES_TRIED:
                    tries += 1
                    piece = _value_of_lines(self.content[offset:]) or piece
                    goes_on_till = offset + len(piece)
                yield number, offset, piece
            offset += len(line) + 1

    def _entries(self, piece: bytes, offset: int) -> Iterator[Any]:
        """Yield the values of a piece, and the entries of a list that is a line."""
        try:
            text = piece.decode()
        except UnicodeDecodeError as fault:
            where = self._place(piece, offset, piece[: fault.start].decode("utf-8", "replace"))
            byte = f"byte 0x{piece[fault.start]:02x} is not UTF-8"
            yield Fault(piece.decode("utf-8", "replace"), f"not_utf8: {where}: {byte}", 0)
            return
        for value in json_values.values(text):
            if isinstance(value, Fault):
                where = self._place(piece, offset, text[: value.offset])
                reason, colon, detail = value.why.partition(": ")
                is_placed = reason == "not_json"
                yield Fault(value.text, f"{reason}: {where}: {detail}" if is_placed else reason + colon + detail, 0)
            elif isinstance(value, list) and self.ends is None and not self._is_chat(value):
                yield from value
            else:
                yield value

    def _is_chat(self, values: list[Any]) -> bool:
        return bool(values) and self.is_message(values[0])

    def _place(self, piece: bytes, offset: int, before: str) -> str:
        """Line and column of the character after `before` in a piece that was found at or after `offset`."""
        begin = self.content.index(piece, offset)
        head = self.content[:begin].decode("utf-8", "replace") + before
        line_break = head.rfind("\n")
        column = len(head) - line_break if line_break >= 0 else self.column + len(head) + 1
        return f"line {self.line + head.count(chr(10))}, column {column}"


def _value_of_lines(content: bytes) -> bytes:
    """The first value of a text, if it is followed by the end of a line; empty if it is broken."""
    structure = Structure()
    cuts = structure.cuts(content)
    is_list = content.lstrip(_SEPARATORS).startswith(b"[")
    end = next((cut for cut in cuts if content[cut - 1 : cut] == (b"]" if is_list else b"}")), 0)
    value, following = content[:end].strip(_SEPARATORS), content[end : end + 1]
    return value if following in (b"", b"\n", b"\r") and _is_whole_value(value) else b""


def read(content: Content, is_message: IsMessage) -> Iterator[JsonBlock]:
    """Yield the blocks of a JSON file.

    Raises:
        DataError: its beginning is no JSON, or it ends inside a value.
    """
    head, is_whole, everything = _begin(content.chunks())
    lines = head.split(b"\n")
    complete = lines if is_whole else lines[:-1]
    filled = [line for line in complete if line.strip(_SEPARATORS)][:LINES_TRIED]
    if _are_json_lines(filled, is_whole):
        yield from _lines(content.file, everything, is_message, _first_value(filled[0]))
        return
    if not is_whole or head.lstrip(_SEPARATORS)[:1] in (b"{", b"["):
        yield from _blocks(content.file, _pieces(content.file, everything), is_message)
        return
    for _ in everything:  # raises what follows the head: that the file is empty, or damaged
        pass
    raise _no_json(content.file, head)


def _begin(chunks: Iterator[bytes]) -> tuple[bytes, bool, Iterator[bytes]]:
    """Return the first lines, whether they are all, and an iterator over all chunks."""
    head, is_whole = b"", False

    def after(fault: Exception | None) -> Iterator[bytes]:
        yield head
        if fault:
            raise fault
        yield from chunks

    try:
        while head.count(b"\n") < LINES_TRIED and len(head) < 2 * CHUNK_BYTES and not is_whole:
            chunk = next(chunks, b"")
            head, is_whole = head + chunk, not chunk
    except Exception as fault:  # it comes after what could be read
        return head, True, after(fault)
    return head, is_whole, after(None)


def _are_json_lines(lines: list[bytes], is_whole: bool) -> bool:
    """Whether lines are values by themselves, judged by the first lines."""
    if not lines:
        return False
    first = lines[0].strip(_SEPARATORS)
    if _is_whole_value(lines[0]):
        # A list in a single line is read entry by entry.
        return not (first.startswith(b"[") and len(lines) == 1 and is_whole)
    others = [line for line in lines[1:] if _is_whole_value(line) and not line.rstrip().endswith(b",")]
    if first.startswith((b"{", b"[")):
        is_open = first.endswith((b"[", b"{", b",", b":"))
        return not is_open and len(lines) > 1 and lines[1] in others and lines[1].startswith(b"{")
    return bool(others) and not any(line.strip(_SEPARATORS) in (b"[", b"{") for line in lines)


def _is_whole_value(line: bytes) -> bool:
    found = list(json_values.values(line.decode("utf-8", "replace")))
    return bool(found) and not any(isinstance(each, Fault) and not each.why.startswith("key_twice") for each in found)


def _first_value(text: bytes) -> Any:
    return next(json_values.values(text.decode("utf-8", "replace")), None)


def _no_json(file: File, head: bytes) -> DataError:
    text = head.decode("utf-8", "replace")
    fault = next((each for each in json_values.values(text) if isinstance(each, Fault)), None)
    if fault is None:
        return DataError(f"{file.name} holds no value; remove it, or leave it out with data.exclude.")
    before = text[: fault.offset]
    where = f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"
    what = "it looks like a web page" if text.lstrip()[:1] == "<" else fault.why.partition(": ")[2]
    return DataError(
        f"{file.name}, {where}: neither JSON nor JSON Lines ({what}); correct the file, or leave it out with "
        "data.exclude."
    )


def _lines(file: File, chunks: Iterator[bytes], is_message: IsMessage, first: Any) -> Iterator[JsonBlock]:
    """Cut JSON Lines at line ends."""
    is_chat = is_message(first)
    line, waiting = 1, bytearray()
    for chunk in chunks:
        end = -1 if is_chat else _line_end(chunk)
        if end < 0:
            waiting += chunk
            _check_size(file, waiting, is_chat)
            continue
        content = bytes(waiting) + chunk[: end + 1]
        yield JsonBlock(file, content, None, line, line, 0, is_message)
        line += content.count(b"\n")
        waiting = bytearray(chunk[end + 1 :])
    if waiting:
        yield JsonBlock(file, bytes(waiting), None, line, line, 0, is_message, is_chat)


def _line_end(chunk: bytes) -> int:
    """The last line end after which a value begins; the last line end if there is none."""
    before_a_value = max(chunk.rfind(b"\n{"), chunk.rfind(b"\n["))
    return before_a_value if before_a_value >= 0 else chunk.rfind(b"\n")


def _check_size(file: File, waiting: bytearray, is_chat: bool) -> None:
    if len(waiting) > VALUE_BYTES_AT_MOST:
        what = "the messages of one chat have" if is_chat else "a single value has"
        raise DataError(
            f"{file.name}: {what} more than {VALUE_BYTES_AT_MOST >> 20} MB, or a quote or a bracket is not closed; "
            "store a conversation a line, as JSON Lines."
        )


def _pieces(file: File, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut the content where a value ends that is an entry of an outermost list, or stands by itself.

    Raises:
        DataError: the content ends inside a value.
    """
    structure = Structure()
    rest = yield from _whole_pieces(file, structure, chunks)
    for _ in range(RESUMPTIONS_AT_MOST):
        # A quote too many or too few: all that follows seems to be part of this value, up to the end.
        begin = _next_value(rest) if structure.depth or structure.in_text else 0
        if not begin:
            break
        yield rest[:begin]
        is_list = structure.in_list and structure.depth > 0
        structure = Structure(depth=int(is_list), in_list=is_list)
        rest = yield from _whole_pieces(file, structure, iter([rest[begin:]]))
    if structure.depth or structure.in_text:
        raise _CutOffError(rest)
    yield rest


def _whole_pieces(file: File, structure: Structure, chunks: Iterator[bytes]) -> Generator[bytes, None, bytes]:
    """Yield the pieces that are complete, and return the rest."""
    waiting = bytearray()
    for chunk in chunks:
        begin = 0
        for cut in structure.cuts(chunk):
            yield bytes(waiting) + chunk[begin:cut]
            waiting.clear()
            begin = cut
        waiting += chunk[begin:]
        _check_size(file, waiting, False)
    return bytes(waiting)


def _next_value(rest: bytes) -> int:
    """Where a line begins with a bracket, after a value that is broken before its last line; 0 if there is none."""
    text = rest.decode("utf-8", "replace")
    fault = next((each for each in json_values.values(text) if isinstance(each, Fault)), None)
    if fault is None:
        return 0
    broken = len(text[: fault.offset].encode())
    if b"\n" not in rest[broken:].strip(_SEPARATORS):  # cut off there
        return 0
    found = _LINE_OF_A_VALUE.search(rest, broken)
    return found.start() + 1 if found else 0


class _CutOffError(Exception):
    """The content ends inside of a value."""

    def __init__(self, left: bytes) -> None:
        self.left = left


def _blocks(file: File, pieces: Iterator[bytes], is_message: IsMessage) -> Iterator[JsonBlock]:
    """Join pieces to blocks; a list whose first entry is a message of a chat is a block of its own."""
    place, held = _Place(), list[bytes]()
    held_bytes, is_list, is_chat = 0, False, False

    def block() -> JsonBlock:
        content, ends = b"".join(held), tuple(accumulate(map(len, held)))
        made = JsonBlock(file, content, ends, place.number, place.line, place.column, is_message, is_chat)
        place.advance(content, sum(_is_value(piece) for piece in held))
        held.clear()
        return made

    try:
        for piece in pieces:
            value = piece.strip(_SEPARATORS)
            if is_list and value not in _FILLERS:
                is_list = False
                if is_message(_first_value(value)):
                    yield block()
                    held_bytes, is_chat = 0, True
            is_list = is_list or value == b"["
            held.append(piece)
            held_bytes += len(piece)
            if value == b"]" if is_chat else held_bytes >= CHUNK_BYTES:
                yield block()
                held_bytes, is_chat = 0, False
    except Exception as fault:
        yield block()
        if isinstance(fault, _CutOffError):
            raise _cut_off(file, place, fault.left) from None
        raise
    yield block()


@dataclass(slots=True)
class _Place:
    """Where the next block begins."""

    number: int = 1
    line: int = 1
    column: int = 0

    def advance(self, content: bytes, values: int) -> None:
        self.number += values
        self.line += content.count(b"\n")
        last = content.rfind(b"\n")
        self.column = characters(content[last + 1 :]) + (self.column if last < 0 else 0)


def characters(content: bytes) -> int:
    """The number of characters of UTF-8 text: of the bytes that do not continue a character."""
    return len(content.decode("utf-8", "replace"))


def _is_value(piece: bytes) -> bool:
    return piece.strip(_SEPARATORS) not in _FILLERS


def _cut_off(file: File, place: _Place, left: bytes) -> DataError:
    blank = left[: len(left) - len(left.lstrip(_SEPARATORS))]
    place.advance(blank, 0)
    begins = "the value that begins here" if left.strip(_SEPARATORS) else "a list, whose bracket is not closed"
    return DataError(
        f"{file.name}, line {place.line}, column {place.column + 1}: the file ends inside {begins}; it may be cut off: "
        "complete it, or leave it out with data.exclude."
    )
