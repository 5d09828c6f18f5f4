"""Encoded documents on disk: one memory-mapped Arrow file per split; the same documents give the same bytes.

    input_ids  list<int32>    ids of the document
    labels     list<int32>    the ids of learned positions, IGNORED elsewhere (not shifted, as Hugging Face expects)
    domain     string
    source     string         the conversation that it encodes, such as "Datasets/conversations/linux.json#12"
    learned    int32          number of learned tokens that another token precedes
    bytes      int32          length of the learned text in UTF-8 bytes, for bits per byte
    wordings   list<struct>   other ways to ask: `ids` may stand in place of input_ids[begin:end]

A file consists of record batches of about a megabyte of text, so it is written and read without ever being in memory as
a whole. `datasets.load_dataset("arrow", data_files=...)` and `pandas.read_feather` open it without Theta.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from theta.errors import DataError, reason
from theta.files import flushing, replacing_file
from theta.tokens.wordings import WORDING, Slots, Wording

IGNORED = -100
"""Label of positions that are not learned (PyTorch's default ignore_index)."""

_SCHEMA = pa.schema([
    ("input_ids", pa.list_(pa.int32())),
    ("labels", pa.list_(pa.int32())),
    ("domain", pa.string()),
    ("source", pa.string()),
    ("learned", pa.int32()),
    ("bytes", pa.int32()),
    ("wordings", pa.list_(WORDING)),
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """An encoded conversation, or a part of one."""

    ids: list[int]
    learned: list[bool]
    domain: str
    source: str
    learned_bytes: int
    wordings: Sequence[Wording] = ()


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents laid end to end.

    Attributes:
        ids: int32 [tokens].
        learned: whether each token is learned, bool [tokens].
        lengths: tokens of each document, at least 1, int64 [documents].
        domains, sources: a string for each document.
        learned_bytes: length of the learned text of each document in UTF-8 bytes, int64 [documents].
        wordings: other ways to ask in each document; those of one place follow each other.
    """

    ids: np.ndarray
    learned: np.ndarray
    lengths: np.ndarray
    domains: Sequence[str]
    sources: Sequence[str]
    learned_bytes: np.ndarray
    wordings: Sequence[Sequence[Wording]]

    @classmethod
    def of(cls, documents: Sequence[Document]) -> "Documents":
        """Lay single documents end to end."""
        return cls(
            np.array([i for document in documents for i in document.ids], dtype=np.int32),
            np.array([flag for document in documents for flag in document.learned], dtype=bool),
            np.array([len(document.ids) for document in documents], dtype=np.int64),
            [document.domain for document in documents],
            [document.source for document in documents],
            np.array([document.learned_bytes for document in documents], dtype=np.int64),
            [document.wordings for document in documents],
        )

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[Document]:
        ends = np.cumsum(self.lengths)[:-1]
        ids, learned = np.split(self.ids, ends), np.split(self.learned, ends)
        for place in range(len(self)):
            yield Document(
                ids[place].tolist(),
                learned[place].tolist(),
                self.domains[place],
                self.sources[place],
                int(self.learned_bytes[place]),
                self.wordings[place],
            )

    @property
    def labels(self) -> np.ndarray:
        """The ids of learned tokens, IGNORED elsewhere, int32 [tokens]."""
        return np.where(self.learned, self.ids, np.int32(IGNORED))

    @property
    def learned_counts(self) -> np.ndarray:
        """Learned tokens of each document that another token precedes, int64 [documents]."""
        begins = np.cumsum(self.lengths) - self.lengths
        predicted = self.learned.astype(np.int32)
        predicted[begins] = 0  # no token predicts the first one
        return np.add.reduceat(predicted, begins).astype(np.int64)


def write(path: Path, documents: Iterable[Document]) -> None:
    """Write single documents in order; see `write_batches`."""
    write_batches(path, [Documents.of(list(documents))])


def write_batches(path: Path, batches: Iterable[Documents]) -> None:
    """Write documents in order, a record batch for each of `batches` that has some.

    Raises:
        StorageError: the file cannot be written.
    """
    with (
        replacing_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as out,
        flushing(temporary),  # a gigabyte of text becomes three of tokens, which takes a disk as long as encoding them
    ):
        for documents in batches:
            if len(documents):
                out.write_batch(_record_batch(documents))


def _record_batch(documents: Documents) -> pa.RecordBatch:
    offsets = np.concatenate([[0], np.cumsum(documents.lengths)])
    assert offsets[-1] < 2**31, f"a batch of {offsets[-1]} tokens is too large for Arrow's lists"
    columns = [
        pa.ListArray.from_arrays(_numbers(offsets), _numbers(documents.ids)),
        pa.ListArray.from_arrays(_numbers(offsets), _numbers(documents.labels)),
        _strings(documents.domains),
        _strings(documents.sources),
        _numbers(documents.learned_counts),
        _numbers(documents.learned_bytes),
        _wordings(documents.wordings),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=_SCHEMA)


# pa.array would import pandas, if it is installed, which takes half a second.
def _numbers(values: np.ndarray) -> pa.Array:
    return pa.Array.from_buffers(pa.int32(), len(values), [None, pa.py_buffer(values.astype(np.int32, copy=False))])


def _strings(values: Sequence[str]) -> pa.Array:
    encoded = [value.encode() for value in values]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )


def _wordings(wordings: Sequence[Sequence[Wording]]) -> pa.Array:
    each = [wording for of_document in wordings for wording in of_document]
    begins, ends = (np.array([wording[column] for wording in each], np.int32) for column in (0, 1))
    ids = np.concatenate([np.empty(0, np.int32), *(wording.ids for wording in each)])
    lists = pa.ListArray.from_arrays(_offsets([len(wording.ids) for wording in each]), _numbers(ids))
    structs = pa.StructArray.from_arrays([_numbers(begins), _numbers(ends), lists], fields=list(WORDING))
    return pa.ListArray.from_arrays(_offsets(list(map(len, wordings))), structs)


def _offsets(sizes: Sequence[int]) -> pa.Array:
    return _numbers(np.cumsum([0, *sizes]))


class Strings(Sequence[str]):
    """The strings of an Arrow column; they stay in the file until they are asked for."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        found = self._column[index]
        strings: str | list[str] = found.to_pylist() if isinstance(index, slice) else found.as_py()
        return strings

    def __iter__(self) -> Iterator[str]:
        for chunk in self._column.chunks:
            yield from chunk.to_pylist()


class Store:
    """Read access to the documents of a split, followed by those for rehearsal.

    Files are mapped into memory: a page is read from the disk when it is needed.

    Attributes:
        split_size: number of documents of the split; the documents after it are the base's own, for rehearsal.
        lengths: tokens of each document, int64 [documents].
        learned_counts: learned tokens of each document, int64 [documents]. The first token is not counted, because no
            token predicts it.
        domains, sources: one string for each document.
        learned_bytes: length of the learned text of each document in UTF-8 bytes, int64 [documents].
    """

    @classmethod
    def if_any(cls, path: Path) -> "Store | None":
        """Open a split of what is held back; None if it has no documents, because its fraction is 0.

        Raises:
            DataError: the file is missing or damaged.
        """
        return cls(path) if _table(path).num_rows else None

    def __init__(self, path: Path, rehearsal: Path | None = None, more: Sequence[Path] = ()) -> None:
        """Open a split, followed by the documents of `rehearsal`, if given.

        Args:
            path: the file of the split.
            rehearsal: a file of the same format, which may have no documents.
            more: files of the same format that belong to the split too, and may have no documents.

        Raises:
            DataError: a file is missing or damaged, or the split has no documents.
        """
        tables = [_table(each) for each in (path, *more)]
        if tables[0].num_rows == 0:
            raise DataError(f"{path} holds no documents; see metrics/tokenize.json for what was dropped.")
        self.split_size: int = sum(each.num_rows for each in tables)
        table = pa.concat_tables([*tables, *([_table(rehearsal)] if rehearsal else [])])  # views, nothing is copied
        columns = (table.column(name).chunks for name in ("input_ids", "labels"))
        self._batches = [_Batch(ids, labels) for ids, labels in zip(*columns, strict=True)]
        # The place of each batch's first document among all documents.
        self._first = np.cumsum([0, *(len(batch.offsets) - 1 for batch in self._batches)])
        self.lengths = pc.list_value_length(table.column("input_ids")).to_numpy().astype(np.int64)
        self.domains, self.sources = Strings(table.column("domain")), Strings(table.column("source"))
        self.learned_counts = table.column("learned").to_numpy().astype(np.int64)
        self.learned_bytes = table.column("bytes").to_numpy().astype(np.int64)
        self._wordings = table.column("wordings")

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the labels of a document, both int32 [length]."""
        if not 0 <= index < len(self):
            raise IndexError(f"there is no document {index}; there are {len(self)}")
        place = int(np.searchsorted(self._first, index, side="right")) - 1
        batch = self._batches[place]
        begin, end = batch.offsets[index - self._first[place]], batch.offsets[index - self._first[place] + 1]
        return batch.ids[begin:end], batch.labels[begin:end]

    def first_and_last_ids(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last id of each document, both int32 [documents]; this reads the whole file."""
        found = [(batch.ids[batch.offsets[:-1]], batch.ids[batch.offsets[1:] - 1]) for batch in self._batches]
        first, last = map(np.concatenate, zip(*found, strict=True))
        return first, last

    def first_replies(self) -> tuple[np.ndarray, np.ndarray]:
        """Return where the first learned text of each document begins, and its length, int64 [documents]."""
        found = [batch.first_replies() for batch in self._batches]
        begins, lengths = (np.concatenate(column).astype(np.int64) for column in zip(*found, strict=True))
        return begins, lengths

    def slots(self) -> Slots:
        """Return the places that have wordings."""
        return Slots.of(self._wordings)


class _Batch:
    """Views of a record batch: offsets int32 [documents + 1], ids and labels int32 [tokens]."""

    def __init__(self, ids: pa.ListArray, labels: pa.ListArray) -> None:
        self.offsets = ids.offsets.to_numpy()
        self.ids = ids.values.to_numpy()
        self.labels = labels.values.to_numpy()

    def first_replies(self) -> tuple[np.ndarray, np.ndarray]:
        """Where the first run of learned labels begins in each document, and its length, [documents]."""
        place = np.arange(len(self.labels)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        length = np.repeat(np.diff(self.offsets), np.diff(self.offsets))
        learned = self.labels != IGNORED
        begin = np.minimum.reduceat(np.where(learned, place, length), self.offsets[:-1])
        ended = ~learned & (place >= np.repeat(begin, np.diff(self.offsets)))
        end = np.minimum.reduceat(np.where(ended, place, length), self.offsets[:-1])
        return begin, end - begin


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} does not exist; run `dvc repro tokenize` to create it.")
    try:
        table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        table.validate(full=True)  # offsets out of range would read memory outside the file
        if table.column_names != _SCHEMA.names or table.schema != _SCHEMA:
            raise ValueError("its columns are not those of documents")
    except (OSError, ValueError, pa.ArrowException) as fault:
        raise DataError(f"{path} is damaged ({reason(fault)}); run `dvc repro tokenize` to recreate it.") from None
    return table
