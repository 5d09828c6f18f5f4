"""Chats made of unrelated documents: whole ones behind another, and openings at the end."""

from collections.abc import Mapping, Sequence, Set
from typing import NamedTuple

import numpy as np

from theta.tokens.store import Store
from theta.tokens.vocabulary import ChatIds

SHOWN_AGAIN = 0.4
"""Of the openings that should follow others, and whose turn comes when all chats have theirs, this share follows a
short document that is shown again. With less, replies of a long chat leave their text more often; with more, fewer
openings stand alone, as first questions do. See docs/decisions.md."""


class Joining(NamedTuple):
    """How documents are joined to chats."""

    follows: np.ndarray
    """Which documents of the split can follow another, bool [documents]."""
    leads: np.ndarray
    """Which documents of the split can be followed, bool [documents]."""
    share: float
    """Which part of the documents follows another if it can."""
    most_tokens: int


def chat_parts(store: Store, ids: ChatIds) -> tuple[np.ndarray, np.ndarray]:
    """Return which documents of the split can follow another in a chat, and which can be followed, bool [documents]."""
    first, last = (each[: store.split_size] for each in store.first_and_last_ids())
    # What follows a system message would be answered by it, and was not.
    return first == ids.user, (first == ids.user) & (last == ids.end)


def parts_shown_again(
    openings: np.ndarray, leading: np.ndarray, lengths: np.ndarray, most_tokens: int, draws: np.random.Generator
) -> dict[int, int]:
    """Return the part that some openings follow if no chat is left for them.

    Args:
        openings, leading: the openings of an epoch, and its whole documents that can be followed; int64.
        lengths: tokens of each part.
        most_tokens: of a chat. A part that is shown again has half as many at most: with longer ones, the base lost
            more of its English.
    """
    short = leading[lengths[leading] <= most_tokens // 2]
    if not len(short):
        return {}
    chosen = openings[draws.random(len(openings)) < SHOWN_AGAIN]
    return dict(zip(chosen.tolist(), draws.choice(short, len(chosen)).tolist(), strict=True))


def chats_of(
    whole: Sequence[int],
    openings: Sequence[int],
    following: Set[int],
    leading: Set[int],
    again: Mapping[int, int],
    lengths: np.ndarray,
    most_tokens: int,
    documents: int,
) -> list[list[int]]:
    """Combine parts into chats: whole documents one behind another, and at most one opening at the end of each.

    Args:
        whole, openings: parts, in the order in which they are combined.
        following: the parts that follow another one if they can.
        leading: the parts that can be followed.
        again: the part that is shown again in front of an opening for which no chat is left.
        lengths: tokens of each part.
        most_tokens: of a chat of several parts.
        documents: their number; the remainder of a part is its document.
    """

    def can_take(chat: Sequence[int], part: int) -> bool:
        if part not in following or chat[-1] not in leading:
            return False
        if sum(int(lengths[member]) for member in chat) + lengths[part] > most_tokens:
            return False
        # A document does not follow itself: its answer would stand in front of its question.
        return part % documents not in {member % documents for member in chat}

    chats: list[list[int]] = []
    for part in whole:
        if chats and can_take(chats[-1], part):
            chats[-1].append(part)
        else:
            chats.append([part])
    chat, last = 0, len(chats)
    for part in openings:
        if chat < last and can_take(chats[chat], part):
            chats[chat].append(part)
        elif chat == last and part in again and can_take([again[part]], part):
            chats.append([again[part], part])
        else:
            chats.append([part])
        chat += chat < last and part in following
    return chats
