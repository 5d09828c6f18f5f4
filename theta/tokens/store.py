"""Encoded documents on disk: one memory-mapped Arrow file per split; the same documents give the same bytes.

    input_ids  list<int32>    ids of the document
    labels     list<int32>    the ids of learned positions, IGNORED elsewhere (not shifted, as Hugging Face expects)
    domain     string
    source     string         the conversation that it encodes, such as "Datasets/conversations/linux.json#12"
    bytes      int32          length of the learned text in UTF-8 bytes, for bits per byte

`datasets.load_dataset("arrow", data_files=...)` and `pandas.read_feather` open it without Theta.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from theta.errors import DataError, reason
from theta.files import replacing_file

IGNORED = -100
"""Label of positions that are not learned (PyTorch's default ignore_index)."""

_SCHEMA = pa.schema([
    ("input_ids", pa.list_(pa.int32())),
    ("labels", pa.list_(pa.int32())),
    ("domain", pa.string()),
    ("source", pa.string()),
    ("bytes", pa.int32()),
])  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """An encoded conversation, or a part of one."""

    ids: list[int]
    learned: list[bool]
    domain: str
    source: str
    learned_bytes: int


def write(path: Path, documents: Iterable[Document]) -> None:
    """Write documents in order.

    Raises:
        StorageError: the file cannot be written.
    """
    rows = [
        {
            "input_ids": document.ids,
            "labels": [i if learned else IGNORED for i, learned in zip(document.ids, document.learned, strict=True)],
            "domain": document.domain,
            "source": document.source,
            "bytes": document.learned_bytes,
        }
        for document in documents
    ]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    with (
        replacing_file(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, _SCHEMA) as out,
    ):
        out.write_table(table)


class Store:
    """Read access to the documents of a split, followed by those for rehearsal.

    Attributes:
        split_size: number of documents of the split; the documents after it are the base's own, for rehearsal.
        lengths: tokens of each document, int64 [documents].
        learned_counts: learned tokens of each document, int64 [documents]. The first token is not counted, because no
            token predicts it.
        domains, sources: one string for each document.
        learned_bytes: length of the learned text of each document in UTF-8 bytes, int64 [documents].
    """

    def __init__(self, path: Path, rehearsal: Path | None = None) -> None:
        """Open a split, followed by the documents of `rehearsal`, if given.

        Args:
            path: the file of the split. Without `rehearsal` it stays on disk, and its pages are read when needed.
            rehearsal: a file of the same format, which may have no documents.

        Raises:
            DataError: a file is missing or damaged, or the split has no documents.
        """
        tables = [_table(each) for each in (path, rehearsal) if each]
        self.split_size: int = tables[0].num_rows
        if self.split_size == 0:
            raise DataError(f"{path} holds no documents; see metrics/tokenize.json for what was dropped.")
        # A single table stays in its file; several are copied to memory.
        table = pa.concat_tables(each for each in tables if each.num_rows).combine_chunks()
        ids, labels = (table.column(name).chunk(0) for name in ("input_ids", "labels"))
        self._offsets = ids.offsets.to_numpy()
        self._ids = ids.values.to_numpy()
        self._labels = labels.values.to_numpy()
        self.lengths = np.diff(self._offsets).astype(np.int64)
        self.domains: list[str] = table.column("domain").to_pylist()
        self.sources: list[str] = table.column("source").to_pylist()
        self.learned_bytes = table.column("bytes").to_numpy().astype(np.int64)
        predicted = self._labels != IGNORED
        predicted[self._offsets[:-1]] = False  # no token predicts the first one
        self.learned_counts = np.add.reduceat(predicted.astype(np.int64), self._offsets[:-1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the labels of a document, both int32 [length]."""
        begin, end = self._offsets[index], self._offsets[index + 1]
        return self._ids[begin:end], self._labels[begin:end]


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
