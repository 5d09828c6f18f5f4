"""CSV and TSV -> blocks of rows, each a dict with the names of the columns as keys."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import Any

from theta.corpus.items import Item
from theta.corpus.readers.blocks import IsMessage, Named, grouped
from theta.corpus.readers.content import CHUNK_BYTES, Content
from theta.corpus.readers.finding import File, shown
from theta.errors import DataError, reason
from theta.text import counted

DELIMITERS = ",;\t|"
RECORDS_TRIED = 20
CELL_CHARACTERS_AT_MOST = 64 << 20
"""A cell that is larger is refused: most likely its quote is never closed."""


@dataclass(frozen=True, slots=True)
class CsvBlock:
    """Rows of a CSV or TSV file."""

    file: File
    columns: tuple[str, ...]
    """Their names, which may be empty."""
    rows: list[list[str]]
    first: int
    """The number of the first row, counting from 1 below the names of the columns."""
    is_chat: bool = False
    """Whether all rows together are the messages of one chat, and so one item."""

    def items(self) -> Iterator[Item]:
        """Yield the rows; one that has more cells than there are columns is broken."""
        named = Named(self.file)
        chat: list[Any] = []
        for number, cells in enumerate(self.rows, start=self.first):
            if why := _why_broken(cells, len(self.columns)):
                yield named.broken(number, ", ".join(cells).encode("utf-8", "replace").decode(), why)
            elif self.is_chat:
                chat.append(_row(self.columns, cells))
            else:
                yield named.item(number, _row(self.columns, cells))
        if chat:
            yield named.item(self.first, chat)


def read(content: Content, is_message: IsMessage) -> Iterator[CsvBlock]:
    """Yield the blocks of a CSV or TSV file; the first record is the names of the columns.

    Raises:
        DataError: it has no rows, or no names of columns but a question and its reply instead; a name stands twice;
            or a quote is not closed.
    """
    csv.field_size_limit(CELL_CHARACTERS_AT_MOST)
    lines = _lines(content)
    head = list(islice(lines, RECORDS_TRIED))
    if head[0].lower().startswith("sep="):  # Excel's way to name the delimiter
        delimiter = head.pop(0)[4:5]
    else:
        delimiter = "\t" if content.kind == "tsv" else _delimiter(head)
    records = _records(content.file, chain(head, lines), delimiter)
    columns = _columns(content.file, next(records, []))
    first = next(records, None)
    if first is None:
        raise DataError(
            f"{content.file.name} has a line with the names of columns and no rows below it; add some, or leave it out "
            "with data.exclude."
        )
    is_chat, number = is_message(_row(columns, first)), 1
    for rows in grouped(chain([first], records), lambda cells: sum(map(len, cells)), together=is_chat):
        yield CsvBlock(content.file, columns, rows, number, is_chat)
        number += len(rows)


def _lines(content: Content) -> Iterator[str]:
    """Yield lines with their ends as they are. Bytes that are not UTF-8 become halves of surrogate pairs."""
    stream = io.BufferedReader(_Chunks(content.chunks()), CHUNK_BYTES)
    return iter(io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline=""))


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks, self._left = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left and (chunk := next(self._chunks, None)) is not None:
            self._left = memoryview(chunk)
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count


def _delimiter(head: list[str]) -> str:
    """The delimiter that divides the first record, and the records after it into as many cells."""

    def fit(delimiter: str) -> tuple[int, int]:
        records = list(islice(csv.reader(head, delimiter=delimiter), RECORDS_TRIED))
        columns = len(records[0]) if records else 0
        return (sum(len(cells) == columns for cells in records), columns) if columns > 1 else (0, 0)

    return max(DELIMITERS, key=fit)  # the first of equals


def _records(file: File, lines: Iterable[str], delimiter: str) -> Iterator[list[str]]:
    """Yield the records that are not blank.

    Raises:
        DataError: a quote is never closed, so that its cell is too large or goes on to the end of the file.
    """
    is_at_end = False

    def until_end() -> Iterator[str]:
        nonlocal is_at_end
        yield from lines
        is_at_end = True

    records, last_line = csv.reader(until_end(), delimiter=delimiter), 0
    try:
        for cells in records:
            if is_at_end:  # the record asked for one more line
                raise csv.Error("a quote is opened and not closed")
            last_line = records.line_num
            if any(cells):
                yield cells
    except csv.Error as fault:
        raise DataError(
            f"{file.name}, line {last_line + 1}: {shown(reason(fault))}; close the quote of this record, or double a "
            "quote that is part of a text."
        ) from None


def _columns(file: File, cells: list[str]) -> tuple[str, ...]:
    names = tuple(cell.encode("utf-8", "replace").decode().strip() for cell in cells)
    if not any(names):
        raise DataError(f"{file.name}: its first record names no columns; write their names in the first line.")
    if len(names) == 2 and names[0].endswith("?") and " " in names[1]:
        raise DataError(
            f"{file.name}: its first line, '{shown(names[0])}', reads like a conversation, not like names of columns; "
            "write the names, such as question,answer, above it."
        )
    if any("\n" in name or "\r" in name for name in names):
        raise DataError(f"{file.name}, line 1: the name of a column has a line end in it; close its quote.")
    check_columns(file, names)
    return names


def check_columns(file: File, names: Iterable[str]) -> None:
    """Refuse a table in which a column stands twice.

    Raises:
        DataError: two names are equal except for case and white space.
    """
    counts = Counter(plain for name in names if (plain := name.strip().lower()))
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{file.name}: the column '{shown(twice)}' stands twice; rename or remove one.")


def _why_broken(cells: list[str], columns: int) -> str:
    if any(cells[columns:]):
        return f"too_many_cells: {len(cells)} in a table of {counted(columns, 'column')}"
    joined = "".join(cells)
    if not joined.isascii():
        try:
            joined.encode()
        except UnicodeEncodeError as fault:
            return f"not_utf8: byte 0x{ord(joined[fault.start]) - 0xDC00:02x} is not UTF-8"
    return ""


def _row(columns: tuple[str, ...], cells: list[str]) -> dict[str, str]:
    row = {}
    for at, (column, cell) in enumerate(zip_longest(columns, cells[: len(columns)], fillvalue=""), start=1):
        if column:
            row[column] = cell
        elif cell and not cell.isdigit():  # not the row numbers that pandas writes
            row[f"column {at}"] = cell
    return row
