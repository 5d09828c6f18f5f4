"""Conversations -> train, validation and test, so that what is held back is not learned in another place.

Conversations that share a question in any turn, or a reply, or that ask nearly the same, are *tied*: they form a group,
and a group is in one split. Each group has a point between 0 and 1 that depends on one of its questions alone:

    0                                                                1
    |-- validation --|------------ train ------------|---- test ----|

Validation takes groups from the low end until it has its share of the conversations, and test from the high end. A
group that is too large for them is in train. Adding a file therefore moves few conversations of other files.
Where all groups are large, a split may get up to MOST_OVER times its share, and a line says so.

What ties too much, such as a greeting that opens most chats, cannot tie: a held-out split could not have its share.
Ties are loosened in steps until it can, and a line says so.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from theta.corpus.evidence import KINDS, Evidence, Ties, united, without_gaps
from theta.errors import DataError

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
TOLERANCE = 0.1
"""How far the share of a split may be from the one that was asked for, as a fraction of it."""
MOST_OVER = 2
"""A held-out split that would be larger than its share by this factor is not accepted: ties are loosened."""
COMMON = 10
"""What at most as many conversations share ties them in any case."""


@dataclass(frozen=True, slots=True)
class Loosened:
    """Which ties do not hold."""

    kinds: tuple[str, ...] = ()
    above: int | None = None
    """What more conversations share than this does not tie."""
    words: str = ""


@dataclass(frozen=True)
class Division:
    """The split of each conversation.

    Attributes:
        split: position in SPLITS, int8 [conversations]; -1 for those that take no part.
        groups: number of groups.
        largest_group: conversations of the largest one.
        loosened: which ties do not hold.
        shares: which splits are larger or smaller than asked for, in words; empty if none is.
    """

    split: np.ndarray
    groups: int
    largest_group: int
    loosened: Loosened
    shares: str


def divide(
    evidence: Evidence, ties: Ties, members: np.ndarray, validation_fraction: float, test_fraction: float
) -> Division:
    """Divide the conversations; a split is empty only if its fraction is 0.

    Args:
        evidence: the fingerprints of all conversations.
        ties: what ties the members.
        members: whether a conversation is divided, bool [conversations].
        validation_fraction, test_fraction: the shares of the conversations; 0 holds none back.

    Raises:
        DataError: there are fewer conversations than splits.
    """
    places = np.flatnonzero(members)
    fractions = (validation_fraction, test_fraction)
    _require_one_for_each_split(len(places), fractions)
    steps = _steps(len(places), min(filter(None, fractions), default=0.0))
    for number, loosened in enumerate(steps):
        group_of = without_gaps(groups(ties, _holds(ties, loosened), len(members))[places])
        points = evidence.points[places[_first_of_groups(group_of, evidence.whole[places])]]
        sizes = np.bincount(group_of)
        split_of_group, is_filled = _fill(sizes, points, fractions)
        if is_filled or number == len(steps) - 1:
            break
    split = np.full(len(members), -1, np.int8)
    split[places] = split_of_group[group_of]
    return Division(split, len(sizes), int(sizes.max()), loosened, _shares(split[places], fractions))


def _require_one_for_each_split(count: int, fractions: Sequence[float]) -> None:
    names = ["train", *(name for name, fraction in zip(SPLITS[1:], fractions, strict=True) if fraction)]
    if count < len(names):
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise DataError(
            f"the number of distinct conversations is {count}; at least {len(names)} are needed, one each for "
            f"{listed}; add conversations, or hold none back with data.validation_fraction and data.test_fraction 0."
        )


def _shares(split: np.ndarray, fractions: Sequence[float]) -> str:
    """The splits whose share is not the one that was asked for, and their sizes."""
    off = []
    for side, fraction in zip((VALIDATION, TEST), fractions, strict=True):
        taken, target = int((split == side).sum()), _target(fraction, len(split))
        if abs(taken - target) > TOLERANCE * target:
            off.append(f"{SPLITS[side]} has {taken} of {len(split)} conversations instead of {target}")
    return " and ".join(off)


def _target(fraction: float, count: int) -> int:
    return max(1, round(fraction * count)) if fraction else 0


def _steps(count: int, smaller_fraction: float) -> list[Loosened]:
    above = max(COMMON, int(count * smaller_fraction / 2))
    common = f"what more than {above} conversations have"
    return [
        Loosened(),
        Loosened(("short_reply",), None, "a reply of fewer than five words"),
        Loosened(("short_reply",), above, f"{common}, or a short reply"),
        Loosened(("short_reply", "twin"), above, f"{common}, a short reply, or nearly a question"),
        Loosened(KINDS, None, "anything at all"),
    ]


def _holds(ties: Ties, loosened: Loosened) -> np.ndarray:
    holds = ~np.isin(ties.kinds, [KINDS.index(kind) for kind in loosened.kinds])
    return holds if loosened.above is None else holds & (ties.shared_by <= loosened.above)


def groups(ties: Ties, holds: np.ndarray, count: int) -> np.ndarray:
    """A number for each conversation that those of its group have too, int32 [conversations]."""
    return united(np.arange(count, dtype=np.int32), ties.ones[holds], ties.others[holds])


def _first_of_groups(group_of: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The conversation of each group whose key is the smallest, int64 [groups]; no two have the same key."""
    by_key = np.argsort(whole)[::-1]
    first = np.empty(int(group_of.max()) + 1, np.int64)
    first[group_of[by_key]] = by_key  # of several conversations of a group, the last one stays
    return first


def _fill(sizes: np.ndarray, points: np.ndarray, fractions: Sequence[float]) -> tuple[np.ndarray, bool]:
    """The split of each group, and whether each split has its share.

    Args:
        sizes, points: conversations of each group, and the point of the first of them.
        fractions: of validation and of test.
    """
    count = int(sizes.sum())
    order = np.argsort(points, kind="stable")
    split = np.full(len(sizes), TRAIN, np.int8)
    held_back = [(name, line) for name, line in ((VALIDATION, order), (TEST, order[::-1])) if fractions[name - 1]]
    if len(sizes) <= len(held_back):
        return split, False
    is_filled = True
    for number, (name, line) in enumerate(held_back):
        target = _target(fractions[name - 1], count)
        # Test still needs a group after validation, and train needs one after both.
        chosen = list(_chosen(line, sizes, split, target, spare=len(held_back) - number))
        is_filled &= bool((1 - TOLERANCE) * target <= sizes[chosen].sum() <= MOST_OVER * target)
        split[chosen] = name
    return split, is_filled


def _chosen(line: np.ndarray, sizes: np.ndarray, split: np.ndarray, target: int, spare: int) -> Iterator[int]:
    """Yield groups of train along the line until they have about `target` conversations; at least one group.

    `spare` is the number of groups that must remain in train.
    """
    taken, remaining = 0, int((split == TRAIN).sum())
    for group in map(int, line):
        if taken >= target or remaining <= spare:
            return
        if split[group] == TRAIN and taken + sizes[group] <= (1 + TOLERANCE) * target:
            taken += int(sizes[group])
            remaining -= 1
            yield group
    if not taken:
        free = [group for group in line.tolist() if split[group] == TRAIN]
        yield min(free, key=lambda group: sizes[group])
