"""The parts that samples consist of: each document as each pass over the documents shows it.

A pass has one choice of wordings. First come the passes of whole documents, one for each epoch, then those of openings:
a document up to the first tokens of its first reply. The number of a part tells its pass and its document. The
documents for rehearsal, which have no wordings, are parts behind all others.
"""

import numpy as np

from theta.tokens.store import Store

MOST_OPENINGS = 24
"""Of a document in an epoch."""


class Parts:
    """The parts of all epochs; read like a store.

    Attributes:
        documents: number of documents of the split; the remainder of a part is its document.
        rehearsal: the parts for rehearsal.
        lengths, learned_counts: tokens of each part, and how many of them are learned; int64 [parts].
    """

    def __init__(
        self,
        store: Store,
        *,
        epochs: int,
        seed: int,
        wording_share: float,
        wordings_per_opening: int,
        opening_tokens: int,
    ) -> None:
        """Choose the wordings of all passes; the arguments are those of `Samples`."""
        self._store, self._slots, self._epochs = store, store.slots(), epochs
        self.documents = store.split_size
        nowhere: np.ndarray = np.zeros(len(store), np.int64)
        begins, reply_lengths = store.first_replies() if wordings_per_opening else (nowhere, nowhere)
        self._reply_begins: np.ndarray = begins
        self._opening_tokens = np.minimum(reply_lengths, opening_tokens)
        # Of an opening, only what is asked before the reply can have another wording.
        self._before_reply = self._slots.end <= self._reply_begins[self._slots.document]
        self._openings = self._count_openings(wordings_per_opening)
        passes = epochs * int(self._openings.max(initial=0))
        self._chosen = [
            *self._slots.chosen(epochs, wording_share, seed),
            *self._slots.chosen(passes, wording_share, seed, use=1),
        ]
        lengths, learned = zip(*map(self._measured, range(len(self._chosen))), strict=True)
        self.lengths = np.concatenate([*lengths, store.lengths[self.documents :]])
        self.learned_counts = np.concatenate([*learned, store.learned_counts[self.documents :]])
        self.rehearsal = range(len(self._chosen) * self.documents, len(self.lengths))

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

    def whole(self, epoch: int) -> np.ndarray:
        """Return the parts of an epoch that are whole documents, int64 [documents]."""
        parts: np.ndarray = epoch * self.documents + np.arange(self.documents)
        return parts

    def openings(self, epoch: int) -> np.ndarray:
        """Return the parts of an epoch that are openings, int64 [openings]."""
        turns = [self._turn(epoch, turn) for turn in range(int(self._openings.max(initial=0)))]
        return np.concatenate([np.empty(0, np.int64), *turns])

    def _turn(self, epoch: int, turn: int) -> np.ndarray:
        """Return an opening of each document that has more than `turn` of them in an epoch."""
        documents = np.flatnonzero(self._openings > turn)
        # Each document takes its passes one after another, so that it uses all wordings before one recurs.
        passes = self._epochs + epoch * self._openings[documents] + turn
        parts: np.ndarray = passes * self.documents + documents
        return parts

    def source(self, part: int) -> str:
        """Return where a part is from."""
        return self._store.sources[self._document(part)]

    def _document(self, part: int) -> int:
        rehearsed = part - self.rehearsal.start
        return self.documents + rehearsed if rehearsed >= 0 else part % self.documents

    def __getitem__(self, part: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the labels of a part, both int32 [length]."""
        document = self._document(part)
        ids, labels = self._store[document]
        if part >= self.rehearsal.start:
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
