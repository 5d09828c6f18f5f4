"""The fingerprints of all conversations of a corpus, most of them on disk, and the ties that follow from them."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from theta.corpus import groups, twins
from theta.corpus.fingerprints import SIGNATURE_SIZE, Fingerprints
from theta.corpus.records import Records, Table, slices, starts

Runs = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]
"""See Records.runs."""

BAND_PARTITION_BITS = 6
"""There are twelve bands of each question: 3 GB of records for 10 GB of conversations."""

KINDS = ("question", "reply", "short_reply", "twin")
"""What ties two conversations."""

TIES = "ties"
TIE = (("one", np.uint32), ("other", np.uint32), ("kind", np.uint8), ("shared_by", np.uint32))
"""Two conversations that should be in the same split, what ties them (a position in KINDS), and how many conversations
share it; 2 for near twins."""


class Evidence:
    """Collects fingerprints in the order of the conversations.

    Attributes:
        count: number of conversations.
        chats, questions, replies, openings: keys of all of them, once `close` was called.
    """

    def __init__(self, folder: Path, *, exact_twins: bool) -> None:
        self.count = 0
        self._exact_twins = exact_twins
        self._folder = folder
        self.chats = Records(folder, "chats")
        self.questions = Records(folder, "questions")
        self.replies = Records(folder, "replies")
        self.openings = Records(folder, "openings")
        self._bands = Records(folder, "bands", BAND_PARTITION_BITS)
        self._sketches = Table(folder / "sketches", [("values", np.uint8, SIGNATURE_SIZE)])
        self._signatures: list[np.ndarray] = []
        self._twin_owners: list[np.ndarray] = []
        self._twin_texts: list[str] = []

    def append(self, made: Fingerprints) -> None:
        """Add the fingerprints of the next conversations."""
        first = np.uint32(self.count)
        owners = np.arange(len(made.whole), dtype=np.uint32) + first
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
            texts = np.arange(len(self._sketches), len(self._sketches) + len(twin_owners), dtype=np.uint64)
            bands = twins.band_keys(made.signatures, twins.LARGE_ROWS).T
            self._bands.append(bands.ravel(), np.tile(twin_owners, len(bands)), np.tile(texts, len(bands)))
            self._sketches.append(len(texts), values=twins.sketches(made.signatures))
        self.count += len(owners)

    def duplicate_of(self, members: np.ndarray) -> np.ndarray:
        """Return the conversation that each member repeats, or -1: int32 [conversations].

        A chat also repeats a longer one that begins with it.
        """
        of = np.full(self.count, -1, np.int32)
        for owners, is_prefix, sizes in self.chats.runs(members):
            begins, run = starts(sizes), np.repeat(np.arange(len(sizes)), sizes)
            # The first longer chat of each run, or else its first chat.
            rank = np.lexsort((owners, is_prefix == 0, run))
            kept, has_longer = owners[rank][begins].astype(np.int32)[run], (is_prefix[rank][begins] == 1)[run]
            repeats = (is_prefix == 0) & (kept != owners) & (has_longer | (owners > kept))
            of[owners[repeats]] = kept[repeats]
        # Of a chain of ever longer chats, each repeats the longest.
        repeats = np.flatnonzero(of >= 0)
        while len(repeats := repeats[of[of[repeats]] >= 0]):
            of[repeats] = of[of[repeats]]
        return of

    def ties(self, members: np.ndarray) -> Table:
        """Return the ties between members, with the columns TIE; those of one key are a star around its first one."""
        ties = Table(self._folder / TIES, TIE)
        self._add_equal(ties, self.questions.runs(members), "question")
        self._add_equal(ties, self.replies.runs(members), "reply")
        for ones, others in [self._exact_pairs(members)] if self._exact_twins else self._sharing_bands(members):
            differ = ones != others
            ties.append(
                int(differ.sum()), one=ones[differ], other=others[differ], kind=KINDS.index("twin"), shared_by=2
            )
        ties.close()
        return ties

    def asked(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield keys of questions and wordings, uint64 [keys], in order, and how often each occurs, int64 [keys]."""
        for keys in self.questions.keys(members):
            yield np.unique(keys, return_counts=True)

    def _add_equal(self, ties: Table, runs: Runs, kind: str) -> None:
        for owners, extra, sizes in runs:
            ones = np.repeat(owners[starts(sizes)], sizes)
            differ = ones != owners
            kinds = np.full(int(differ.sum()), KINDS.index(kind), np.uint8)
            if kind == "reply":
                kinds += extra[differ].astype(np.uint8)  # of a short reply, the next kind
            shared_by = np.repeat(sizes, sizes)[differ]
            ties.append(len(kinds), one=ones[differ], other=owners[differ], kind=kinds, shared_by=shared_by)

    def _sharing_bands(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield a star for each group of near twins: all their pairs would take far more room than the data."""
        up = groups.alone(self.count)
        for owners, texts, sizes in self._bands.runs(members):
            begins, places = starts(sizes).astype(np.int32), np.arange(len(owners), dtype=np.int32)
            first = np.repeat(begins, sizes)
            for other in (first, np.maximum(first, places - 1)):  # the first of the run, and the one before
                pair = np.flatnonzero(groups.firsts(up, owners[other]) != groups.firsts(up, owners))
                similar = pair[twins.are_similar(self._sketches, texts[pair], texts[other[pair]])]
                groups.unite(up, owners[other[similar]], owners[similar])
        groups.settle(up)
        for part in slices(self.count):
            yield up[part], np.arange(part.start, part.stop)

    def asks_like_train(self, is_held: np.ndarray, is_train: np.ndarray) -> np.ndarray:
        """Return whether a conversation is held out and has a near twin in train; found anew, not from the ties.

        Args:
            is_held, is_train: the side of each conversation, bool [conversations].
        """
        found = np.zeros(self.count, np.bool_)
        if not self._exact_twins:
            for run in self._bands.runs(is_held | is_train):
                _add_with_twins(found, *run, self._sketches, is_held, is_train)
            return found
        owners, signatures = self._exact_owners(), self._exact_signatures()
        asking: dict[tuple[str, bool], list[int]] = {}
        for place in np.flatnonzero((is_held | is_train)[owners]).tolist():
            asking.setdefault((self._twin_texts[place], bool(is_held[owners[place]])), []).append(place)
        places, held = list(asking.values()), np.array([held for _, held in asking], np.bool_)
        found_texts = twins.across(signatures[[same[0] for same in places]], [text for text, _ in asking], held)
        found[owners[[place for n in found_texts for place in places[n]]]] = True
        return found

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
        """Write what is still in memory; nothing can be appended afterwards."""
        for each in (self.chats, self.questions, self.replies, self.openings, self._bands, self._sketches):
            each.close()

    def remove_files(self) -> None:
        """Remove the files of the keys."""
        for each in (self.chats, self.questions, self.replies, self.openings, self._bands, self._sketches):
            each.remove()
        (self._folder / TIES).unlink(missing_ok=True)


def _add_with_twins(
    found: np.ndarray,
    owners: np.ndarray,
    texts: np.ndarray,
    sizes: np.ndarray,
    sketches: Table,
    is_held: np.ndarray,
    is_train: np.ndarray,
) -> None:
    """Mark the held-out owners whose sketch is similar to that of the train record before or after it in the band."""
    first = np.repeat(starts(sizes).astype(np.int32), sizes)
    for other in _nearest(is_train[owners]):
        pair = np.flatnonzero(is_held[owners] & ~found[owners] & is_train[owners[other]] & (first[other] == first))
        found[owners[pair[twins.are_similar(sketches, texts[pair], texts[other[pair]])]]] = True


def _nearest(is_wanted: np.ndarray) -> Iterator[np.ndarray]:
    """Yield, for each place, the last wanted one up to it, then the first from it on; another if there is none."""
    places = np.arange(len(is_wanted), dtype=np.int32)
    yield np.maximum.accumulate(np.where(is_wanted, places, np.int32(0)))
    last = np.int32(len(is_wanted) - 1)
    yield np.minimum.accumulate(np.where(is_wanted, places, last)[::-1])[::-1]
