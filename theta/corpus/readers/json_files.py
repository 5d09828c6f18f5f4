"""Files of JSON: JSON Lines, lists, and values one after another -> blocks.

JSON Lines are cut at line ends, all others where structure.py finds the end of a value.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate, chain, islice
from typing import Any

from theta.corpus.readers import json_repairs, json_values
from theta.corpus.readers.blocks import IsMessage
from theta.corpus.readers.content import CHUNK_BYTES, Content
from theta.corpus.readers.finding import File
from theta.corpus.readers.json_blocks import FILLERS, SEPARATORS, JsonBlock, Place, is_whole_value, next_value
from theta.corpus.readers.json_values import NOT_JSON, Fault
from theta.corpus.readers.structure import Structure
from theta.errors import DataError
from theta.files import line_ends

VALUE_BYTES_AT_MOST = 256 << 20
"""A single value that is larger is refused: decoded, it would need several times as much memory."""
LINES_TRIED = 20
RETRIES = 8
"""How many times the bytes of a file may be looked at again because a value seems to have no end."""


def read(content: Content, is_message: IsMessage) -> Iterator[JsonBlock]:
    """Yield the blocks of a JSON file.

    Raises:
        DataError: its beginning is no JSON, or it ends inside a value.
    """
    head, is_whole, everything = _begin(content.chunks())
    if comment := _COMMENT.match(head):
        blank = b"".join(_LINE.findall(comment[0]))  # lines keep their numbers
        head = blank + head[comment.end() :]
        everything = chain([head], islice(everything, 1, None))
    lines = head.split(b"\n")
    complete = lines if is_whole else lines[:-1]
    filled = [line for line in complete if line.strip(SEPARATORS)][:LINES_TRIED]
    if _are_json_lines(filled, is_whole):
        yield from _lines(content.file, everything, is_message, _first_value(filled[0]))
        return
    if not is_whole or head.lstrip(SEPARATORS)[:1] in (b"{", b"["):
        yield from _blocks(content.file, _pieces(everything), is_message)
        return
    for _ in everything:  # raises what follows the head: that the file is empty, or damaged
        pass
    raise _no_json(content.file, head)


_COMMENT = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?://[^\n]*\n\s*|/\*.*?\*/\s*)+", re.DOTALL)
_LINE = re.compile(rb"\n")


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
    first = lines[0].strip(SEPARATORS)
    if is_whole_value(lines[0]):
        # A list in a single line is read entry by entry.
        return not (first.startswith(b"[") and len(lines) == 1 and is_whole)
    others = [line for line in lines[1:] if is_whole_value(line) and not line.rstrip().endswith(b",")]
    if first.startswith((b"{", b"[")):
        is_open = first.endswith((b"[", b"{", b",", b":"))
        return not is_open and len(lines) > 1 and lines[1] in others and lines[1].startswith(b"{")
    return bool(others) and not any(line.strip(SEPARATORS) in (b"[", b"{") for line in lines)


def _first_value(text: bytes) -> Any:
    value = next(json_values.values(text.decode("utf-8", "replace")), None)
    if isinstance(value, Fault) and (meant := json_repairs.values(value.text)):
        return meant[0]
    return value


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
            if len(waiting) > VALUE_BYTES_AT_MOST:
                what = "the messages of one chat have" if is_chat else "it has"
                raise DataError(
                    f"{file.name}, line {line}: {what} more than {VALUE_BYTES_AT_MOST >> 20} MB; divide the file."
                )
            continue
        waiting += memoryview(chunk)[: end + 1]
        yield JsonBlock(file, bytes(waiting), None, line, Place(line), is_message)
        line += line_ends(waiting)
        waiting = bytearray(memoryview(chunk)[end + 1 :])
    if waiting:
        yield JsonBlock(file, bytes(waiting), None, line, Place(line), is_message, is_chat)


def _line_end(chunk: bytes) -> int:
    """The last line end after which a value begins; the last line end if there is none."""
    before_a_value = max(chunk.rfind(b"\n{"), chunk.rfind(b"\n["))
    return before_a_value if before_a_value >= 0 else chunk.rfind(b"\n")


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut the content where a value ends that is an entry of an outermost list, or stands by itself.

    With a quote too many or too few, all that follows seems to be one value. A value that goes on for long, or to the
    end, is therefore tried, and given up if it is broken.

    Raises:
        _OpenError: the content ends inside a value, or the value is too large.
    """
    structure, waiting = Structure(), bytearray()
    patience_bytes = budget_bytes = CHUNK_BYTES
    for chunk in chain(chunks, [_END]):
        budget_bytes += RETRIES * len(chunk)
        yield from _cut(structure, waiting, chunk)
        while structure.is_open and (chunk is _END or len(waiting) > patience_bytes):
            budget_bytes -= len(waiting)
            begin = _next_value_if_broken(bytes(waiting)) if budget_bytes >= 0 else 0
            if not begin:
                patience_bytes *= 2
                break
            rest = bytes(waiting[begin:])
            yield bytes(waiting[:begin])
            waiting.clear()
            structure = structure.resumed()
            patience_bytes = CHUNK_BYTES
            yield from _cut(structure, waiting, rest)
        if len(waiting) > VALUE_BYTES_AT_MOST:
            raise _OpenError(bytes(waiting), f"more than {VALUE_BYTES_AT_MOST >> 20} MB belong to")
    if structure.is_open:
        raise _OpenError(bytes(waiting), "the file ends inside")
    yield bytes(waiting)


_END = b""


def _cut(structure: Structure, waiting: bytearray, chunk: bytes) -> Iterator[bytes]:
    """Yield the pieces that end in a chunk, the first with the bytes that wait for its end; the others wait."""
    begin = 0
    for cut in structure.cuts(chunk):
        yield bytes(waiting) + chunk[begin:cut]
        waiting.clear()
        begin = cut
    waiting += chunk[begin:]


def _next_value_if_broken(piece: bytes) -> int:
    """The same; 0 also if the value is not broken, or in its last line, where it may be cut off."""
    text = piece.lstrip(SEPARATORS).decode("utf-8", "replace")
    fault = next((each for each in json_values.values(text) if isinstance(each, Fault)), None)
    if fault is None or not fault.why.startswith(NOT_JSON) or "\n" not in text[fault.offset :].strip():
        return 0
    return next_value(piece, fault)


class _OpenError(Exception):
    """A value does not end; `left` is where it begins."""

    def __init__(self, left: bytes, why: str) -> None:
        self.left, self.why = left, why


def _blocks(file: File, pieces: Iterator[bytes], is_message: IsMessage) -> Iterator[JsonBlock]:
    """Join pieces to blocks; a list whose first entry is a message of a chat is a block of its own."""
    place, number, held = Place(), 1, list[bytes]()
    held_bytes, is_list, is_chat = 0, False, False

    def block() -> JsonBlock:
        nonlocal number
        content, ends = b"".join(held), tuple(accumulate(map(len, held)))
        made = JsonBlock(file, content, ends, number, replace(place), is_message, is_chat)
        place.advance(content)
        number += sum(piece.strip(SEPARATORS) not in FILLERS for piece in held)
        held.clear()
        return made

    try:
        for piece in pieces:
            value = piece.strip(SEPARATORS)
            if is_list and value not in FILLERS:
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
        if isinstance(fault, _OpenError):
            raise _unclosed(file, place, fault) from None
        raise
    yield block()


def _unclosed(file: File, place: Place, fault: _OpenError) -> DataError:
    value = fault.left.lstrip(SEPARATORS)
    place.advance(fault.left[: len(fault.left) - len(value)])
    what = "the value that begins here" if value else "a list, whose bracket is not closed"
    return DataError(
        f"{file.name}, {place}: {fault.why} {what}; close its quotes and "
        "brackets, store a conversation a line (JSON Lines), or copy the file again if it is cut off."
    )
