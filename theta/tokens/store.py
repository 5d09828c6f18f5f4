"""Encoded documents on disk: one Arrow file a split, memory-mapped, the same bytes for the same documents.

    input_ids  list<int32>    ids of the document
    labels     list<int32>    the same ids where learned, IGNORED elsewhere (not shifted: Hugging Face's way)
    domain     string
    source     string         the conversation it came from, such as "Datasets/conversations/linux.json#12"
    bytes      int32          UTF-8 bytes of the learned text, for bits per byte

`datasets.load_dataset("arrow", data_files=...)` and `pandas.read_feather` open it without Theta.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from theta.errors import DataError
from theta.files import replacing

IGNORED = -100
"""Label of a position that is not learned (PyTorch's default ignore_index)."""

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
    """Write documents in their order."""
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
    with replacing(path) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as out:
        out.write_table(table)


class Store:
    """Read access to a split; documents are copied out of the memory map one at a time.

    Attributes:
        split_size: documents of the split; those after them are the base's own, for rehearsal.
        lengths: tokens of each document, int64 [documents].
        learned_counts: learned labels of each document, not counting the first position, int64 [documents].
        domains, sources: one string for each document.
        learned_bytes: UTF-8 bytes of the learned text of each document, int64 [documents].
    """

    def __init__(self, path: Path, rehearsal: Path | None = None) -> None:
        """Open a split, and behind it the documents of `rehearsal`, of which there may be none."""
        tables = [_table(each) for each in (path, rehearsal) if each]
        self.split_size: int = tables[0].num_rows
        if self.split_size == 0:
            raise DataError(f"{path} holds no document; see metrics/tokenize.json for what was dropped.")
        # Several tables are copied to memory; one stays in its file.
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
        predicted[self._offsets[:-1]] = False  # nothing predicts the first token
        self.learned_counts = np.add.reduceat(predicted.astype(np.int64), self._offsets[:-1])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Ids and labels of a document, both int32 [length]."""
        begin, end = self._offsets[index], self._offsets[index + 1]
        return self._ids[begin:end], self._labels[begin:end]


def _table(path: Path) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} does not exist; `dvc repro tokenize` makes it.")
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
