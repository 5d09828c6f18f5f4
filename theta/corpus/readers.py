"""Files of conversations -> raw items, each with its source.

A file is a JSON list, an object with one list, a single conversation, or JSON Lines. Its content decides which of
these it is, not its extension.
"""

import glob
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from theta.corpus import shapes
from theta.errors import DataError

ENDINGS = (".json", ".jsonl")


@dataclass(frozen=True, slots=True)
class Item:
    """One raw entry of a file; for a broken line, `value` is its text."""

    value: Any
    source: str
    """The file and the number of the entry, counting from 1; in JSON Lines the number of the line."""
    domain: str
    """The name of the file without its extension: the domain of an item that names none."""
    broken: bool = False
    """Whether the entry is a line that is not JSON."""


def find(path: Path, include: Sequence[str]) -> list[Path]:
    """Return the files at `path`, sorted by the bytes of their names, without hidden files and other extensions.

    Raises:
        DataError: `path` does not exist or holds no file of conversations, or a pattern matches no file.
    """
    if not path.exists():
        raise DataError(f"{path} does not exist; put conversations there, or correct data.path in params.yaml.")
    root = path.parent if path.is_file() else path
    names = [name for name in _names(path) if name.lower().endswith(ENDINGS) and (root / name).is_file()]
    if not names:
        raise DataError(f"{path} holds no .json or .jsonl file; put one there, or correct data.path in params.yaml.")
    for pattern in include:
        if not any(_matches(name, pattern) for name in names):
            raise DataError(
                f"'{pattern}' matches none of the {len(names)} .json and .jsonl files of {path} (such as {names[0]}); "
                "correct data.include in params.yaml."
            )
    return [root / name for name in names if not include or any(_matches(name, pattern) for pattern in include)]


def read(path: Path) -> Iterator[Item]:
    """Yield the items of one file in order.

    Raises:
        DataError: the file cannot be read or is neither JSON nor JSON Lines.
    """
    text = _text(path)
    try:
        whole = _loads(text)
    except ValueError as fault:
        yield from _lines(path, text, fault)
    else:
        for number, value in enumerate(_entries(path, whole), start=1):
            yield _item(path, number, value)


def _names(path: Path) -> list[str]:
    if path.is_file():
        return [path.name]
    # Unlike Path.rglob, this skips hidden files and follows links to folders.
    names = (Path(name).as_posix() for name in glob.glob("**", root_dir=path, recursive=True))  # noqa: PTH207
    return sorted(names, key=os.fsencode)


def _matches(name: str, pattern: str) -> bool:
    shown = _shown(name)
    return fnmatchcase(shown, pattern) or fnmatchcase(Path(shown).name, pattern)


def _text(path: Path) -> str:
    """Read a file in UTF-8, with or without a byte order mark, or in the UTF-16 or UTF-32 that JSON allows."""
    try:
        content = path.read_bytes()
    except OSError as fault:
        raise DataError(
            f"{path} cannot be read ({fault.strerror}); allow access, or exclude it with data.include."
        ) from None
    try:
        text = content.decode(json.detect_encoding(content))
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        raise DataError(f"{path}, line {line}: not UTF-8 text ({fault.reason}); save the file as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path} is empty; remove it, or exclude it with data.include.")
    return text


def _loads(text: str) -> Any:
    try:
        # Several tools write NaN for a missing value, although JSON does not have it; it is read as null.
        return json.loads(text, parse_constant=lambda _: None)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _entries(path: Path, whole: Any) -> list[Any]:
    """The entries of a file that is one JSON value."""
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict):
        raise DataError(f"{path} holds a single {type(whole).__name__}; it must hold a list of conversations.")
    if shapes.is_conversation(whole):
        return [whole]
    lists = {key: value for key, value in whole.items() if _holds_objects(value)}
    if len(lists) > 1:
        raise DataError(f"{path} holds several lists ({', '.join(lists)}); keep one list of conversations in a file.")
    return next(iter(lists.values()), [whole])


def _holds_objects(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(entry, dict) for entry in value)


def _lines(path: Path, text: str, fault: ValueError) -> Iterator[Item]:
    """The items of a file that is not one JSON value: it is JSON Lines if at least half of its lines are JSON."""
    items = [_line(path, number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    broken = [item for item in items if item.broken]
    if 2 * len(broken) <= len(items):
        return iter(items)
    where = broken[0].source.rpartition("#")[2] if path.suffix.lower() == ".jsonl" else getattr(fault, "lineno", 1)
    raise DataError(
        f"{path}, line {where}: neither JSON nor JSON Lines ({getattr(fault, 'msg', fault)}); "
        "correct the file, or exclude it with data.include."
    )


def _line(path: Path, number: int, line: str) -> Item:
    try:
        value = _loads(line)
    except ValueError:
        value = None
    if isinstance(value, dict | list):
        return _item(path, number, value)
    return _item(path, number, line.strip(), broken=True)


def _item(path: Path, number: int, value: Any, *, broken: bool = False) -> Item:
    return Item(value, f"{_shown(path.as_posix())}#{number}", _shown(path.stem), broken)


def _shown(name: str) -> str:
    """A file name as text, the same under every locale: bytes that are not UTF-8 are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")
