"""The files of one base, wherever it comes from."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta.errors import BaseModelError

LFS_POINTER = b"version https://git-lfs"
"""How the small text file begins that git leaves in the place of a large one where git-lfs is not installed."""


@dataclass(frozen=True, slots=True)
class Source:
    """A base and a way to its files."""

    kind: str
    """hub or local."""
    name: str
    revision: str | None
    """The commit of a hub base."""
    find: Callable[[str], Path | None]
    """The path of a file of the base, None if it has no file of that name."""

    def path(self, name: str) -> Path:
        """The path of a file that the base must have.

        Raises:
            BaseModelError: it has none, or only a stand-in for it.
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
                "the folder that it was cloned to."
            )
        return path

    def json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file that the base must have.

        Raises:
            BaseModelError: it has none, or the file does not hold a JSON object.
        """
        path = self.path(name)
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as fault:
            raise BaseModelError(f"model.base '{self.name}': {name} is not valid JSON ({fault}).") from None
        if not isinstance(value, dict):
            raise BaseModelError(f"model.base '{self.name}': {name} does not hold a JSON object; copy the base again.")
        return value
