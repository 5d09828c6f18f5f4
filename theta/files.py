"""Write files and folders completely or not at all, with the same bytes for the same content on every machine.

DVC compares outs by their bytes, so JSON has sorted keys, lines end in "\\n", and no file contains a clock time.

Everything is written to `.NAME.PID.partial` in the same folder and renamed when it is complete. A file replaces only a
file. A folder replaces only a folder whose files the new one also has, so that nothing is lost. Files that a killed
process leaves behind are removed by the next process that writes the same name; git ignores them.
"""

import ctypes
import errno
import hashlib
import json
import os
import re
import shutil
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from theta.errors import DataError, StorageError, reason

FLUSH_SECONDS = 0.5


@contextmanager
def replacing_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a file that replaces `path` when the block ends without an error.

    A link to a file is replaced, not followed: DVC may keep its outs as links into its cache.

    Raises:
        StorageError: `path` is a folder, a device or a pipe, or cannot be written.
    """
    _check_is_replaceable(path)
    with _beside(path) as temporary:
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)


def _check_is_replaceable(path: Path) -> None:
    """Refuse a path at which there is anything but a file, or that belongs to the system."""
    if path.is_dir():
        raise StorageError(f"{path} is a folder, which a file must not replace; name a file, or move the folder.")
    is_special = path.exists() and not path.is_file()  # a device or a pipe, also through a link
    if is_special or path.absolute().is_relative_to("/dev") or path.absolute().is_relative_to("/proc"):
        raise StorageError(f"{path} is not a file, and must not be replaced; name a file in a folder of yours.")


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a folder that replaces `path` when the block ends without an error.

    On systems that can swap two folders, `path` exists at every moment.

    Raises:
        StorageError: `path` is a file or a link, it holds a file that the new folder lacks, or it cannot be written.
    """
    with _beside(path) as temporary:
        if path.is_symlink() or path.is_file():
            kind = "link" if path.is_symlink() else "file"
            raise StorageError(f"{path} is a {kind}, which a folder must not replace; move it, or choose another path.")
        yield temporary
        for file in temporary.rglob("*"):
            _to_disk(file)
        if path.is_dir():
            _check_nothing_is_lost(path, temporary)
            _swap(temporary, path)  # the old folder is now the temporary one, which is removed
        else:
            temporary.rename(path)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any library's error about a write that failed into one line that names `path` and the remedy.

    Raises:
        StorageError: the block could not write `path`, or a file in the same folder.
    """
    try:
        yield
    except Exception as fault:
        if is_disk_full(fault):
            raise StorageError(
                f"{path} cannot be written ({_full_words(fault)}); make room on the disk and run the command again."
            ) from fault
        if isinstance(fault, OSError) and isinstance(fault.filename, str) and _is_of(Path(fault.filename), path):
            words = "its folder is a file" if isinstance(fault, FileExistsError) else fault.strerror
            raise StorageError(f"{path} cannot be written ({words}); allow it, or choose another path.") from fault
        raise


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FULL_IN_RUST = re.compile(rf"\(os error ({'|'.join(map(str, _FULL))})\)")  # safetensors, tokenizers
_FULL_IN_TORCH = (
    "PytorchStreamWriter failed",
    "inline_container.cc",
    "iostream error",
)  # torch does not say why it could not write
_FULL_IN_NUMPY = re.compile(r"^\d+ requested and \d+ written$")  # nor does NumPy


def is_disk_full(fault: BaseException) -> bool:
    """Whether any library's error means that the disk is full, or a quota or the limit of a file's size is reached."""
    if isinstance(fault, OSError) and fault.errno in _FULL:
        return True
    words = str(fault)
    patterns = (_FULL_IN_RUST, _FULL_IN_NUMPY)
    return any(each.search(words) for each in patterns) or any(mark in words for mark in _FULL_IN_TORCH)


def _full_words(fault: BaseException) -> str:
    number = fault.errno if isinstance(fault, OSError) else None
    if found := _FULL_IN_RUST.search(str(fault)):
        number = int(found[1])
    return os.strerror(number) if number else "the disk is full, or the file too large for it"


def _is_of(place: Path, path: Path) -> bool:
    """Whether `place` is `path`, one of its parents, or part of its temporary file or folder."""
    return place == path or place in path.parents or _temporary(path).name in place.parts


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary path next to `path`; at the end it is removed, and so are new folders that stayed empty."""
    temporary = _temporary(path)
    new_folders = [folder for folder in path.parents if not folder.exists()]
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path)
            remove(temporary)
            yield temporary
        except StorageError as fault:  # about a file in the temporary folder
            raise StorageError(str(fault).replace(str(temporary), str(path))) from fault
        finally:
            if path.parent.is_dir():
                remove(temporary)
            for folder in new_folders:
                with suppress(OSError):  # the folder holds what was written
                    folder.rmdir()


def sweep(path: Path) -> None:
    """Remove what killed processes left next to `path`, but restore a folder that one of them had set aside.

    This happens whenever `path` is written. What another process is writing stays.
    """
    if not path.parent.is_dir():
        return
    pattern = re.compile(rf"\.+{re.escape(path.name)}((?:\.\d+\.(?:partial|aside))+)")
    for left in sorted(path.parent.iterdir()):
        found = pattern.fullmatch(left.name)
        if found and not any(_is_running(int(pid)) for pid in re.findall(r"\d+", found[1])):
            if left.name.endswith(".aside") and not os.path.lexists(path):
                left.rename(path)
            else:
                remove(left)


def _is_running(pid: int) -> bool:
    """Whether the process exists; always true on systems where the question is not safe."""
    if os.name != "posix":  # os.kill would end the process on Windows
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _to_disk(file: Path) -> None:
    """Flush the file to the disk: without that, a renamed file can be empty after a power cut."""
    if file.is_file():
        with file.open("rb") as written:
            os.fsync(written.fileno())


@contextmanager
def flushing(file: Path) -> Iterator[None]:
    """Flush a growing file to the disk again and again, so that little is left to wait for when it is complete.

    Raises:
        OSError: the disk refused it, which a later flush would not be told again.
    """
    from concurrent.futures import ThreadPoolExecutor

    ended = threading.Event()

    def flush() -> None:
        while not ended.wait(FLUSH_SECONDS):
            _to_disk(file)

    with ThreadPoolExecutor(1) as pool:
        flushes = pool.submit(flush)
        try:
            yield
        finally:
            ended.set()
        flushes.result()


def _check_nothing_is_lost(old: Path, new: Path) -> None:
    """Refuse to replace a folder that holds a file which the new folder lacks."""
    for place in old.rglob("*"):
        name = place.relative_to(old)
        if not (new / name).exists():
            raise StorageError(
                f"{old} holds {name.as_posix()}, which Theta did not write there; nothing was replaced. "
                "Move it, or name another folder."
            )


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders: atomically where the system can, otherwise by setting the old one aside for a moment."""
    if _exchange(new, old):
        return
    aside = old.with_name(f".{old.name}.{os.getpid()}.aside")
    old.rename(aside)
    try:
        new.rename(old)
    except BaseException:
        aside.rename(old)
        raise
    aside.rename(new)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # fcntl.h and linux/fs.h


def _exchange(one: Path, other: Path) -> bool:
    """Swap two paths with renameat2; False if the system or the file system does not support it."""
    if sys.platform != "linux":
        return False
    swap = getattr(ctypes.CDLL(None), "renameat2", None)
    return swap is not None and swap(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with "\\n" line endings.

    Raises:
        StorageError: as `replacing_file`.
    """
    with replacing_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with sorted keys; NaN and infinity, which JSON does not have, are refused.

    Raises:
        StorageError: as `replacing_file`.
    """
    write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Write one JSON value per line, keys in their order; without rows a blank line, as DVC warns about empty files.

    Raises:
        StorageError: as `replacing_file`.
    """
    with replacing_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as out:
        for row in rows:
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not out.tell():
            out.write("\n")


def append_json_line(path: Path, value: Any) -> None:
    """Add one JSON value as a line to a file that may exist already.

    The line is written at once, so that several threads and processes may add to one file.

    Raises:
        StorageError: the file cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as out:
            line = json.dumps(value, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            if out.seek(0, os.SEEK_END):
                out.seek(-1, os.SEEK_END)
                line = line if out.read() == b"\n" else b"\n" + line
            out.write(line)


def read_json(path: Path, *keys: str) -> Any:
    """Read a JSON file that Theta wrote.

    Args:
        path: the file.
        keys: keys that the JSON object must have.

    Raises:
        DataError: the file is missing, is not JSON, or is not an object with these keys.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None
    except (ValueError, RecursionError) as fault:
        raise DataError(f"{path} is not valid JSON ({fault}); run `dvc repro` to recreate it.") from None
    absent = [key for key in keys if not isinstance(value, dict) or key not in value]
    if absent:
        raise DataError(f"{path} has no {' and no '.join(absent)}; run `dvc repro` to recreate it.")
    return value


def read_json_lines(path: Path, parse: Callable[[Any], Any] | None = None) -> Iterator[Any]:
    """Read a file that `write_json_lines` wrote, one value at a time.

    Args:
        path: the file.
        parse: converts each value, and raises ValueError, KeyError or TypeError for one that is not valid; values are
            yielded as they are without it.

    Raises:
        DataError: the file is missing, or a line is not valid.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield parse_json_line(path, number, line, parse)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None
    except UnicodeDecodeError as fault:
        raise DataError(f"{path} is not UTF-8 text ({fault.reason}); run `dvc repro` to recreate it.") from None


def parse_json_line(path: Path, number: int, line: str, parse: Callable[[Any], Any] | None = None) -> Any:
    """Read one line of a file that `write_json_lines` wrote; see `read_json_lines`."""
    try:
        value = json.loads(line)
        return parse(value) if parse else value
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise DataError(
            f"{path}, line {number}, is not what Theta wrote ({type(fault).__name__}: {reason(fault)}); "
            "run `dvc repro` to recreate the file."
        ) from None


def line_ends(content: bytes | bytearray) -> int:
    """Return the number of line ends, in a tenth of the time that `content.count` takes."""
    import numpy as np

    return int(np.count_nonzero(np.frombuffer(content, np.uint8) == ord("\n")))


def native(path: str) -> Path:
    """Convert a path from a UTF-8 file such as params.yaml, so that it names the same file under every locale."""
    return Path(os.fsdecode(path.encode()))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def digest(value: Any) -> str:
    """The SHA-256 of a JSON-like value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
