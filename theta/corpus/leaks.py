"""What of the held-out splits stands in train, measured after the split; and content that many conversations repeat."""

from dataclasses import dataclass, field

import numpy as np

from theta.corpus.evidence import Evidence
from theta.corpus.records import Records, starts
from theta.corpus.splits import TEST, TRAIN, VALIDATION

MANY_QUESTIONS = 10
"""One reply to as many different questions is suspicious: it may be a filler."""
EXAMPLES = 20


@dataclass
class Repeated:
    """Content that several conversations share.

    Attributes:
        conflicts: number of questions with several answers; all that comes before the first reply is equal.
        conflict_examples: two conversations of some of them.
        fillers: number of replies that MANY_QUESTIONS conversations or more have.
        filler_examples: a conversation of the most frequent ones, with the number of conversations.
    """

    conflicts: int = 0
    conflict_examples: list[tuple[int, int]] = field(default_factory=list)
    fillers: int = 0
    filler_examples: list[tuple[int, int]] = field(default_factory=list)


def leaks(evidence: Evidence, split: np.ndarray) -> dict[str, dict[str, int]]:
    """Return, for validation and test, how many of their conversations have content that train has too."""
    shared = {
        "questions": _with_train(evidence.questions, split),
        "replies": _with_train(evidence.replies, split),
        "near_twins": evidence.asks_like_train(split > TRAIN, split == TRAIN),
    }
    return {
        name: {f"{what}_in_train": int((is_shared & (split == side)).sum()) for what, is_shared in shared.items()}
        for name, side in (("validation", VALIDATION), ("test", TEST))
    }


def repeated(evidence: Evidence, members: np.ndarray) -> Repeated:
    """Return conflicts, and replies that many conversations have."""
    found = Repeated()
    for owners, replies, sizes in evidence.openings.runs(members):
        begins, run = starts(sizes), np.repeat(np.arange(len(sizes)), sizes)
        different = np.flatnonzero(replies != replies[begins][run])
        first_different = different[np.unique(run[different], return_index=True)[1]]
        found.conflicts += len(first_different)
        found.conflict_examples += zip(
            owners[begins][run[first_different]].tolist(), owners[first_different].tolist(), strict=True
        )
        found.conflict_examples = sorted(found.conflict_examples)[:EXAMPLES]
    for owners, _, sizes in evidence.replies.runs(members):
        for begin, size in zip(starts(sizes)[sizes >= MANY_QUESTIONS], sizes[sizes >= MANY_QUESTIONS], strict=True):
            having = np.unique(owners[begin : begin + size])
            if len(having) >= MANY_QUESTIONS:
                found.fillers += 1
                found.filler_examples.append((int(having[0]), len(having)))
        found.filler_examples = sorted(found.filler_examples, key=lambda each: (-each[1], each[0]))[:EXAMPLES]
    return found


def _with_train(records: Records, split: np.ndarray) -> np.ndarray:
    """Whether each conversation shares a key with one in train, bool [conversations]."""
    found = np.zeros(len(split), np.bool_)
    for owners, _, sizes in records.runs(split >= 0):
        has_train = np.logical_or.reduceat(split[owners] == TRAIN, starts(sizes))
        found[owners[np.repeat(has_train, sizes)]] = True
    return found
