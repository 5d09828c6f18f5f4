"""What data.path names, as a small descriptor of its content: models/base/data.json, which prepare depends on.

    describe(path, ...) -> {"kind": "local", "path", "files": [{"name", "bytes", "sha256"}, ...], "passed_over"}
                           {"kind": "hub", "path", "name", "revision", "config", "split", "files": [name, ...], ...}

DVC itself cannot depend on data.path, because it refuses hf://datasets/.... So fetch, which always runs, writes the
descriptor, and prepare runs again if it changed. It holds no machine's paths: `locate` finds the files.

A local path is looked up in the current folder and then in $DVC_ROOT: `dvc exp run --temp` and `--queue` work in a copy
of the project without the files that git ignores.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from theta.corpus.readers import hub
from theta.corpus.readers.finding import ABSENT, Found, find, shown
from theta.errors import DataError
from theta.files import native

Descriptor = dict[str, Any]


def is_hub(path: str) -> bool:
    """Whether data.path names a dataset of the hub."""
    return path.startswith("hf://")


def describe(
    path: str,
    include: Sequence[str],
    exclude: Sequence[str],
    *,
    digest: Callable[[Path], str],
    known: Descriptor | None,
) -> Descriptor:
    """Return the descriptor of the data, after downloading a dataset of the hub that is not cached.

    Args:
        path: data.path.
        include: data.include.
        exclude: data.exclude.
        digest: returns the SHA-256 of a file.
        known: the descriptor of an earlier call, with which a dataset of the hub needs no network.

    Raises:
        DataError: there is no data, or it cannot be fetched or read.
    """
    if is_hub(path):
        return hub.resolve(path, known)
    found = _local(path, include, exclude)
    return {
        "kind": "local",
        "path": path,
        "files": [
            {"name": each.name, "bytes": _size(each.path), "sha256": _digest(each.path, digest)} for each in found.files
        ],
        "passed_over": [list(each) for each in found.passed_over],
    }


def locate(path: str, descriptor: Descriptor, include: Sequence[str], exclude: Sequence[str]) -> Found:
    """Return the files of data.path, and those that were passed over.

    Args:
        path: data.path.
        descriptor: of a dataset of the hub, which it pins to a revision; a local path is looked up as it is now.
        include: data.include.
        exclude: data.exclude.

    Raises:
        DataError: they are not on this machine.
    """
    if not is_hub(path):
        return _local(path, include, exclude)
    if descriptor["path"] != path:
        raise DataError(f"data.path is {path}, and fetch described {descriptor['path']}; run `dvc repro`.")
    return hub.locate(descriptor)


def _local(path: str, include: Sequence[str], exclude: Sequence[str]) -> Found:
    place = native(path)
    roots = [Path(), Path(os.environ.get("DVC_ROOT") or ".")]
    root = next((each for each in roots if os.path.lexists(each / place)), None)
    if root is None and (record := _dvc_record(place)):
        if why := _checkout(place):
            raise DataError(
                f"{shown(path)} is not here, and DVC cannot restore it ({why}); run `dvc pull {shown(record)}`."
            )
        root = Path()
    found = find(place, include, exclude, root=root or Path())
    absent = [place / each.name for each in found.passed_over if each.why == ABSENT]
    if absent and root == Path() and not _checkout(*absent):
        return find(place, include, exclude)
    return found


def _dvc_record(path: Path) -> Path | None:
    """The .dvc file that tracks a path, or a folder that holds it; None if there is none."""
    records = (each.with_name(f"{each.name}.dvc") for each in (path, *path.parents) if each.name)
    return next((each for each in records if each.is_file()), None)


def _checkout(*paths: Path) -> str:
    """Let DVC restore paths from its cache; return why it could not."""
    command = [sys.executable, "-m", "dvc", "checkout", "--quiet", *map(str, paths)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if all(map(os.path.lexists, paths)):
        return ""
    return shown((done.stderr.strip().splitlines() or ["it is not in DVC's cache"])[-1])


def _digest(path: Path, digest: Callable[[Path], str]) -> str | None:
    """The digest of a file; None for one that cannot be read, of which the reader tells why."""
    try:
        return digest(path)
    except OSError:
        return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
