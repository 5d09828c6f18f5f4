"""The files of one base, from the hub or from a local folder."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta.errors import BaseModelError

LFS_POINTER = b"version https://git-lfs"
"""First bytes of the small text file that git checks out instead of a large one if git-lfs is not installed."""


@dataclass(frozen=True, slots=True)
class Source:
    """A base and how to find its files."""

    kind: str
    """Either hub or local."""
    name: str
    revision: str | None
    """The commit of a hub base."""
    find: Callable[[str], Path | None]
    """Returns the path of a file of the base, or None if the base has no file of that name."""

    def path(self, name: str) -> Path:
        """Return the path of a file that the base must have.

        Raises:
            BaseModelError: the file is missing, empty or only a git-lfs pointer.
        """
        path = self.find(name)
        if path is None:
            raise BaseModelError(f"model.base '{self.name}' has no {name}; is it a folder that transformers saved?")
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if not start:
            raise BaseModelError(f"model.base '{self.name}': {name} is empty; copy or download it again.")
        if start == LFS_POINTER:
            raise BaseModelError(
                f"model.base '{self.name}': {name} is a git-lfs pointer, not the file itself; run `git lfs pull` in "
                "the cloned folder."
            )
        return path

    def json(self, name: str) -> dict[str, Any]:
        """Read a JSON file that the base must have.

        Raises:
            BaseModelError: the file is missing or does not hold a JSON object.
        """
        path = self.path(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as fault:
            raise BaseModelError(f"model.base '{self.name}': {name} is not valid JSON ({fault}).") from None
        if not isinstance(value, dict):
            raise BaseModelError(f"model.base '{self.name}': {name} does not hold a JSON object; copy the base again.")
        return value
