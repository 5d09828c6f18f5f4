"""How many conversations of a domain or of some files are learned: caps and weights.

Which of them are left out depends on a hash of each conversation, so it stays the same when others are added.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from theta.corpus.readers.finding import matches


def chosen(names: Sequence[str], codes: np.ndarray, pattern: str) -> np.ndarray:
    """Return which conversations a pattern means, bool [conversations].

    Args:
        names: of files or domains.
        codes: the position in `names` for each conversation, int [conversations].
        pattern: a glob.
    """
    return np.asarray(np.array([_means(pattern, name) for name in names], np.bool_)[codes])


def within_caps(members: np.ndarray, whole: np.ndarray, caps: Sequence[tuple[np.ndarray, int]]) -> np.ndarray:
    """Return the members that remain, bool [conversations].

    Args:
        members: which conversations count, bool [conversations].
        whole: a key of each conversation, uint64 [conversations].
        caps: for each cap, the conversations that it means and how many of them may remain.
    """
    remaining = members.copy()
    for meant, most in caps:
        places = np.flatnonzero(remaining & meant)
        remaining[places[np.argsort(whole[places], kind="stable")][most:]] = False
    return remaining


def repeats(whole: np.ndarray, weights: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Return how often each conversation is learned in an epoch, int32 [conversations]; 1 without a weight.

    Of a weight of 2.3, the part 0.3 means three of ten conversations once more.
    """
    weight = np.ones(len(whole))
    for meant, factor in weights:
        weight[meant] *= factor
    # Another hash than the key itself, of which the caps take the smallest.
    share = ((whole * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) / 2.0**53
    return np.floor(weight + share).astype(np.int32)


def without_meaning(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the patterns that mean none of the files and domains."""
    known = list(names)
    return [pattern for pattern in patterns if not any(_means(pattern, name) for name in known)]


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern matches a domain, or a file by its name or by the last parts of its path."""
    return matches(name, pattern) or matches(name, f"*/{pattern}")
