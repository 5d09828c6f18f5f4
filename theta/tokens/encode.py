"""Conversations -> documents of at most `max_length` tokens, and counts of splits, cuts and drops.

A conversation that is too long is split between exchanges (a user message and its reply); each part begins with the
system message. If a single exchange is too long, the end of its reply is cut off together with the end token, so that
the model does not learn to stop in the middle of a sentence. An exchange is dropped if its question leaves no room for
the reply.

A plain text that is too long becomes consecutive documents of about equal length, cut at the end of a line or sentence
if one is near. No token is lost, and only the last document ends with the end token.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from theta.conversation.messages import Conversation
from theta.conversation.template import render
from theta.tokens.store import Document
from theta.tokens.vocabulary import Vocabulary

CONVERSATIONS_PER_BATCH = 1024

Encoded = tuple[list[int], list[bool]]


@dataclass(slots=True)
class Encoding:
    """Counts that `documents` fills.

    Attributes:
        conversations: number of conversations read.
        split: conversations that became several documents.
        replies_cut: replies whose end was cut off.
        exchanges_dropped: exchanges whose question left no room for the reply.
        learned_tokens: tokens that the model is trained to produce.
        lengths: number of documents of each length in tokens.
    """

    conversations: int = 0
    split: int = 0
    replies_cut: int = 0
    exchanges_dropped: int = 0
    learned_tokens: int = 0
    lengths: Counter[int] = field(default_factory=Counter)


def documents(
    conversations: Iterable[Conversation], vocabulary: Vocabulary, max_length: int, counts: Encoding
) -> Iterator[Document]:
    """Encode conversations in order; `counts` is updated while the iterator runs."""
    remaining = iter(conversations)
    while batch := list(islice(remaining, CONVERSATIONS_PER_BATCH)):
        messages = [message for conversation in batch for message in conversation.messages]
        encoded = iter(vocabulary.encode_many([list(render([message])) for message in messages]))
        for conversation in batch:
            counts.conversations += 1
            messages_encoded = list(islice(encoded, len(conversation.messages)))
            if conversation.is_text:
                parts = list(_pieces(messages_encoded[0][0], vocabulary.break_ids, max_length))
            else:
                parts = list(_parts(conversation, messages_encoded, max_length, counts))
            counts.split += len(parts) > 1
            for ids, learned in parts:
                counts.lengths[len(ids)] += 1
                counts.learned_tokens += sum(learned)
                learned_text = vocabulary.decode(i for i, is_learned in zip(ids, learned, strict=True) if is_learned)
                yield Document(ids, learned, conversation.domain, conversation.source, len(learned_text.encode()))


def _parts(
    conversation: Conversation, encoded: Sequence[Encoded], max_length: int, counts: Encoding
) -> Iterator[Encoded]:
    """Yield groups of complete exchanges, each with as many as fit."""
    has_system = conversation.messages[0].role == "system"
    system: Encoded = encoded[0] if has_system else ([], [])
    rest = encoded[has_system:]
    part, room = [system], max_length - len(system[0])
    for question, reply in zip(rest[::2], rest[1::2], strict=True):
        needed = len(question[0]) + len(reply[0])
        if needed > room and len(part) > 1:
            yield _joined(part)
            part, room = [system], max_length - len(system[0])
        fitting = _cut(reply, room - len(question[0]))
        if not any(fitting[1]):
            counts.exchanges_dropped += 1
            continue
        counts.replies_cut += len(fitting[0]) < len(reply[0])
        part += [question, fitting]
        room -= len(question[0]) + len(fitting[0])
    if len(part) > 1:
        yield _joined(part)


def _pieces(ids: Sequence[int], break_ids: frozenset[int], max_length: int) -> Iterator[Encoded]:
    """Yield consecutive pieces of a text, each of at most `max_length` tokens."""
    begin = 0
    while begin < len(ids):
        end = begin + _piece_length(ids[begin:], break_ids, max_length)
        # The first token of a document is not learned, because no token precedes it to predict it from.
        yield list(ids[begin:end]), [False] + [True] * (end - begin - 1)
        begin = end


def _piece_length(rest: Sequence[int], break_ids: frozenset[int], max_length: int) -> int:
    """Length of the next piece: an equal part of the rest, up to a quarter more or less so that it ends at a break."""
    if len(rest) <= max_length:
        return len(rest)
    equal = -(-len(rest) // -(-len(rest) // max_length))
    lengths = range(equal - equal // 4, min(equal + equal // 4, max_length) + 1)
    breaks = [length for length in lengths if rest[length - 1] in break_ids]
    return min(breaks, key=lambda length: abs(length - equal), default=equal)


def _cut(encoded: Encoded, length: int) -> Encoded:
    return encoded[0][: max(length, 0)], encoded[1][: max(length, 0)]


def _joined(part: Sequence[Encoded]) -> Encoded:
    return [i for ids, _ in part for i in ids], [flag for _, learned in part for flag in learned]
