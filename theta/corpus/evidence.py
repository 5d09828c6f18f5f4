"""The fingerprints of all conversations of a corpus, most of them on disk, and the ties that follow from them."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from theta.corpus import twins
from theta.corpus.fingerprints import SIGNATURE_SIZE, Fingerprints
from theta.corpus.keys import Records, starts

Runs = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""See Records.runs."""

BAND_PARTITION_BITS = 6
"""There are twelve bands of each question: 3 GB of records for 10 GB of conversations, a file of which is in memory."""

KINDS = ("question", "reply", "short_reply", "twin")
"""What ties two conversations."""


@dataclass(frozen=True, slots=True)
class Ties:
    """Pairs of conversations that should be in the same split.

    Attributes:
        ones, others: uint32 [ties].
        kinds: positions in KINDS, uint8 [ties].
        shared_by: number of conversations that share what ties the two; 2 for near twins. uint32 [ties].
    """

    ones: np.ndarray
    others: np.ndarray
    kinds: np.ndarray
    shared_by: np.ndarray


class Evidence:
    """Collects fingerprints in the order of the conversations.

    Attributes:
        count: number of conversations.
        points: a point for each, float64 [conversations], once `finish` was called.
        whole: the key of each, uint64 [conversations], likewise.
    """

    def __init__(self, folder: Path, *, exact_twins: bool) -> None:
        self.count = 0
        self._exact_twins = exact_twins
        self._points: list[np.ndarray] = []
        self._whole: list[np.ndarray] = []
        self.chats = Records(folder, "chats")
        self.questions = Records(folder, "questions")
        self.replies = Records(folder, "replies")
        self.openings = Records(folder, "openings")
        self._bands = Records(folder, "bands", BAND_PARTITION_BITS)
        self._sketches_path = folder / "sketches"
        self._sketches = self._sketches_path.open("wb")
        self._texts = 0
        self._signatures: list[np.ndarray] = []
        self._twin_owners: list[np.ndarray] = []
        self._twin_texts: list[str] = []

    def append(self, made: Fingerprints) -> None:
        """Add the fingerprints of the next conversations."""
        first = np.uint32(self.count)
        owners = np.arange(len(made.whole), dtype=np.uint32) + first
        self._points.append(made.points)
        self._whole.append(made.whole)
        self.chats.append(made.whole, owners)
        self.chats.append(made.prefixes, made.prefix_owners + first, 1)
        self.questions.append(made.questions, made.question_owners + first)
        self.replies.append(made.replies, made.reply_owners + first, made.reply_is_short.astype(np.uint64))
        self.openings.append(made.openings, owners, made.opening_replies)
        twin_owners = made.signature_owners + first
        if self._exact_twins:
            self._signatures.append(made.signatures)
            self._twin_owners.append(twin_owners)
            self._twin_texts += made.twin_texts
        else:
            texts = np.arange(self._texts, self._texts + len(twin_owners), dtype=np.uint64)
            bands = twins.band_keys(made.signatures, twins.LARGE_ROWS).T
            self._bands.append(bands.ravel(), np.tile(twin_owners, len(bands)), np.tile(texts, len(bands)))
            self._sketches.write(twins.sketches(made.signatures).tobytes())
            self._texts += len(texts)
        self.count += len(owners)

    def finish(self) -> None:
        """Write what is still in memory; nothing can be appended afterwards."""
        self.close()
        self.points = np.concatenate([np.empty(0), *self._points])
        self.whole = np.concatenate([np.empty(0, np.uint64), *self._whole])
        self._points.clear()
        self._whole.clear()

    def duplicate_of(self, members: np.ndarray) -> np.ndarray:
        """Return the conversation that each member repeats, or -1: int64 [conversations].

        A chat also repeats a longer one that begins with it.
        """
        of = np.full(self.count, -1, np.int64)
        for owners, is_prefix, sizes in self.chats.runs(members):
            begins, run = starts(sizes), np.repeat(np.arange(len(sizes)), sizes)
            # The first longer chat of each run, or else its first chat.
            rank = np.lexsort((owners, is_prefix == 0, run))
            kept, has_longer = owners[rank][begins].astype(np.int64)[run], (is_prefix[rank][begins] == 1)[run]
            repeats = (is_prefix == 0) & (kept != owners) & (has_longer | (owners > kept))
            of[owners[repeats]] = kept[repeats]
        # Of a chain of ever longer chats, each repeats the longest.
        while (further := (of >= 0) & (of[of] >= 0)).any():
            of[further] = of[of[further]]
        return of

    def ties(self, members: np.ndarray) -> Ties:
        """Return the ties between members; those of one key are a star around its first conversation."""
        parts = [
            *self._equal(self.questions.runs(members), "question"),
            *self._equal(self.replies.runs(members), "reply"),
            *self._twins(members),
            (np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.uint8), np.empty(0, np.uint32)),
        ]
        return Ties(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def asked(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys of questions and wordings, uint64 [keys], in order, and how often each occurs, int64 [keys]."""
        for keys in self.questions.keys(members):
            yield np.unique(keys, return_counts=True)

    def _equal(self, runs: Runs, kind: str) -> Iterator[tuple[np.ndarray, ...]]:
        for owners, extra, sizes in runs:
            ones = np.repeat(owners[starts(sizes)], sizes)
            differ = ones != owners
            kinds = np.full(int(differ.sum()), KINDS.index(kind), np.uint8)
            if kind == "reply":
                kinds += extra[differ].astype(np.uint8)  # of a short reply, the next kind
            yield ones[differ], owners[differ], kinds, np.repeat(sizes, sizes)[differ].astype(np.uint32)

    def _twins(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
        pairs = [self._exact_pairs(members)] if self._exact_twins else self._sharing_bands(members)
        for ones, others in pairs:
            differ = ones != others
            count = int(differ.sum())
            kinds = np.full(count, KINDS.index("twin"), np.uint8)
            yield ones[differ], others[differ], kinds, np.full(count, 2, np.uint32)

    def _sharing_bands(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield a star for each group of near twins: all their pairs would take far more memory than the data."""
        group_of = np.arange(self.count, dtype=np.int32)
        sketches = self._read_sketches()
        for owners, texts, sizes in self._bands.runs(members):
            begins = starts(sizes)
            is_first = np.zeros(len(owners), np.bool_)
            is_first[begins] = True
            previous = np.arange(len(owners)) - ~is_first
            for other in (np.repeat(begins, sizes), previous):
                pair = np.flatnonzero(owners[other] != owners)
                similar = pair[twins.are_similar(sketches, texts[pair], texts[other[pair]])]
                group_of = united(group_of, owners[other[similar]], owners[similar])
        order = np.argsort(group_of, kind="stable").astype(np.uint32)
        sizes = np.bincount(group_of)
        yield np.repeat(order[starts(sizes)], sizes), order

    def asks_like_train(self, is_held: np.ndarray, is_train: np.ndarray) -> np.ndarray:
        """Return the held-out conversations with a near twin in train, uint32; found anew, not from the ties.

        Args:
            is_held, is_train: the side of each conversation, bool [conversations].
        """
        if not self._exact_twins:
            sketches = self._read_sketches()
            runs = self._bands.runs(is_held | is_train)
            found = [_held_with_twins(*run, sketches, is_held, is_train) for run in runs]
            return np.unique(np.concatenate([np.empty(0, np.uint32), *found]))
        owners, signatures = self._exact_owners(), self._exact_signatures()
        asking: dict[tuple[str, bool], list[int]] = {}
        for place in np.flatnonzero((is_held | is_train)[owners]).tolist():
            asking.setdefault((self._twin_texts[place], bool(is_held[owners[place]])), []).append(place)
        places, held = list(asking.values()), np.array([held for _, held in asking], np.bool_)
        found_texts = twins.across(signatures[[same[0] for same in places]], [text for text, _ in asking], held)
        return np.unique(owners[[place for n in found_texts for place in places[n]]])

    def _read_sketches(self) -> np.ndarray:
        """The sketches of all texts; they stay on disk."""
        if not self._texts:
            return np.empty((0, SIGNATURE_SIZE), np.uint8)
        return np.memmap(self._sketches_path, np.uint8, "r", shape=(self._texts, SIGNATURE_SIZE))

    def _exact_pairs(self, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pairs of owners of near twins; equal texts are tied by their question keys already."""
        owners = self._exact_owners()
        first: dict[str, int] = {}
        for place in np.flatnonzero(members[owners]).tolist():
            first.setdefault(self._twin_texts[place], place)
        places = np.fromiter(first.values(), np.int64)
        found = owners[places[twins.pairs(self._exact_signatures()[places], list(first))]]
        return found[:, 0], found[:, 1]

    def _exact_owners(self) -> np.ndarray:
        return np.concatenate([np.empty(0, np.uint32), *self._twin_owners])

    def _exact_signatures(self) -> np.ndarray:
        return np.concatenate([np.empty((0, SIGNATURE_SIZE), np.uint32), *self._signatures])

    def close(self) -> None:
        """Close the files of the keys."""
        for records in (self.chats, self.questions, self.replies, self.openings, self._bands):
            records.close()
        self._sketches.close()

    def remove_files(self) -> None:
        """Remove the files of the keys."""
        for records in (self.chats, self.questions, self.replies, self.openings, self._bands):
            records.remove()
        self._sketches_path.unlink()


def united(group_of: np.ndarray, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the groups after the groups of each pair were united, int32 [conversations].

    Each group points to the smallest group that it is paired with, and then to the one that this points to, and so on.
    What still differs is paired again; at least half of the groups that can be united are, in two rounds.

    Args:
        group_of: the group of each conversation.
        ones, others: pairs of conversations.
    """
    of = np.arange(int(group_of.max(initial=-1)) + 1, dtype=np.int32)
    left, right = group_of[ones], group_of[others]
    while (differ := left != right).any():
        left, right = left[differ], right[differ]
        np.minimum.at(of, np.maximum(left, right), np.minimum(left, right))
        while (further := of[of] != of).any():
            of[further] = of[of[further]]
        left, right = of[left], of[right]
    return without_gaps(of[group_of])


def without_gaps(group_of: np.ndarray) -> np.ndarray:
    """Number the groups that occur, in their order: int32 [conversations]."""
    occurs = np.zeros(int(group_of.max(initial=-1)) + 1, np.bool_)
    occurs[group_of] = True
    return np.asarray((np.cumsum(occurs, dtype=np.int32) - 1)[group_of])


def _held_with_twins(
    owners: np.ndarray,
    texts: np.ndarray,
    sizes: np.ndarray,
    sketches: np.ndarray,
    is_held: np.ndarray,
    is_train: np.ndarray,
) -> np.ndarray:
    """The held-out owners whose sketch is similar to that of the train record before or after it in the band."""
    run, places = np.repeat(np.arange(len(sizes)), sizes), np.arange(len(owners))
    train, held = is_train[owners], is_held[owners]
    before = np.maximum.accumulate(np.where(train, places, 0))
    after = np.minimum.accumulate(np.where(train, places, len(owners) - 1)[::-1])[::-1]
    found = np.zeros(len(owners), np.bool_)
    for other in (before, after):
        pair = np.flatnonzero(held & train[other] & (run[other] == run))
        found[pair[twins.are_similar(sketches, texts[pair], texts[other[pair]])]] = True
    return owners[found]
