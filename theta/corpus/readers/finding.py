"""A path -> the files of conversations there, and the files that are passed over, each with the reason."""

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

from theta.errors import DataError
from theta.text import counted

COMPRESSIONS = (".gz", ".zst", ".zstd", ".bz2", ".xz")
JSON_ENDINGS = (".json", ".jsonl", ".ndjson")
TABLE_ENDINGS = (".csv", ".tsv", ".parquet", ".arrow", ".feather")
TEXT_ENDINGS = (".txt", ".md")
ENDINGS = (*JSON_ENDINGS, *TABLE_ENDINGS, *TEXT_ENDINGS)
"""What is read; any of them may also end in one of COMPRESSIONS."""

ABOUT_THE_DATA = re.compile(
    r"(readme|licen[cs]e|copying|notice|changelog|contributing|citation|authors|security|code_of_conduct)\b.*", re.I
)
"""Names of texts that stand beside data. They are no texts to learn, unless data.path names one itself."""

ABOUT_DATA = "a text about the data"
"""Why such a text is passed over."""

CONTAINERS = {
    ".zip": "a zip archive; unpack it",
    ".tar": "a tar archive; unpack it",
    ".tgz": "a tar archive; unpack it",
    ".7z": "a 7z archive; unpack it",
    ".xls": "a spreadsheet; save it as .csv",
    ".xlsx": "a spreadsheet; save it as .csv",
    ".ods": "a spreadsheet; save it as .csv",
    ".docx": "a word processor's document; save it as .txt",
    ".doc": "a word processor's document; save it as .txt",
    ".odt": "a word processor's document; save it as .txt",
    ".pdf": "a PDF; save its text as .txt",
    ".html": "a web page; save its text as .txt",
    ".htm": "a web page; save its text as .txt",
}
"""Common files that are not read, with what can be done about them."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to read."""

    path: Path
    name: str
    """How sources and messages name it."""
    domain: str
    """The domain of its items that name none."""

    @classmethod
    def at(cls, path: Path, root: Path = Path()) -> "File":
        """Return a file whose name is the path, without `root`, and whose domain is its name without endings."""
        return cls(root / path, shown(path.as_posix()), shown(_stem(path.name)))


class PassedOver(NamedTuple):
    """A file or folder that is not read."""

    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Found:
    """The files at a path."""

    files: list[File]
    """In the order of the bytes of their names."""
    passed_over: list[PassedOver]
    """In the same order. Hidden files and DVC's own records (.dvc) are not listed, but what such a record tracks is, if
    it is not there."""
    idle: Sequence[str] = ()
    """Patterns of `exclude` that match no file."""


def find(path: Path, include: Sequence[str] = (), exclude: Sequence[str] = (), *, root: Path = Path()) -> Found:
    """Find the files to read at `path`: the file itself, or those of a folder at any depth.

    Links are followed, but no folder and no file is read twice. Hidden files and folders are skipped.

    Args:
        path: a file or a folder.
        include: glob patterns of names, or of paths below `path`; without one, all files are taken.
        exclude: glob patterns of files to leave out.
        root: the folder that `path` is relative to; it stands in no name.

    Raises:
        DataError: `path` does not exist, cannot be listed or holds no file that can be read, or a pattern of `include`
            matches no file.
    """
    place = root / path
    if not os.path.lexists(place):
        raise DataError(f"{shown(path)} does not exist; put conversations there, or correct data.path in params.yaml.")
    if not place.is_dir():
        _check_is_file(place)
        return Found([File.at(path, root)], [])
    passed_over: list[PassedOver] = []
    names = list(_without_records(place, sorted(_names(place, passed_over), key=os.fsencode), passed_over))
    readable = [name for name in names if not (why := _unread(place / name)) or _pass(passed_over, name, why)]
    _check_patterns(path, readable, include)
    chosen = [name for name in readable if _is_chosen(name, include, exclude) or _pass(passed_over, name, LEFT_OUT)]
    files = [File.at(path / name, root) for name in _once(place, chosen, passed_over)]
    if not files:
        raise DataError(_nothing_found(path, passed_over))
    idle = [pattern for pattern in exclude if not any(matches(name, pattern) for name in names)]
    return Found(files, sorted(passed_over), idle)


ABSENT = "tracked by DVC, but not here; run `dvc pull`"
LEFT_OUT = "left out by data.include or data.exclude"


def shown(name: str | Path) -> str:
    """Return a file name as text, the same under every locale: no control characters, no bytes that are not UTF-8."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def ending(name: str) -> str:
    """Return the ending that tells the kind, in lower case: ".jsonl" for "a.JSONL.gz"; empty for a name without one."""
    return Path(_uncompressed(name)).suffix.lower()


def matches(name: str, pattern: str) -> bool:
    """Whether a glob pattern matches a path below data.path, or the name of the file."""
    return fnmatchcase(shown(name), pattern) or fnmatchcase(shown(Path(name).name), pattern)


def _uncompressed(name: str) -> str:
    return next((name[: -len(each)] for each in COMPRESSIONS if name.lower().endswith(each)), name)


def _stem(name: str) -> str:
    return Path(_uncompressed(name)).stem


def _check_is_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as fault:
        raise DataError(f"{shown(path)} cannot be read ({fault.strerror}); correct data.path in params.yaml.") from None
    if not stat.S_ISREG(mode):
        raise DataError(f"{shown(path)} is neither a file nor a folder; correct data.path in params.yaml.")


def _names(root: Path, passed_over: list[PassedOver]) -> Iterator[str]:
    """Yield the paths of all files below `root`, relative to it; folders that are reached by links come last.

    A folder is known by its device and inode, so that a link to a folder that was searched, or to one that holds it,
    is followed no further.
    """
    searched: set[tuple[int, int]] = set()
    folders, linked = [""], list[str]()
    while folders or linked:
        is_linked = not folders
        folder = linked.pop(0) if is_linked else folders.pop()
        try:
            status = (root / folder).stat()
            if (status.st_dev, status.st_ino) in searched:
                _pass(passed_over, folder, "a link to a folder that is searched already")
                continue
            searched.add((status.st_dev, status.st_ino))
            with os.scandir(root / folder) as entries:
                visible = sorted((each for each in entries if not each.name.startswith(".")), key=_bytes_of_name)
        except OSError as fault:
            if not folder:
                raise DataError(f"{shown(root)} cannot be listed ({fault.strerror}); allow access.") from None
            _pass(passed_over, folder, f"a folder that cannot be listed ({fault.strerror})")
            continue
        for entry in visible:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if _is_folder(entry):
                (linked if entry.is_symlink() else folders).append(name)
            else:
                yield name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _without_records(root: Path, names: Iterable[str], passed_over: list[PassedOver]) -> Iterator[str]:
    """Yield the names without DVC's own records, and list what they track that is not there."""
    for name in names:
        tracked = name.removesuffix(".dvc")
        if tracked == name:
            yield name
        elif not os.path.lexists(root / tracked):
            _pass(passed_over, tracked, ABSENT)


def _bytes_of_name(entry: os.DirEntry[str]) -> bytes:
    return os.fsencode(entry.name)


def _unread(path: Path) -> str:
    """Why a file is not read; empty if it is."""
    name = path.name
    try:
        mode = path.stat().st_mode
    except OSError as fault:
        is_broken_link = path.is_symlink() and isinstance(fault, FileNotFoundError)
        return "a link to nothing" if is_broken_link else f"it cannot be reached ({fault.strerror})"
    if not stat.S_ISREG(mode):
        return "neither a file nor a folder"
    if ABOUT_THE_DATA.fullmatch(_stem(name)) and ending(name) in (*TEXT_ENDINGS, "", ".rst"):
        return ABOUT_DATA
    if ending(name) in ENDINGS:
        return ""
    return CONTAINERS.get(Path(name).suffix.lower(), f"its ending is none of {', '.join(ENDINGS)}")


def _pass(passed_over: list[PassedOver], name: str, why: str) -> bool:
    passed_over.append(PassedOver(shown(name), why))
    return False


def _is_chosen(name: str, include: Sequence[str], exclude: Sequence[str]) -> bool:
    is_included = not include or any(matches(name, pattern) for pattern in include)
    return is_included and not any(matches(name, pattern) for pattern in exclude)


def _check_patterns(path: Path, names: Sequence[str], include: Sequence[str]) -> None:
    for pattern in include:
        if not any(matches(name, pattern) for name in names):
            example = f" (such as {shown(names[0])})" if names else ""
            raise DataError(
                f"'{pattern}' matches none of the {counted(len(names), 'file')} that can be read in {shown(path)}"
                f"{example}; correct data.include in params.yaml."
            )


def _once(root: Path, names: Sequence[str], passed_over: list[PassedOver]) -> Iterator[str]:
    """Yield the names, but of a file that several links name only one: by its own name if it is among them."""
    places = {name: (root / name).resolve() for name in names}
    own = {place: name for name, place in places.items() if root.resolve() / name == place}
    for name, place in places.items():
        first = own.setdefault(place, name)
        if first == name:
            yield name
        else:
            _pass(passed_over, name, f"the same file as {shown(first)}")


def _nothing_found(path: Path, passed_over: Sequence[PassedOver]) -> str:
    kinds = f"{', '.join(ENDINGS[:-1])} or {ENDINGS[-1]} file"
    also = f" ({passed_over[0].name}: {passed_over[0].why})" if passed_over else ""
    return f"{shown(path)} holds no {kinds} to learn from{also}; put one there, or correct data.path in params.yaml."
