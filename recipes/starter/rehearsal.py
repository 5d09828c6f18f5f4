"""The training split -> rehearsal.jsonl: conversations that later fine-tuning mixes in, against forgetting."""

from collections.abc import Collection, Iterable
from heapq import nsmallest
from typing import Any

from theta.corpus import splits

COUNT = 3000
"""Conversations that the starter carries with it."""

Row = dict[str, Any]
"""A line of Datasets/prepared/train.jsonl."""


def choose(rows: Iterable[Row], domains: Collection[str], count: int = COUNT) -> list[Row]:
    """`count` conversations of some domains, drawn by their hashes, without their source."""
    chosen = nsmallest(count, (row for row in rows if row["domain"] in domains), key=_place)
    return [{"domain": row["domain"], "messages": row["messages"]} for row in chosen]


def _place(row: Row) -> float:
    """The same place in the order for the same conversation, whatever stands beside it."""
    return splits.point("\n".join(message["content"] for message in row["messages"]))
