"""Files with faults of every kind, made from a seed: each holds marks that must be found again."""

import bz2
import gzip
import io
import json
import lzma
import random
import re
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

MARK = re.compile(r"mark\d+x")
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "big5"]
ODD_TEXTS = ["", " ", "a\nb", "\t", "\x00", "\x1b[31m", "é", "☃", "😀", "\ud800", "\u2028", *'"\\[},#']
ODD_VALUES: list[Any] = [None, True, 0, -1, 1.5, 10**400, [], {}, [[]], [[[]]], "1", float("nan"), float("inf")]
ODD_BYTES = [*(bytes([each]) for each in b"\"\\{}[],:\n\r\x00\xff\x1e'"), b"\xef\xbb\xbf"]
WORDS = [*b"NaN 1e999 - // null \\ud800 \\u12 \xf0\x9f".split(), b"9" * 5000, b"[" * 2000, b'{"a":' * 500]


def make(seed: int) -> tuple[str, bytes]:
    """Return the name and the bytes of a file."""
    random_ = random.Random(seed)
    ending, write = random_.choice(list(WRITERS.items()))
    content = write([row(random_, seed * 10 + at) for at in range(random_.choice((0, 1, 1, 2, 3, 8)))], random_)
    if ending in ("json", "jsonl", "ndjson", "csv", "tsv", "txt", "md"):
        for _ in range(random_.choice((0, 0, 1, 1, 2, 5))):
            content = damaged(content, random_)
        if not random_.randrange(4):
            text = content.decode("utf-8", "replace")
            content = text.encode(random_.choice(ENCODINGS), "replace")
        if not random_.randrange(6):
            suffix, squeeze = random_.choice(list(SQUEEZERS.items()))
            ending, content = f"{ending}.{suffix}", squeeze(content)
    if not random_.randrange(6):
        content = damaged(content, random_)
    if not random_.randrange(12):
        ending = random_.choice([*WRITERS, "jsonl.gz", "csv.zst"])
    return f"file.{ending}", content


def row(random_: random.Random, number: int) -> dict[str, Any]:
    """Return one item with a mark, and sometimes something odd."""
    value: dict[str, Any] = {
        "question": f"mark{number}x {random_.choice(ODD_TEXTS)}",
        "answer": random_.choice(ODD_TEXTS),
    }
    if not random_.randrange(3):
        value[random_.choice(("extra", "answer", " Question ", ""))] = random_.choice(ODD_VALUES)
    return value


def damaged(content: bytes, random_: random.Random) -> bytes:
    """Return the bytes with one fault."""
    at = random_.randrange(len(content) + 1)
    till = min(len(content), at + random_.choice((1, 2, 5, 50)))
    put_in = {
        "cut off": b"",
        "a byte more": random_.choice(ODD_BYTES) + content[at:],
        "another byte": random_.choice(ODD_BYTES) + content[at + 1 :],
        "bytes missing": content[till:],
        "bytes twice": content[at:till] + content[at:],
        "a word more": random_.choice(WORDS) + content[at:],
        "any byte": bytes([random_.randrange(256)]) + content[at + 1 :],
    }
    return content[:at] + random_.choice(list(put_in.values()))


def _json(rows: list[Any], random_: random.Random) -> bytes:
    indent = random_.choice((None, None, 0, 2, "\t"))
    as_written = random_.randrange(2) == 1
    layout = random_.randrange(5)
    write = lambda value: json.dumps(value, indent=indent, ensure_ascii=not as_written)  # noqa: E731
    if layout == 0:
        text = write(rows)
    elif layout == 1:
        text = write({"version": 1, "data": rows})
    elif layout == 2:
        text = random_.choice(("\n", "", "\ufeff", "\x1e", ",\n", "\r\n")).join(map(write, rows))
    elif layout == 3:
        text = write([[each] for each in rows])
    else:
        text = "\n".join(write([each]) for each in rows)
    return text.encode("utf-8", "replace")


def _json_lines(rows: list[Any], random_: random.Random) -> bytes:
    lines = [json.dumps(each, ensure_ascii=bool(random_.randrange(2))) for each in rows]
    return random_.choice(("\n", "\n", "\r\n", "\n\n", "")).join(lines).encode("utf-8", "replace")


def _table(delimiter: str) -> Callable[[list[Any], random.Random], bytes]:
    def write(rows: list[Any], random_: random.Random) -> bytes:
        end = random_.choice(("\n", "\r\n", "\r"))
        quoted = [[_quoted(str(row[key])) for key in ("question", "answer")] for row in rows]
        lines = [delimiter.join(cells) for cells in [["question", "answer"], *quoted]]
        return (end.join(lines) + random_.choice(("", end))).encode("utf-8", "replace")

    return write


def _quoted(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'


def _text(rows: list[Any], random_: random.Random) -> bytes:
    return "\n".join(str(row["question"]) for row in rows).encode("utf-8", "replace")


def _arrow_table(rows: list[Any]) -> pa.Table:
    return pa.table(
        {key: [str(row[key]).encode("utf-8", "replace").decode() for row in rows] for key in ("question", "answer")}
    )


def _parquet(rows: list[Any], random_: random.Random) -> bytes:
    sink = io.BytesIO()
    pq.write_table(_arrow_table(rows), sink, compression=random_.choice(("none", "snappy", "zstd")))
    return sink.getvalue()


def _arrow(rows: list[Any], random_: random.Random) -> bytes:
    sink, table = io.BytesIO(), _arrow_table(rows)
    with random_.choice((pa.ipc.new_file, pa.ipc.new_stream))(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


WRITERS: dict[str, Callable[[list[Any], random.Random], bytes]] = {
    "json": _json,
    "jsonl": _json_lines,
    "ndjson": _json_lines,
    "csv": _table(","),
    "tsv": _table("\t"),
    "txt": _text,
    "md": _text,
    "parquet": _parquet,
    "arrow": _arrow,
}
SQUEEZERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": lambda content: gzip.compress(content, 1),
    "zst": lambda content: zstandard.compress(content, 1),
    "bz2": lambda content: bz2.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
}
