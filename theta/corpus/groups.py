"""Groups of conversations, which pairs of them unite (Galler and Fischer 1964), in place in one array of 32 bits.

`up` names a conversation of the same group for each: a smaller one, or itself for the smallest, which is the *first* of
its group.
"""

import numpy as np

from theta.corpus.records import slices


def alone(count: int) -> np.ndarray:
    """Return `up` for conversations each of which is a group: int32 [conversations]."""
    return np.arange(count, dtype=np.int32)


def unite(up: np.ndarray, ones: np.ndarray, others: np.ndarray) -> None:
    """Unite the groups of each pair of conversations.

    The first of a group gets above it the smallest first that it is paired with. What still differs is paired again; at
    least half of the groups that can be united are, in two rounds.
    """
    while len(ones):
        ones, others = firsts(up, ones), firsts(up, others)
        differ = ones != others
        ones, others = ones[differ], others[differ]
        np.minimum.at(up, np.maximum(ones, others), np.minimum(ones, others))


def firsts(up: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Return the first conversation of the group of each, int32 [len(of)], and shorten the ways to them."""
    found = up[of]
    while ((above := up[found]) != found).any():
        up[of] = found = above
    return np.asarray(found)


def settle(up: np.ndarray) -> None:
    """Let `up` name the first of its group for each conversation."""
    for part in slices(len(up)):  # of earlier parts it does already, so that the ways are short
        while ((above := up[up[part]]) != up[part]).any():
            up[part] = above


def number(up: np.ndarray, members: np.ndarray) -> int:
    """Replace `up`, once it is settled, by the number of the group of each member, and -1 for the others.

    Groups are numbered in the order of their first members. No group holds both members and others.

    Returns:
        The number of groups.
    """
    is_first = members.copy()
    for part in slices(len(up)):
        is_first[part] &= up[part] == np.arange(part.start, part.stop)
    numbers = np.cumsum(is_first, dtype=np.int32)
    for part in slices(len(up)):
        up[part] = np.where(members[part], numbers[up[part]] - 1, -1)
    return int(numbers[-1]) if len(numbers) else 0
