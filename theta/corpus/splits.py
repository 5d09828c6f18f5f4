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

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from theta.corpus import groups
from theta.corpus.evidence import KINDS
from theta.corpus.records import Table, slices
from theta.errors import DataError

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
TOLERANCE = 0.1
"""How far the share of a split may be from the one that was asked for, as a fraction of it."""
MOST_OVER = 2
"""A held-out split that would be larger than its share by this factor is not accepted: ties are loosened."""
COMMON = 10
"""What at most as many conversations share ties them in any case."""
GROUPS_AT_ONCE = 1 << 17
"""As many groups are put in order at once."""


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
    conversations: Table, ties: Table, members: np.ndarray, validation_fraction: float, test_fraction: float
) -> Division:
    """Divide the conversations; a split is empty only if its fraction is 0.

    Args:
        conversations: a row for each, of which the columns `whole` and `point` are read.
        ties: what ties the members (evidence.TIE).
        members: whether a conversation is divided, bool [conversations].
        validation_fraction, test_fraction: the shares of the conversations; 0 holds none back.

    Raises:
        DataError: there are fewer conversations than splits.
    """
    count = int(members.sum())
    fractions = (validation_fraction, test_fraction)
    _require_one_for_each_split(count, fractions)
    steps = _steps(count, min(filter(None, fractions), default=0.0))
    for number, loosened in enumerate(steps):
        group_of = tied(ties, loosened, len(members))
        sizes = np.zeros(groups.number(group_of, members), np.int32)
        for part in slices(len(members)):
            np.add.at(sizes, group_of[part][members[part]], 1)
        split_of_group, is_filled = _fill(sizes, _points(conversations, group_of, len(sizes)), fractions)
        if is_filled or number == len(steps) - 1:
            break
    split = np.full(len(members), -1, np.int8)
    for part in slices(len(members)):
        split[part][members[part]] = split_of_group[group_of[part][members[part]]]
    return Division(split, len(sizes), int(sizes.max()), loosened, _shares(split, count, fractions))


def _require_one_for_each_split(count: int, fractions: Sequence[float]) -> None:
    names = ["train", *(name for name, fraction in zip(SPLITS[1:], fractions, strict=True) if fraction)]
    if count < len(names):
        listed = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        raise DataError(
            f"the number of distinct conversations is {count}; at least {len(names)} are needed, one each for "
            f"{listed}; add conversations, or hold none back with data.validation_fraction and data.test_fraction 0."
        )


def _shares(split: np.ndarray, count: int, fractions: Sequence[float]) -> str:
    """The splits whose share is not the one that was asked for, and their sizes."""
    off = []
    for side, fraction in zip((VALIDATION, TEST), fractions, strict=True):
        taken, target = int((split == side).sum()), _target(fraction, count)
        if abs(taken - target) > TOLERANCE * target:
            off.append(f"{SPLITS[side]} has {taken} of {count} conversations instead of {target}")
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


def tied(ties: Table, loosened: Loosened, count: int) -> np.ndarray:
    """Return the first conversation of the group of each, int32 [conversations]; see `groups`."""
    group_of = groups.alone(count)
    for _, some in ties.chunks():
        holds = some[_holds(some, loosened)]
        groups.unite(group_of, holds["one"], holds["other"])
    groups.settle(group_of)
    return group_of


def _holds(ties: np.ndarray, loosened: Loosened) -> np.ndarray:
    holds = ~np.isin(ties["kind"], [KINDS.index(kind) for kind in loosened.kinds])
    return holds if loosened.above is None else holds & (ties["shared_by"] <= loosened.above)


def _points(conversations: Table, group_of: np.ndarray, count: int) -> np.ndarray:
    """The point of each group, float64 [groups]: that of its conversation with the smallest key.

    Args:
        conversations: a row for each; no two members have the same key.
        group_of: the group of each, or -1.
        count: number of groups.
    """
    smallest, points = np.full(count, np.iinfo(np.uint64).max), np.empty(count)
    for part, rows in conversations.chunks():
        is_member = group_of[part] >= 0
        np.minimum.at(smallest, group_of[part][is_member], rows["whole"][is_member])
    for part, rows in conversations.chunks():
        is_first = (group_of[part] >= 0) & (rows["whole"] == smallest[group_of[part]])
        points[group_of[part][is_first]] = rows["point"][is_first]
    return points


def _fill(sizes: np.ndarray, points: np.ndarray, fractions: Sequence[float]) -> tuple[np.ndarray, bool]:
    """The split of each group, and whether each split has its share.

    Args:
        sizes, points: conversations of each group, and its point.
        fractions: of validation and of test.
    """
    count = int(sizes.sum())
    split = np.full(len(sizes), TRAIN, np.int8)
    held_back = [name for name in (VALIDATION, TEST) if fractions[name - 1]]
    if len(sizes) <= len(held_back):
        return split, False
    is_filled = True
    for number, name in enumerate(held_back):
        target = _target(fractions[name - 1], count)
        # Test still needs a group after validation, and train needs one after both.
        line = partial(_in_order, points, from_above=name == TEST)
        chosen = np.fromiter(_chosen(line, sizes, split, target, spare=len(held_back) - number), np.int32)
        is_filled &= bool((1 - TOLERANCE) * target <= sizes[chosen].sum() <= MOST_OVER * target)
        split[chosen] = name
    return split, is_filled


def _in_order(points: np.ndarray, *, from_above: bool) -> Iterator[int]:
    """Yield the groups by their points, ascending or descending; those that nobody asks for are not sorted."""
    borders = np.linspace(0, 1, len(points) // GROUPS_AT_ONCE + 2)
    ranges = list(pairwise(borders.tolist()))
    for begin, end in reversed(ranges) if from_above else ranges:
        inside = np.flatnonzero((points >= begin) & (points < end))
        order = inside[np.argsort(points[inside], kind="stable")]
        yield from (order[::-1] if from_above else order).tolist()


def _chosen(
    line: Callable[[], Iterable[int]], sizes: np.ndarray, split: np.ndarray, target: int, spare: int
) -> Iterator[int]:
    """Yield groups of train along the line until they have about `target` conversations; at least one group.

    `spare` is the number of groups that must remain in train.
    """
    taken, remaining = 0, int((split == TRAIN).sum())
    for group in line():
        if taken >= target or remaining <= spare:
            return
        if split[group] == TRAIN and taken + sizes[group] <= (1 + TOLERANCE) * target:
            taken += int(sizes[group])
            remaining -= 1
            yield group
    if not taken:
        smallest = sizes[split == TRAIN].min()
        yield next(group for group in line() if split[group] == TRAIN and sizes[group] == smallest)
