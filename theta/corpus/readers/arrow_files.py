"""Parquet, Arrow and Feather -> blocks of rows, each a dict with the names of the columns as keys."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import chain
from typing import Any

from theta.corpus.items import Item, Number
from theta.corpus.readers.blocks import IsMessage, Named, grouped
from theta.corpus.readers.content import CHUNK_BYTES, Content
from theta.corpus.readers.csv_files import check_columns
from theta.corpus.readers.finding import File, shown
from theta.errors import DataError, reason

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
ROWS_AT_MOST = 65_536
"""In a batch of a Parquet file: the sizes that it states for its columns may be wrong."""


@dataclass(frozen=True, slots=True)
class ArrowBlock:
    """Rows of a Parquet, Arrow or Feather file."""

    file: File
    content: bytes
    """An Arrow stream: pickled, a part of a record batch would bring all of it along."""
    first: int
    is_chat: bool = False
    """Whether all rows together are the messages of one chat, and so one item."""

    def items(self) -> Iterator[Item]:
        """Yield the rows, with every number as text, as in JSON. Binary values are null."""
        import pyarrow as pa

        named = Named(self.file)
        chat, number = list[Any](), self.first
        with pa.ipc.open_stream(self.content) as stream:
            for batch in stream:
                for value, why in _rows(batch):
                    if why:
                        yield named.broken(number, "", why)
                    elif self.is_chat:
                        chat.append(value)
                    else:
                        yield named.item(number, value)
                    number += 1
        if chat:
            yield named.item(self.first, chat)


def read(content: Content, is_message: IsMessage) -> Iterator[ArrowBlock]:
    """Yield the blocks of a Parquet file, or of an Arrow or Feather file of either form.

    Raises:
        DataError: it is damaged, compressed as a whole, or has two columns of one name.
    """
    import pyarrow as pa

    file = content.file
    if content.is_compressed:
        raise DataError(f"{file.name} is a compressed {content.kind} file, which cannot be streamed; decompress it.")
    try:
        batches = _small(file, _batches(content))
        first = next(batches, None)
        if first is None:
            return
        is_chat, number = is_message(next(_rows(first.slice(0, 1)))[0]), 1
        for group in grouped(chain([first], batches), lambda batch: int(batch.nbytes), together=is_chat):
            yield ArrowBlock(file, _stream(group), number, is_chat)
            number += sum(batch.num_rows for batch in group)
    except (pa.ArrowException, OSError, ValueError) as fault:
        raise DataError(
            f"{file.name} is damaged, or no {content.kind} file ({shown(reason(fault))}); copy or download it again."
        ) from None


def _batches(content: Content) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = str(content.file.path)
    if content.kind == "parquet":
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=CHUNK_BYTES) as table:
            row_bytes = sum(table.metadata.row_group(at).total_byte_size for at in range(table.num_row_groups))
            rows = CHUNK_BYTES * table.metadata.num_rows // max(row_bytes, 1)
            yield from table.iter_batches(batch_size=min(max(rows, 1), ROWS_AT_MOST))
    elif content.kind == "arrow":
        with pa.memory_map(path) as file, pa.ipc.open_file(file) as table:
            for at in range(table.num_record_batches):
                yield table.get_batch(at)
    else:
        with pa.memory_map(path) as file, pa.ipc.open_stream(file) as table:
            yield from table
            # Without its end marker, a stream that is cut off between two batches seems to be complete.
            is_at_end = file.tell() == file.size()
            file.seek(max(0, file.size() - len(_END_OF_STREAM)))
            if not is_at_end or file.read() != _END_OF_STREAM:
                raise pa.ArrowInvalid("it ends before its end marker")


def _small(file: File, batches: Iterator[Any]) -> Iterator[Any]:
    """Check batches, without which damaged ones could be read outside of their memory, and cut large ones."""
    is_first = True
    for batch in batches:
        batch.validate(full=True)
        if is_first:
            check_columns(file, batch.schema.names)
            is_first = False
        rows = max(1, batch.num_rows * CHUNK_BYTES // max(batch.nbytes, 1))
        for begin in range(0, batch.num_rows, rows):
            yield batch.slice(begin, rows)


def _stream(batches: list[Any]) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return bytes(sink.getvalue())


def _rows(batch: Any) -> Iterator[tuple[Any, str]]:
    """Yield each row, or the reason why it cannot be read."""
    try:
        yield from [(_plain(row), "") for row in batch.to_pylist()]
    except (ValueError, OverflowError) as fault:  # such as a date in the year 20,000
        if batch.num_rows == 1:
            yield None, f"not_readable: {shown(reason(fault))}"
        else:
            for at in range(batch.num_rows):
                yield from _rows(batch.slice(at, 1))


def _plain(value: Any) -> Any:
    """Return a value of Arrow as JSON has it."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        is_map = bool(value) and isinstance(value[0], tuple)
        return _mapping(value) if is_map else [_plain(inner) for inner in value]
    if isinstance(value, float):
        return Number(repr(value)) if math.isfinite(value) else None
    if isinstance(value, int | Decimal):
        return Number(value)
    return None if isinstance(value, bytes) else str(value)  # dates, times, durations


def _mapping(pairs: list[tuple[Any, Any]]) -> Any:
    plain = [(str(key), _plain(inner)) for key, inner in pairs]
    return dict(plain) if len(dict(plain)) == len(plain) else tuple(plain)
