"""How many conversations of a domain or of some files are learned: caps and weights.

Which of them are left out depends on a hash of each conversation, so it stays the same when others are added.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from theta.corpus.readers.finding import matches
from theta.corpus.records import Table


@dataclass(frozen=True)
class Meant:
    """What an entry of data.caps or data.weights means.

    Attributes:
        files, domains: whether it means each file, bool [files], and each domain, bool [domains].
        amount: the cap or the weight.
    """

    files: np.ndarray
    domains: np.ndarray
    amount: float

    @classmethod
    def of(cls, pattern: str, amount: float, files: Sequence[str], domains: Sequence[str]) -> "Meant":
        """Compare a pattern with the names of all files and domains."""
        of_files, of_domains = ([_means(pattern, name) for name in names] for names in (files, domains))
        return cls(np.array(of_files, np.bool_), np.array(of_domains, np.bool_), amount)

    def chosen(self, rows: np.ndarray) -> np.ndarray:
        """Return which conversations it means, bool [len(rows)]."""
        return np.asarray(self.files[rows["file"]] | self.domains[rows["domain"]])


def within_caps(conversations: Table, members: np.ndarray, caps: Iterable[Meant]) -> np.ndarray:
    """Return the members that remain, bool [conversations].

    Args:
        conversations: a row for each, of which `file`, `domain` and `whole` are read; no two members have the same key.
        members: which conversations count, bool [conversations].
        caps: how many conversations may remain.
    """
    remaining = members.copy()
    for cap in caps:
        meant = [rows["whole"][remaining[part] & cap.chosen(rows)] for part, rows in conversations.chunks()]
        keys = np.concatenate([np.empty(0, np.uint64), *meant])
        if len(keys) > cap.amount:
            keys.sort()
            for part, rows in conversations.chunks():
                remaining[part] &= ~cap.chosen(rows) | (rows["whole"] < keys[int(cap.amount)])
    return remaining


def repeats(conversations: Table, weights: Sequence[Meant]) -> np.ndarray:
    """Return how often each conversation is learned in an epoch, int32 [conversations]; 1 without a weight.

    Of a weight of 2.3, the part 0.3 means three of ten conversations once more.
    """
    times = np.ones(len(conversations), np.int32)
    for part, rows in conversations.chunks() if weights else ():
        weight = np.ones(len(rows))
        for each in weights:
            weight[each.chosen(rows)] *= each.amount
        # Another hash than the key itself, of which the caps take the smallest.
        share = ((rows["whole"] * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(11)) / 2.0**53
        times[part] = np.floor(weight + share)
    return times


def without_meaning(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """Return the patterns that mean none of the files and domains."""
    known = list(names)
    return [pattern for pattern in patterns if not any(_means(pattern, name) for name in known)]


def _means(pattern: str, name: str) -> bool:
    """Whether a pattern matches a domain, or a file by its name or by the last parts of its path."""
    return matches(name, pattern) or matches(name, f"*/{pattern}")
