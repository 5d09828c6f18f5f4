"""A cache of digests of files and of finished checks of bases, so that nothing slow is done twice.

.theta/NAME.json     in the project's folder, ignored by git; can be deleted at any time
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
"""A file that changed more recently than this is not cached: a second change might not change its time."""


def recall(name: str) -> Any:
    """Return the value that `remember` wrote under this name; None if it is missing or damaged."""
    with suppress(DataError, OSError, UnicodeDecodeError):
        return read_json(_file(name))
    return None


def remember(name: str, value: Any) -> None:
    """Write a value for `recall`. If the folder cannot be written, the work is repeated later."""
    with suppress(StorageError, OSError):
        write_json(_file(name), value)


def _file(name: str) -> Path:
    return local.project() / ".theta" / f"{name}.json"


class Digests:
    """SHA-256 of files. A file that did not change is not read again, because gpt2-xl has 6 GB of weights.

    Large files of the hub are not cached here: huggingface_hub's own cache names each by its SHA-256.
    """

    def __init__(self, name: str = "digests") -> None:
        """Use the digests that were stored under this name."""
        self._name = name
        known = recall(name)
        self._known: dict[str, Any] = known if isinstance(known, dict) else {}
        self._used: dict[str, list[Any]] = {}

    def of(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes, in hexadecimal."""
        blob = path.resolve()
        if path.is_symlink() and blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name):
            return blob.name
        status = blob.stat()
        # st_ctime_ns is the last change of the inode: unlike st_mtime, no program can set it back.
        state = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
        entry = self._known.get(str(blob))
        known = entry[-1] if isinstance(entry, list) and entry[:-1] == state else None
        found = known if isinstance(known, str) else sha256(blob)
        if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > SETTLED_SECONDS * 10**9:
            self._used[str(blob)] = [*state, found]
        return found

    def save(self) -> None:
        """Store the digests that this object returned, and delete all others."""
        if self._used != self._known:
            remember(self._name, self._used)
