"""SHA-256 of the files of a base. A file that did not change is not read again: gpt2-xl has 6 GB of weights."""

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from theta.errors import DataError
from theta.files import read_json, sha256, write_json

SETTLED_SECONDS = 2
"""A file changed more recently than this is not remembered: a second change could leave its time as it is."""


class Digests:
    """Digests of files, remembered in a file of this machine.

    The hub's large files need no memory: the cache of huggingface_hub names each by its SHA-256.
    """

    def __init__(self, memory: Path) -> None:
        """Read what is remembered; a memory that is missing or damaged counts as empty."""
        self._memory = memory
        self._known: dict[str, Any] = {}
        self._used: dict[str, list[Any]] = {}
        with suppress(DataError, OSError, UnicodeDecodeError):
            known = read_json(memory)
            self._known = known if isinstance(known, dict) else {}

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
            with suppress(OSError):  # a folder that cannot be written costs time, nothing else
                write_json(self._memory, self._used)
