"""Numbers on disk: for each of very many things, in order or by key, so that the memory does not grow with them.

A `Table` has a row for each thing and is read a chunk at a time. `Records` find equal keys: they are divided into
tables by the key, and all records of a key are read and sorted together.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

CHUNK_ROWS = 1 << 17
"""As many rows are in memory at once."""

PARTITION_BITS = 4
"""The first bits of a key, which say in which of 16 tables it is."""

RECORDS_AT_ONCE = 1 << 20
"""Of a table with more records, each part of the keys is read by itself."""


class Table:
    """Rows of numbers in a file, in the order in which they are appended.

    Attributes:
        path: the file.
        dtype: the columns.
    """

    def __init__(self, path: Path, columns: Sequence[tuple[Any, ...]]) -> None:
        self.path, self.dtype = path, np.dtype(list(columns))
        self._file = path.open("wb")
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, count: int, **columns: np.ndarray | int) -> None:
        """Add as many rows; each column is an array, or one number for all of them."""
        rows = np.empty(count, self.dtype)
        for name in self.dtype.names or ():
            rows[name] = columns[name]
        self.write(rows)

    def write(self, rows: np.ndarray) -> None:
        """Add rows that have the columns already."""
        self._file.write(rows.tobytes())
        self._count += len(rows)

    def close(self) -> None:
        """Write what is still in memory; nothing can be appended afterwards."""
        self._file.close()

    def remove(self) -> None:
        """Remove the file."""
        self.close()
        self.path.unlink()

    def chunks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield all rows in order, some at a time, and which they are."""
        for part in slices(len(self)):
            begin, count = part.start, part.stop - part.start
            yield part, np.fromfile(self.path, self.dtype, count, offset=begin * self.dtype.itemsize)

    def take(self, places: np.ndarray) -> np.ndarray:
        """Return the rows at some places, in any order; only the pages of the file that hold them are read."""
        order = np.argsort(places, kind="stable")
        ascending = places[order].astype(np.int64)
        rows = np.empty(len(places), self.dtype)
        for part in slices(len(self)):
            begin, end = np.searchsorted(ascending, (part.start, part.stop))
            if begin < end:
                # A map of the whole file would keep in memory whatever was ever read of it.
                shape = (part.stop - part.start,)
                chunk = np.memmap(self.path, self.dtype, "r", part.start * self.dtype.itemsize, shape)
                rows[order[begin:end]] = chunk[ascending[begin:end] - part.start]
        return rows


class Records:
    """Keys with their owners on disk, in 2 ** partition_bits tables."""

    def __init__(self, folder: Path, name: str, partition_bits: int = PARTITION_BITS) -> None:
        self._bits = partition_bits
        columns = (("key", np.uint64), ("owner", np.uint32), ("extra", np.uint64))
        self._tables = [Table(folder / f"{name}.{part}", columns) for part in range(1 << partition_bits)]

    def append(self, keys: np.ndarray, owners: np.ndarray, extra: np.ndarray | int = 0) -> None:
        """Add records: uint64 keys, uint32 owners, and another number."""
        records = np.empty(len(keys), self._tables[0].dtype)
        records["key"], records["owner"], records["extra"] = keys, owners, extra
        part = (keys >> np.uint64(64 - self._bits)).astype(np.uint8)  # numbers of a byte are sorted in linear time
        order = np.argsort(part, kind="stable")
        ends = np.cumsum(np.bincount(part, minlength=len(self._tables))).tolist()
        begin = 0
        for table, end in zip(self._tables, ends, strict=True):
            if end > begin:
                table.write(records[order[begin:end]])
            begin = end

    def close(self) -> None:
        """Write what is still in memory; nothing can be appended afterwards."""
        for table in self._tables:
            table.close()

    def remove(self) -> None:
        """Remove the files."""
        for table in self._tables:
            table.remove()

    def keys(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the keys of the records of members, uint64 [records], a part at a time; the smallest come first."""
        for records in self._parts(members):
            yield records["key"]

    def runs(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield the records of members whose key another record has too, a part at a time, by key and owner.

        Args:
            members: whether a conversation counts, bool [conversations].

        Yields:
            owners uint32 [records], extra uint64 [records], and sizes int64 [runs]: the number of records of each key,
            one key after the other.
        """
        for records in map(_shared, self._parts(members)):
            if len(records):
                keys = records["key"]
                is_new = np.concatenate(([True], keys[1:] != keys[:-1]))
                yield records["owner"], records["extra"], np.diff(np.append(np.flatnonzero(is_new), len(keys)))

    def _parts(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the records of members; all records of a key are in one part, and the smallest keys come first."""
        for table in self._tables:
            bits = (len(table) // RECORDS_AT_ONCE).bit_length()
            for part in range(1 << bits):
                yield self._part(table, bits, part, members)

    def _part(self, table: Table, bits: int, part: int, members: np.ndarray) -> np.ndarray:
        """Return the records of members whose keys go on with the bits of `part` after those that tell the table."""
        found = [np.empty(0, table.dtype)]
        for _, records in table.chunks():
            is_in = members[records["owner"]]
            if bits:
                is_in &= (records["key"] << np.uint64(self._bits)) >> np.uint64(64 - bits) == part
            found.append(records[is_in])
        return np.concatenate(found)


def _shared(records: np.ndarray) -> np.ndarray:
    """Return the records whose key another record has too, by key, owner and extra."""
    # Few are shared as a rule, so all are sorted by key alone, in a fifth of the time of sorting by key and owner.
    order = np.argsort(records["key"])
    keys = records["key"][order]
    is_shared = np.zeros(len(keys), np.bool_)
    is_shared[1:] = keys[1:] == keys[:-1]
    is_shared[:-1] |= is_shared[1:]
    order, keys = order[is_shared], keys[is_shared]
    # The first sort leaves equal keys in an order that differs between processors, so this one leaves none open.
    return records[order[np.lexsort((records["extra"][order], records["owner"][order], keys))]]


def slices(count: int) -> Iterator[slice]:
    """Yield consecutive slices of as many things, each small enough to be in memory."""
    for begin in range(0, count, CHUNK_ROWS):
        yield slice(begin, min(begin + CHUNK_ROWS, count))


def starts(sizes: np.ndarray) -> np.ndarray:
    """Return where each run of these sizes begins."""
    return np.asarray(np.cumsum(sizes) - sizes)
