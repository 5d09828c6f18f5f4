"""What a machine remembers of bases, so that nothing slow is done twice: digests of files, and finished checks.

.theta/NAME.json     in the project's folder, ignored by git; it can be deleted at any time
"""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from theta.bases import local
from theta.errors import DataError, StorageError
from theta.files import read_json, sha256, write_json

SETTLED_SECONDS = 2
"""A file changed more recently than this is not remembered: a second change could leave its time as it is."""


def recall(name: str) -> Any:
    """What `remember` wrote under this name; None if it is missing or damaged."""
    with suppress(DataError, OSError, UnicodeDecodeError):
        return read_json(_file(name))
    return None


def remember(name: str, value: Any) -> None:
    """Write a value for `recall`. A folder that cannot be written costs time later, nothing else."""
    with suppress(StorageError, OSError):
        write_json(_file(name), value)


def _file(name: str) -> Path:
    return local.project() / ".theta" / f"{name}.json"


class Digests:
    """SHA-256 of files. A file that did not change is not read again: gpt2-xl has 6 GB of weights.

    The hub's large files need no memory: the cache of huggingface_hub names each by its SHA-256.
    """

    def __init__(self) -> None:
        known = recall("digests")
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}
        self._used: dict[str, list[Any]] = {}

    def of(self, path: Path) -> str:
        """The SHA-256 of a file's bytes, in hexadecimal."""
        blob = path.resolve()
        if path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
            return blob.name
        status = blob.stat()
        # The time of the last change of the inode: unlike st_mtime, no program can set it back.
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = self._known.get(str(blob))
        known = entry[-1] if isinstance(entry, list) and entry[:-1] == state else None
        found = known if isinstance(known, str) else sha256(blob)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_SECONDS * 10**9:
            self._used[str(blob)] = [*state, found]
        return found

    def save(self) -> None:
        """Remember the files that were asked for since this object was made, and forget all others."""
        if self._used != self._known:
            remember("digests", self._used)
