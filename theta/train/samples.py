"""What training reads: the documents of a store as each epoch shows them.

A *sample* is a document with one of its wordings for each question that has some. It may also be a chat of several
documents: a conversation that follows unrelated ones, as a later question of a long chat does. So the model learns to
answer a question that comes late as well as one that comes first, from data without long chats.

    documents        A  B  C  D           ' another wording
    samples, epoch 1 [B' A] [D] [C']      - an opening, only the first words of the reply
             epoch 2 [C A'-] [D' B' A-] [D' C'-]

Everything follows from the settings and the seed, so a resumed run reads the same samples.
"""

from itertools import chain

import numpy as np

from theta.tokens.store import IGNORED, Store
from theta.tokens.vocabulary import ChatIds, Vocabulary
from theta.train.chats import Joining, chat_parts, chats_of, parts_shown_again
from theta.train.parts import Parts
from theta.train.settings import TrainSettings

OPENING_TOKENS = 8
"""Learned tokens of an opening. With 4 or 16, as many answers are given in new wordings; see docs/decisions.md."""

FURTHER_SHARE, FURTHER_TOKENS = 0.05, 100_000
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
        self.documents = store.split_size
        self._parts = Parts(
            store,
            epochs=epochs,
            seed=seed,
            wording_share=wording_share,
            wordings_per_opening=wordings_per_opening,
            opening_tokens=opening_tokens,
        )
        joining = Joining(*chat_parts(store, chat_ids), follow_up_share, most_tokens)
        chats: list[list[int]] = []
        self.epochs: list[range] = []
        for epoch in range(epochs):
            made = self._chats_of(epoch, joining, np.random.default_rng([seed, epoch, 2]))
            self.epochs.append(range(len(chats), len(chats) + len(made)))
            chats += made
        self.split_size = len(chats)
        rehearsal = self._parts.rehearsal
        self._members = np.fromiter(chain(*chats, rehearsal), np.int64)
        self._first = np.cumsum([0, *map(len, chats), *(1 for _ in rehearsal)])
        self.lengths = self._sums(self._parts.lengths)
        self.learned_counts = self._sums(self._parts.learned_counts)

    def _chats_of(self, epoch: int, joining: Joining, draws: np.random.Generator) -> list[list[int]]:
        """Return the samples of an epoch, each as its parts."""
        whole = draws.permutation(self._parts.whole(epoch))
        openings = draws.permutation(self._parts.openings(epoch))
        following = {
            part
            for parts in (whole, openings)
            for part in parts[draws.random(len(parts)) < joining.share].tolist()
            if joining.follows[part % self.documents]
        }
        leading = whole[joining.leads[whole % self.documents]]
        again = parts_shown_again(openings, leading, self._parts.lengths, joining.most_tokens, draws)
        order = whole.tolist(), openings.tolist()
        return chats_of(
            *order, following, set(leading.tolist()), again, self._parts.lengths, joining.most_tokens, self.documents
        )

    @property
    def shown_again(self) -> float:
        """How many documents an epoch shows again, in front of openings, per document of the split."""
        shown = len(self.epochs) * self.documents  # the numbers of the parts that are whole documents are below
        return np.count_nonzero(self._members < shown) / shown - 1

    def _sums(self, of_part: np.ndarray) -> np.ndarray:
        return np.add.reduceat(of_part[self._members], self._first[:-1], dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and the labels of a sample, both int32 [length]."""
        pairs = [self._parts[part] for part in self._parts_of(index)]
        if len(pairs) == 1:
            return pairs[0]
        ids, labels = zip(*pairs, strict=True)
        return np.concatenate(ids), np.concatenate(labels)

    def source(self, index: int) -> str:
        """Return where the first document of a sample is from."""
        return self._parts.source(self._parts_of(index)[0])

    def _parts_of(self, index: int) -> list[int]:
        parts: list[int] = self._members[self._first[index] : self._first[index + 1]].tolist()
        return parts


def conversation_tokens(samples: Samples) -> int:
    """Return how many tokens a conversation may have for the model to reply as well as it has learned to.

    Nineteen of twenty learned tokens of the split's conversations stand no further than that from the beginning of
    their sample; where the last twentieth has more than `FURTHER_TOKENS`, all but these. Plain texts, in which nobody
    replies, count only if there is nothing else.
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
