"""What training reads: the documents of a store as each epoch shows them.

A *sample* is a document with one of its wordings for each question that has some. It may also be a chat of several
documents: a conversation that follows unrelated ones, as a later question of a long chat does. So the model learns to
answer a question that comes late as well as one that comes first, from data without long chats.

    documents        A  B  C  D
    samples, epoch 1 [B' A] [D] [C']      ' another wording
             epoch 2 [C] [D' B' A]

Everything follows from the settings and the seed, so a resumed run reads the same samples.
"""

from collections.abc import Sequence, Set
from itertools import chain
from typing import NamedTuple

import numpy as np

from theta.tokens.store import IGNORED, Store
from theta.tokens.vocabulary import ChatIds, Vocabulary
from theta.train.settings import TrainSettings

OPENING_TOKENS = 8
"""Learned tokens of an opening. With 4 or 16, as many answers are given in new wordings; see docs/decisions.md."""
MOST_OPENINGS = 12
"""Of a document in an epoch."""

FURTHER_SHARE, FURTHER_TOKENS = 0.1, 100_000
"""As many learned tokens may stand further from the beginning than `conversation_tokens`. Places beyond it were learned
too seldom to rely on; see docs/decisions.md."""
MOST_READ = 4000
"""Samples that `conversation_tokens` reads, in place of all."""

NONE = ChatIds(-1, -1, -1)
"""No document is a part of a chat."""


class Samples:
    """The samples of all epochs, followed by the documents for rehearsal; read like a store.

    Attributes:
        epochs: the samples of each epoch, in a random order.
        documents: number of documents of the split.
        split_size: number of samples of the split; those after it are for rehearsal.
        lengths, learned_counts: tokens of each sample, and how many of them are learned; int64 [samples].
    """

    def __init__(
        self,
        store: Store,
        *,
        epochs: int,
        seed: int,
        wording_share: float = 0.0,
        wordings_per_opening: int = 0,
        opening_tokens: int = OPENING_TOKENS,
        follow_up_share: float = 0.0,
        most_tokens: int = 0,
        chat_ids: ChatIds = NONE,
    ) -> None:
        """Lay out the samples of all epochs.

        Args:
            store: the documents of the split, followed by those for rehearsal.
            epochs: number of epochs.
            seed: of the order, the wordings and the chats.
            wording_share: how often a question is asked in one of its other wordings, 0 to 1.
            wordings_per_opening: each epoch also shows the beginning of a document, as often as the number of wordings
                of its first question divided by this, rounded up; 0 for never.
            opening_tokens: learned tokens of such a beginning.
            follow_up_share: which part of the conversations follows others in a chat, 0 to 1.
            most_tokens: of a chat made so.
            chat_ids: the ids by which conversations are known that can be parts of a chat.
        """
        self._store, self._slots = store, store.slots()
        self.documents = store.split_size
        self._epochs = epochs
        nowhere: np.ndarray = np.zeros(len(store), np.int64)
        begins, reply_lengths = store.first_replies() if wordings_per_opening else (nowhere, nowhere)
        self._reply_begins: np.ndarray = begins
        self._opening_tokens = np.minimum(reply_lengths, opening_tokens)
        # Of an opening, only what is asked before the reply can have another wording.
        self._before_reply = self._slots.end <= self._reply_begins[self._slots.document]
        self._openings = self._count_openings(wordings_per_opening)
        # A pass goes over the documents with one choice of wordings: first the passes of whole documents, one for each
        # epoch, then those of openings.
        passes = epochs * int(self._openings.max(initial=0))
        self._chosen = [
            *self._slots.chosen(epochs, wording_share, seed),
            *self._slots.chosen(passes, wording_share, seed, use=1),
        ]
        lengths, learned = zip(*map(self._measured, range(len(self._chosen))), strict=True)
        rehearsal = range(self.documents, len(store))
        # A part is numbered by its pass and its document; the documents for rehearsal have numbers behind all others.
        self._rehearsed = len(self._chosen) * self.documents
        lengths_of_parts = np.concatenate([*lengths, store.lengths[rehearsal]])
        learned_of_parts = np.concatenate([*learned, store.learned_counts[rehearsal]])

        joining = _Joining(*_chat_parts(store, chat_ids), follow_up_share, most_tokens)
        chats: list[list[int]] = []
        self.epochs: list[range] = []
        for epoch in range(epochs):
            made = self._chats_of(epoch, joining, lengths_of_parts, np.random.default_rng([seed, epoch, 2]))
            self.epochs.append(range(len(chats), len(chats) + len(made)))
            chats += made
        self.split_size = len(chats)
        self._parts = np.fromiter(chain(*chats, self._rehearsed + np.arange(len(rehearsal))), np.int64)
        self._first = np.cumsum([0, *map(len, chats), *(1 for _ in rehearsal)])
        self.lengths = self._sums(lengths_of_parts)
        self.learned_counts = self._sums(learned_of_parts)

    def _count_openings(self, wordings_per_opening: int) -> np.ndarray:
        """Return how often each epoch shows the beginning of each document, int64 [documents of the split]."""
        wordings: np.ndarray = np.zeros(self.documents, np.int64)
        if wordings_per_opening:
            asked = self._before_reply & (self._slots.document < self.documents)
            np.maximum.at(wordings, self._slots.document[asked], np.diff(self._slots.first)[asked])
            wordings = -(-wordings // wordings_per_opening)
        openings: np.ndarray = np.minimum(wordings, MOST_OPENINGS)
        return openings

    def _measured(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Tokens of each document in a pass, and how many of them are learned; both int64 [documents of the split]."""
        store, size, chosen = self._store, self.documents, self._chosen[number]
        if number < self._epochs:
            return store.lengths[:size] + self._slots.growth(chosen, len(store))[:size], store.learned_counts[:size]
        grown = self._slots.growth(np.where(self._before_reply, chosen, -1), len(store))[:size]
        tokens = self._opening_tokens[:size]
        return self._reply_begins[:size] + grown + tokens, tokens

    def _chats_of(
        self, epoch: int, joining: "_Joining", lengths: np.ndarray, draws: np.random.Generator
    ) -> list[list[int]]:
        """Return the samples of an epoch, each as its parts."""
        openings = [self._opening_parts(epoch, turn) for turn in range(int(self._openings.max(initial=0)))]
        whole = draws.permutation(epoch * self.documents + np.arange(self.documents))
        beginnings = draws.permutation(np.concatenate([np.empty(0, np.int64), *openings]))
        following = {
            part
            for parts in (whole, beginnings)
            for part in parts[draws.random(len(parts)) < joining.share].tolist()
            if joining.follows[part % self.documents]
        }
        leading = set(whole[joining.leads[whole % self.documents]].tolist())
        order = whole.tolist(), beginnings.tolist()
        return _chats(*order, following, leading, lengths, joining.most_tokens, self.documents)

    def _opening_parts(self, epoch: int, turn: int) -> np.ndarray:
        """Return the parts of an epoch that are openings, one of each document that has more than `turn` of them."""
        documents = np.flatnonzero(self._openings > turn)
        # Each document takes its passes one after another, so that it uses all wordings before one recurs.
        passes = self._epochs + epoch * self._openings[documents] + turn
        parts: np.ndarray = passes * self.documents + documents
        return parts

    def _sums(self, of_part: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of_part[self._parts], self._first[:-1], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the labels of a sample, both int32 [length]."""
        pairs = [self._part(part) for part in self._parts_of(index)]
        if len(pairs) == 1:
            return pairs[0]
        ids, labels = zip(*pairs, strict=True)
        return np.concatenate(ids), np.concatenate(labels)

    def source(self, index: int) -> str:
        """Return where the first document of a sample is from."""
        return self._store.sources[self._document(self._parts_of(index)[0])]

    def _parts_of(self, index: int) -> list[int]:
        parts: list[int] = self._parts[self._first[index] : self._first[index + 1]].tolist()
        return parts

    def _document(self, part: int) -> int:
        rehearsed = part - self._rehearsed
        return self.documents + rehearsed if rehearsed >= 0 else part % self.documents

    def _part(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        document = self._document(part)
        ids, labels = self._store[document]
        if part >= self._rehearsed:
            return ids, labels
        number = part // self.documents
        if number >= self._epochs:
            end = self._reply_begins[document] + self._opening_tokens[document]
            ids, labels = ids[:end], labels[:end]
        for begin, end, wording in self._slots.wordings(document, self._chosen[number]):
            if end <= len(ids):
                ids = np.concatenate([ids[:begin], wording, ids[end:]])
                # No wording is learned, and neither is what it stands for.
                labels = np.concatenate([labels[:begin], np.full(len(wording), labels[begin]), labels[end:]])
        return ids, labels


class _Joining(NamedTuple):
    """How documents are joined to chats."""

    follows: np.ndarray
    """Which documents of the split can follow another, bool [documents]."""
    leads: np.ndarray
    """Which documents of the split can be followed, bool [documents]."""
    share: float
    """Which part of the documents follows another if it can."""
    most_tokens: int


def _chat_parts(store: Store, ids: ChatIds) -> tuple[np.ndarray, np.ndarray]:
    """Return which documents of the split can follow another in a chat, and which can be followed, bool [documents]."""
    first, last = (each[: store.split_size] for each in store.first_and_last_ids())
    # What follows a system message would be answered by it, and was not.
    return first == ids.user, (first == ids.user) & (last == ids.end)


def _chats(
    whole: Sequence[int],
    openings: Sequence[int],
    following: Set[int],
    leading: Set[int],
    lengths: np.ndarray,
    most_tokens: int,
    documents: int,
) -> list[list[int]]:
    """Combine parts into chats: whole documents one behind another, and at most one opening at the end of each.

    Args:
        whole, openings: parts, in the order in which they are combined.
        following: the parts that follow another one if they can.
        leading: the parts that can be followed.
        lengths: tokens of each part.
        most_tokens: of a chat of several parts.
        documents: their number; the remainder of a part is its document.
    """
    chats: list[list[int]] = []
    tokens: list[int] = []

    def can_take(chat: int, part: int) -> bool:
        if part not in following or chats[chat][-1] not in leading or tokens[chat] + lengths[part] > most_tokens:
            return False
        # A document does not follow itself: its answer would stand in front of its question.
        return part % documents not in {member % documents for member in chats[chat]}

    for part in whole:
        if chats and can_take(-1, part):
            chats[-1].append(part)
            tokens[-1] += lengths[part]
        else:
            chats.append([part])
            tokens.append(lengths[part])
    chat, last = 0, len(chats)
    for part in openings:
        if chat < last and can_take(chat, part):
            chats[chat].append(part)
        else:
            chats.append([part])
        chat += part in following
    return chats


def conversation_tokens(samples: Samples) -> int:
    """Return how many tokens a conversation may have for the model to reply as well as it has learned to.

    Nine of ten learned tokens of the split's conversations stand no further than that from the beginning of their
    sample; where the last tenth has more than `FURTHER_TOKENS`, all but these. Plain texts do not count unless there is
    nothing else: nobody replies in them.
    """
    step = -(-samples.split_size // MOST_READ)
    learned = [samples[index][1] != IGNORED for index in range(0, samples.split_size, step)]
    replies = [one for one in learned if not one[1:].all()] or learned  # a plain text is learned completely
    places = np.concatenate(list(map(np.flatnonzero, replies)))
    further = min(FURTHER_SHARE, FURTHER_TOKENS / (len(places) * step))
    return 1 + int(np.quantile(places, 1 - further, method="inverted_cdf"))


def samples_of(store: Store, settings: TrainSettings, vocabulary: Vocabulary, max_length: int) -> Samples:
    """Return the samples of a run.

    Args:
        store: the documents of the split, followed by those for rehearsal.
        max_length: of a chat of several documents, in tokens.
    """
    return Samples(
        store,
        epochs=settings.epochs,
        seed=settings.seed,
        wording_share=settings.wording_share,
        wordings_per_opening=settings.wordings_per_opening,
        follow_up_share=settings.follow_up_share,
        most_tokens=min(settings.follow_up_tokens, max_length, settings.tokens_per_step),
        chat_ids=vocabulary.chat_ids,
    )
