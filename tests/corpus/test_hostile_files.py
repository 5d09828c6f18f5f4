"""No file stops the readers other than by an error of one line, and nothing in it is lost without a word."""

import json
import pickle
import random
import re
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile import MARK, SQUEEZERS, WRITERS, make, row
from theta.corpus.readers.finding import File
from theta.corpus.readers.reading import read
from theta.errors import DataError

SECONDS_AT_MOST = 5
"""Of the processor. All of these files are small; the limit is for one that hangs."""
COMPRESSED = (b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ")
TEXTS = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".md")


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and "role" in value


def reported(path: Path) -> tuple[list[Any], str]:
    """Read a file as workers do, and return its items and the error."""
    items: list[Any] = []
    try:
        for block in read(File.at(path), is_message):
            items += pickle.loads(pickle.dumps(block)).items()
    except DataError as fault:
        return items, str(fault)
    return items, ""


def check(path: Path, content: bytes) -> None:
    """Write a file, read it, and check what is reported of it."""
    path.write_bytes(content)
    begin = time.process_time()
    items, error = reported(path)
    assert time.process_time() - begin < SECONDS_AT_MOST
    assert error.isprintable()
    assert not error or str(path) in error
    assert len({item.source for item in items}) == len(items)
    for item in items:
        assert item.source.startswith(f"{path}#")
        assert item.broken.isprintable()
        json.dumps([item.value, item.broken], ensure_ascii=False, allow_nan=False).encode()
    if path.suffix in TEXTS and not error and not content.startswith(COMPRESSED):
        found = json.dumps([item.value for item in items], ensure_ascii=False)
        lost = set(MARK.findall(content.decode("utf-8", "replace"))) - set(MARK.findall(found))
        assert not lost - names_of_columns(path, content)


def names_of_columns(path: Path, content: bytes) -> set[str]:
    """The marks in the first line of a table, which name columns."""
    first = re.split(rb"[\r\n]", content)[0] if path.suffix in (".csv", ".tsv") else b""
    return set(MARK.findall(first.decode("utf-8", "replace")))


@pytest.mark.parametrize("first", range(0, 1000, 100))
def test_files_with_faults_of_every_kind(tmp_path: Path, first: int) -> None:
    for seed in range(first, first + 100):
        name, content = make(seed)
        check(tmp_path / name, content)


@pytest.mark.parametrize("ending", WRITERS)
def test_files_that_are_cut_off_at_any_byte(tmp_path: Path, ending: str) -> None:
    random_ = random.Random(ending)
    content = WRITERS[ending]([row(random_, at) for at in range(3)], random_)
    for length in range(len(content) + 1):
        check(tmp_path / f"file.{ending}", content[:length])


@pytest.mark.parametrize("suffix", SQUEEZERS)
def test_compressed_files_that_are_cut_off_at_any_byte(tmp_path: Path, suffix: str) -> None:
    content = SQUEEZERS[suffix](b'{"question": "mark1x", "answer": "a"}\n' * 2)
    for length in range(1, len(content)):
        (tmp_path / "a.jsonl").write_bytes(content[:length])
        assert reported(tmp_path / "a.jsonl")[1], f"nothing is said of {length} of {len(content)} bytes"


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'[{"question": "' + b"x" * 3_000_000,
        b"\\" * 3_000_000,
        b'"\\' * 1_000_000,
        b"," * 3_000_000,
        b"]" * 1_000_000,
        b"{}" * 50_000,
        b"[1," * 10_000 + b"\n" + b"[1,\n" * 10_000,
        b"\n" * 3_000_000,
        b'{"a": ' + b"9" * 1_000_000 + b"}",
        b"\x00" * 1_000_000,
        b'{"a": 1}\n' + b'{"a" "b"}\n' * 10_000,
        b"[" + b'{"a" "b"},\n' * 10_000 + b"]",
        b"[" + b'{"a" "b"},' * 10_000 + b"]",
        b"[" + b'{"a": "b},\n' * 10_000 + b"]",
        b'[{"a": ' + b"{\n" * 10_000 + b"]",
        b'{"a": 1}\n' + b'{"a":\n' * 10_000,
    ],
)
def test_large_files_of_one_thing_do_not_hang(tmp_path: Path, content: bytes) -> None:
    check(tmp_path / "file.json", content)


@pytest.mark.parametrize("content", [b'"' * 1_000_001, b",\n" * 30_000, b'a,"\n' * 30_000, b"\x00" * 1_000_000])
@pytest.mark.parametrize("ending", ["csv", "tsv", "txt"])
def test_large_tables_and_texts_of_one_thing_do_not_hang(tmp_path: Path, content: bytes, ending: str) -> None:
    check(tmp_path / f"file.{ending}", content)
