"""What a model was taught, for a later run that goes on from it: rehearsal.jsonl beside theta_final in a release.

The file holds conversations of the user, which may be private, so it is never part of the exported folder itself.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from theta.bases.descriptors import REHEARSAL
from theta.files import read_json_lines, write_json_lines

KEPT = 4_000
"""Conversations of the file at most, about 2 MB."""

GENERAL_SHARE = 0.25
"""A base that Theta has not fine-tuned rehearses examples of how to talk, and no answers to keep: of these, so many are
kept for each conversation of the user. Of 117 old answers the base gave 102; after a run on new ones the model gave 114
with none of these examples, and 103 with one for each conversation (docs/decisions.md)."""


def write(prepared: Path, folder: Path, *, keeps_answers: bool, kept: int = KEPT) -> int:
    """Write a sample of what a run learned: its training conversations, and those of its base that it rehearsed.

    The sample depends on the content of the conversations alone, so the same run gives the same bytes.

    Args:
        prepared: the folder of the prepared data.
        folder: receives the file.
        keeps_answers: whether Theta has fine-tuned the base, so that what it rehearses are answers to keep, too.
        kept: the most conversations.

    Returns:
        The number of conversations.

    Raises:
        DataError: a file of `prepared` is missing or damaged.
        StorageError: the file cannot be written.
    """
    own, older = (_lines(prepared / name) for name in ("train.jsonl", REHEARSAL))
    room = len(older) if keeps_answers else int(GENERAL_SHARE * len(own))
    chosen = _sample(own, kept - min(len(older), room, kept // 2))
    chosen += _sample(older, min(room, kept - len(chosen)))
    write_json_lines(folder / REHEARSAL, chosen)
    return len(chosen)


def _lines(file: Path) -> list[dict[str, object]]:
    return list(read_json_lines(file))


def _sample(conversations: list[dict[str, object]], count: int) -> list[dict[str, object]]:
    """Choose conversations by a hash of their content, and leave them in their order."""
    if len(conversations) <= count:
        return conversations
    ranks = {place: _rank(each) for place, each in enumerate(conversations)}
    chosen: Iterable[int] = sorted(sorted(ranks, key=ranks.__getitem__)[:count])
    return [conversations[place] for place in chosen]


def _rank(conversation: dict[str, object]) -> bytes:
    return hashlib.sha256(repr(conversation["messages"]).encode("utf-8", "surrogatepass")).digest()
