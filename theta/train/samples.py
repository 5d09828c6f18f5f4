"""What training reads: the documents of a store as each epoch shows them.

A *sample* is a document with one of its wordings for each question that has some. It may also be a chat of several
documents: a conversation that follows unrelated ones, as a later question of a long chat does. So the model learns to
answer a question that comes late as well as one that comes first, from data without long chats.

    documents        A  B  C  D
    samples, epoch 1 [B' A] [D] [C']      ' another wording
             epoch 2 [C] [D' B' A]

Everything follows from the settings and the seed, so a resumed run reads the same samples.
"""

from collections.abc import Iterator

import numpy as np

from theta.tokens.store import Store
from theta.tokens.vocabulary import ChatIds, Vocabulary
from theta.train.settings import TrainSettings

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
            follow_up_share: which part of the conversations follows others in a chat, 0 to 1.
            most_tokens: of a chat made so.
            chat_ids: the ids by which conversations are known that can be parts of a chat.
        """
        self._store, self._slots = store, store.slots()
        self.documents = size = store.split_size
        follows, leads = _chat_parts(store, chat_ids)
        parts: list[np.ndarray] = []
        first = [0]
        self._chosen = [self._slots.chosen(epoch, wording_share, seed) for epoch in range(epochs)]
        grown = [store.lengths[:size] + self._slots.growth(chosen, len(store))[:size] for chosen in self._chosen]
        self.epochs: list[range] = []
        for epoch, lengths in enumerate(grown):
            order = np.random.default_rng([seed, epoch, 2]).permutation(size)
            follow = follows & (np.random.default_rng([seed, epoch, 3]).random(size) < follow_up_share)
            sizes = np.fromiter(_chat_sizes(order, lengths, follow, leads, most_tokens), np.int64)
            parts.append(epoch * size + order)
            self.epochs.append(range(len(first) - 1, len(first) - 1 + len(sizes)))
            first += (first[-1] + np.cumsum(sizes)).tolist()
        self.split_size = len(first) - 1
        rehearsal = range(size, len(store))
        # A part is numbered by its epoch and its document; the documents for rehearsal have numbers behind all others.
        self._parts = np.concatenate([*parts, np.arange(len(rehearsal)) + epochs * size])
        self._first = np.append(first, first[-1] + 1 + np.arange(len(rehearsal)))
        self._size = size
        self.lengths = self._sums(np.concatenate([*grown, store.lengths[size:]]))
        self.learned_counts = self._sums(
            np.concatenate([np.tile(store.learned_counts[:size], epochs), store.learned_counts[size:]])
        )

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
        rehearsed = part - self._size * len(self.epochs)
        return self._size + rehearsed if rehearsed >= 0 else part % self._size

    def _part(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        ids, labels = self._store[self._document(part)]
        if part >= self._size * len(self.epochs):
            return ids, labels
        for begin, end, wording in self._slots.wordings(part % self._size, self._chosen[part // self._size]):
            ids = np.concatenate([ids[:begin], wording, ids[end:]])
            # No wording is learned, and neither is what it stands for.
            labels = np.concatenate([labels[:begin], np.full(len(wording), labels[begin]), labels[end:]])
        return ids, labels


def _chat_parts(store: Store, ids: ChatIds) -> tuple[np.ndarray, np.ndarray]:
    """Return which documents of the split can follow another in a chat, and which can be followed, bool [documents]."""
    first, last = store.first_ids[: store.split_size], store.last_ids[: store.split_size]
    return first == ids.user, np.isin(first, (ids.user, ids.system)) & (last == ids.end)


def _chat_sizes(
    order: np.ndarray, lengths: np.ndarray, follow: np.ndarray, leads: np.ndarray, most_tokens: int
) -> Iterator[int]:
    """Yield of how many documents each sample consists, in order."""
    size, tokens, can_go_on = 0, 0, False
    columns = (lengths[order].tolist(), follow[order].tolist(), leads[order].tolist())
    for length, follows, lead in zip(*columns, strict=True):
        if size and not (can_go_on and follows and tokens + length <= most_tokens):
            yield size
            size, tokens = 0, 0
        size, tokens, can_go_on = size + 1, tokens + length, lead
    if size:
        yield size


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
        follow_up_share=settings.follow_up_share,
        most_tokens=min(max_length, settings.tokens_per_step),
        chat_ids=vocabulary.chat_ids,
    )
