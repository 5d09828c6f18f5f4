"""A corpus built from items, in a folder."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta import files
from theta.conversation.messages import Conversation
from theta.corpus.build import build
from theta.corpus.items import Item, Notes, Reject, Rules
from theta.corpus.readers.finding import File, find
from theta.corpus.report import Facts, figures
from theta.corpus.settings import DataSettings
from theta.corpus.shapes.shape import shape

SETTINGS: dict[str, Any] = {
    "path": "raw",
    "include": [],
    "exclude": [],
    "strict": False,
    "fields": {},
    "roles": {},
    "speakers": {},
    "first_speaker": "user",
    "repair_encoding": False,
    "redact": [],
    "caps": {},
    "weights": {},
    "rewordings": 0,
    "reword_any_language": False,
    "new_wordings_fraction": 0.0,
    "validation_fraction": 0.1,
    "test_fraction": 0.1,
}
"""The section `data` of params.yaml."""


@dataclass(frozen=True)
class Built:
    """What prepare made of some items."""

    rows: dict[str, list[dict[str, Any]]]
    """By split, and `rehearsal`."""
    rejected: list[dict[str, Any]]
    facts: Facts

    @property
    def figures(self) -> dict[str, Any]:
        """The figures of metrics/prepare.json."""
        return figures(self.facts)

    @property
    def kept(self) -> list[list[list[str]]]:
        """The conversations of all splits as [role, content] pairs."""
        return [said(row) for split in ("train", "validation", "test") for row in self.rows[split]]

    def sides(self) -> dict[str, str]:
        """The split of each source."""
        return {row["source"]: split for split, rows in self.rows.items() for row in rows if split != "rehearsal"}


def read_as(value: Any) -> list[Conversation | Reject]:
    """What the pipeline reads an item as."""
    return list(shape(Item(value, "x#1", "x"), Rules(), Notes()))


def said(row: Mapping[str, Any]) -> list[list[str]]:
    """The messages of a row as [role, content] pairs."""
    return [[message["role"], message["content"]] for message in row["messages"]]


def built(folder: Path, items: Iterable[Any], rehearsal: Iterable[Any] = (), **settings: Any) -> Built:
    """Write items to a file and build a corpus from it."""
    files.write_json_lines(folder / "raw/items.jsonl", items)
    return built_from(folder, folder / "raw", rehearsal, **settings)


def built_from(folder: Path, path: Path, rehearsal: Iterable[Any] = (), processes: int = 1, **settings: Any) -> Built:
    """Build a corpus from a file or a folder."""
    own = list(rehearsal)
    files.write_json_lines(folder / "rehearsal.jsonl", own)
    with files.replacing_folder(folder / "prepared") as out:
        out.mkdir()
        facts = build(
            find(path),
            File.at(folder / "rehearsal.jsonl") if own else None,
            DataSettings(**{**SETTINGS, **settings}),
            out,
            processes,
            lambda _: None,
        )
    read = {
        name: list(files.read_json_lines(folder / f"prepared/{name}.jsonl"))
        for name in ("train", "validation", "test", "new_wordings", "rehearsal", "rejected")
    }
    return Built(read, read.pop("rejected"), facts)
