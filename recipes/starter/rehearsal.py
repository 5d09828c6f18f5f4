"""The training split -> rehearsal.jsonl: conversations to mix into later fine-tuning, against forgetting."""

from collections.abc import Collection, Iterable
from heapq import nsmallest
from typing import Any

from theta.corpus import keys

COUNT = 3000
"""Number of conversations that ship with the starter."""

Row = dict[str, Any]
"""A line of Datasets/prepared/train.jsonl."""


def choose(rows: Iterable[Row], domains: Collection[str], count: int = COUNT) -> list[Row]:
    """Return `count` conversations of some domains, chosen by their hashes, without their source."""
    chosen = nsmallest(count, (row for row in rows if row["domain"] in domains), key=_place)
    return [{"domain": row["domain"], "messages": row["messages"]} for row in chosen]


def _place(row: Row) -> float:
    """A place in the order that depends on the conversation alone."""
    return keys.point("\n".join(message["content"] for message in row["messages"]))
