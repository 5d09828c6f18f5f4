"""Conversations -> documents of at most `max_length` tokens, in batches, with counts and a list of what was lost."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np

from theta.conversation.messages import Conversation, Message, Role
from theta.conversation.template import render
from theta.tokens.ids import Encoder
from theta.tokens.parts import Loss, Pieces, chat_parts, text_parts, too_long, wordings_within
from theta.tokens.store import Documents
from theta.tokens.vocabulary import Vocabulary
from theta.tokens.wordings import Wording

LONGEST_COUNTED = 1 << 16
"""Needed lengths above it are counted together; no base has as many positions."""


@dataclass(slots=True)
class Counts:
    """Figures of encoded conversations.

    Attributes:
        conversations: number of conversations read.
        split: conversations that became several documents.
        replies_cut: replies whose end was cut off.
        exchanges_dropped: exchanges whose question left no room for the reply.
        wordings: other ways to ask, in all documents.
        wordings_left_out: those that would make their document too long.
        learned_tokens: tokens that the model is trained to produce.
        lengths: number of documents of each length in tokens.
        needed: of the conversations that lost a reply or a part of one, the number that needs each `max_length`.
        fallbacks: number of batches that gigatoken did not encode, by the reason.
    """

    conversations: int = 0
    split: int = 0
    replies_cut: int = 0
    exchanges_dropped: int = 0
    wordings: int = 0
    wordings_left_out: int = 0
    learned_tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    needed: Counter[int] = field(default_factory=Counter)
    fallbacks: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Counts") -> None:
        """Add the figures of other conversations."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True)
class Encoded:
    """What conversations became."""

    documents: Documents
    counts: Counts
    losses: list[Loss]


class ConversationEncoder:
    """Encodes conversations with a vocabulary.

    Attributes:
        vocabulary: the vocabulary.
        ids: encodes the texts.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.ids = Encoder(vocabulary.tokenizer)
        self._frames: dict[tuple[Role, bool], _Frame] = {}

    def encode(self, conversations: Sequence[Conversation], max_length: int) -> Encoded:
        """Encode conversations in order."""
        messages = [message for conversation in conversations for message in conversation.messages]
        batch, wordings = self._rendered(messages)
        counts = Counts(conversations=len(conversations))
        if self.ids.fallback:
            counts.fallbacks[self.ids.fallback] += 1
        losses: list[Loss] = []
        documents: list[Pieces] = []
        asked: list[list[Wording]] = []
        owners: list[Conversation] = []
        first = 0
        for conversation in conversations:
            last = first + len(conversation.messages)
            borders = batch.borders[first : last + 1]
            if borders[-1] - borders[0] <= max_length and conversation.messages[-1].learned:
                parts = [[(borders[0], borders[-1])]]
            elif conversation.is_text:
                parts = text_parts(self._is_break[batch.ids[borders[0] : borders[-1]]], borders[0], max_length)
            else:
                parts, lost = chat_parts(conversation, borders, max_length)
                if needed := max((loss.tokens for loss in lost if loss.reason != "nothing_learned"), default=0):
                    counts.needed[min(needed, LONGEST_COUNTED)] += 1
                losses += lost
            counts.split += len(parts) > 1
            documents += parts
            if any(wordings[first:last]):
                for part in parts:
                    found, left_out = wordings_within(part, borders, wordings[first:last], max_length)
                    asked.append(found)
                    counts.wordings += len(found)
                    counts.wordings_left_out += sum(number for _, number, _ in left_out)
                    losses += too_long(conversation, part, left_out)
            else:
                asked += ([] for _ in parts)
            owners += [conversation] * len(parts)
            first = last
        reasons = Counter(loss.reason for loss in losses)
        counts.replies_cut = reasons["reply_cut"]
        counts.exchanges_dropped = reasons["question_too_long"] + reasons["system_too_long"]
        return Encoded(self._laid_out(batch, documents, owners, asked, counts), counts, losses)

    def _rendered(self, messages: Sequence[Message]) -> tuple["_Batch", list[list[np.ndarray]]]:
        """Render and encode messages, laid end to end; and encode the wordings of each with its special tokens."""
        texts = [message.content for message in messages]
        encoded = self.ids.encode([*texts, *(wording for message in messages for wording in message.wordings)])
        frames = [self._frame(message.role, message.learned) for message in messages]
        others = iter(encoded[len(texts) :])
        wordings = [
            [np.concatenate([frame.before, next(others), frame.after]) for _ in message.wordings]
            if message.wordings
            else []
            for message, frame in zip(messages, frames, strict=True)
        ]
        contents = zip(frames, encoded, strict=False)
        arrays = [part for frame, ids in contents for part in (frame.before, ids, frame.after)]
        lengths = np.fromiter(map(len, arrays), dtype=np.int64, count=len(arrays))
        learned = np.repeat(np.array([frame.learned for frame in frames], dtype=bool).ravel(), lengths)
        borders = [0, *np.cumsum(lengths)[2::3].tolist()]
        return _Batch(np.concatenate([np.empty(0, np.int32), *arrays]), learned, borders), wordings

    def _frame(self, role: Role, learned: bool) -> "_Frame":
        """Return what stands around the text of a message."""
        if (role, learned) not in self._frames:
            spans = list(render([Message(role, "", learned)]))
            place = next(place for place, span in enumerate(spans) if not span.special)
            parts = spans[:place], spans[place : place + 1], spans[place + 1 :]
            before, _, after = (
                np.array([self.vocabulary.special_ids.get(span.text, 0) for span in part], dtype=np.int32)
                for part in parts
            )
            self._frames[role, learned] = _Frame(before, after, [any(span.learned for span in part) for part in parts])
        return self._frames[role, learned]

    @cached_property
    def _is_break(self) -> np.ndarray:
        """Whether each id ends a sentence or contains a line break, bool [ids]."""
        return np.isin(np.arange(self.vocabulary.size), list(self.vocabulary.break_ids))

    def _laid_out(
        self,
        batch: "_Batch",
        documents: Sequence[Pieces],
        owners: Sequence[Conversation],
        wordings: Sequence[Sequence[Wording]],
        counts: Counts,
    ) -> Documents:
        lengths = np.array([sum(end - begin for begin, end in pieces) for pieces in documents], dtype=np.int64)
        slices = _joined(piece for pieces in documents for piece in pieces)
        ids, learned = _gathered(batch.ids, slices), _gathered(batch.learned, slices)
        begins = np.cumsum(lengths) - lengths
        # The first token of a text is not learned, because no token precedes it to predict it from; that of a chat is
        # the token of a role, which is never learned.
        learned[begins] = False
        counts.learned_tokens = int(learned.sum())
        counts.lengths = Counter(lengths.tolist())
        return Documents(
            ids,
            learned,
            lengths,
            [owner.domain for owner in owners],
            [owner.source for owner in owners],
            self._learned_bytes(ids, learned, begins),
            wordings,
        )

    def _learned_bytes(self, ids: np.ndarray, learned: np.ndarray, begins: np.ndarray) -> np.ndarray:
        """Return the length of each document's learned text in UTF-8 bytes, int64 [documents]."""
        sizes = self.vocabulary.byte_counts
        if sizes is not None:
            # In 32 bits, which hold the bytes of a batch, the sums take a third of the time.
            return np.add.reduceat(sizes[ids] * learned, begins).astype(np.int64) if len(begins) else begins
        parts = zip(np.split(ids, begins[1:]), np.split(learned, begins[1:]), strict=True)
        texts = (self.vocabulary.decode(part[chosen].tolist()) for part, chosen in parts)
        return np.array([len(text.encode()) for text in texts][: len(begins)], dtype=np.int64)


class _Frame(NamedTuple):
    """The special tokens around the text of a message, int32, and whether they and the text are learned."""

    before: np.ndarray
    after: np.ndarray
    learned: list[bool]
    """Of what stands before, of the text, and of what stands after."""


class _Batch(NamedTuple):
    """Rendered messages, laid end to end."""

    ids: np.ndarray
    """int32 [tokens]"""
    learned: np.ndarray
    """bool [tokens]"""
    borders: list[int]
    """Where each message begins, and where the last one ends."""


def _gathered(array: np.ndarray, slices: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the slices of an array, laid end to end; a view if there is only one, for texts of many megabytes."""
    parts = [array[begin:end] for begin, end in slices]
    return parts[0] if len(parts) == 1 else np.concatenate([array[:0], *parts])


def _joined(slices: Iterator[tuple[int, int]]) -> Pieces:
    """Join slices that follow each other without a gap."""
    joined: Pieces = []
    for begin, end in slices:
        if begin == end:
            continue
        if joined and joined[-1][1] == begin:
            joined[-1] = joined[-1][0], end
        else:
            joined.append((begin, end))
    return joined
