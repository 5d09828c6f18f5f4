"""How a conversation is divided into documents of at most `max_length` tokens, and what is lost.

A conversation that is too long is split between exchanges (a user message and its reply); each part begins with the
system message. If a single exchange is too long, the end of its reply is cut off together with the end token, so that
the model does not learn to stop in the middle of a sentence. An exchange is dropped if its question leaves no room for
the reply; what follows it begins a new document, because the dropped exchange was its context. A part in which no reply
is learned is left out.

A plain text that is too long becomes consecutive documents of about equal length, cut at the end of a line or sentence
if one is near. No token is lost, and only the last document ends with the end token.

A wording that would make its document too long is left out.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from theta.conversation.messages import Conversation
from theta.tokens.wordings import Wording

Pieces = list[tuple[int, int]]
"""A document as slices [begin, end) of a batch of rendered conversations."""


class Loss(NamedTuple):
    """A reply or exchange of a conversation that is not learned, or not completely."""

    source: str
    exchange: int
    """Which exchange of the conversation, counting from 1."""
    reason: str
    """`reply_cut`, `question_too_long`, `system_too_long`, `nothing_learned`: a part without a learned reply, or
    `wordings_too_long`: the document has no room for some wordings of the question, and they are left out."""
    tokens: int
    """Length of the exchange with its system message, or of a document with its longest wordings."""
    kept_tokens: int
    """How many of them became part of a document."""


class _Exchange(NamedTuple):
    """A user message and its reply as slices of a batch."""

    number: int
    """Its place in the conversation, counting from 1."""
    begin: int
    reply: int
    end: int
    learned: bool

    @property
    def tokens(self) -> int:
        return self.end - self.begin


def chat_parts(conversation: Conversation, borders: Sequence[int], max_length: int) -> tuple[list[Pieces], list[Loss]]:
    """Return the documents of a chat, and what is lost.

    Args:
        borders: where each message begins in its batch, and where the last one ends.
    """
    messages = conversation.messages
    has_system = messages[0].role == "system"
    system = borders[0], borders[has_system]
    exchanges = [
        _Exchange(number, borders[place], borders[place + 1], borders[place + 2], messages[place + 1].learned)
        for number, place in enumerate(range(has_system, len(messages), 2), start=1)
    ]
    system_tokens = system[1] - system[0]
    losses: list[Loss] = []
    if borders[-1] - borders[0] <= max_length:
        groups = [exchanges]
    else:
        groups = list(_groups(exchanges, system_tokens, max_length, conversation.source, losses))
    parts = []
    for group in groups:
        if any(exchange.learned for exchange in group):
            parts.append([system, *((exchange.begin, exchange.end) for exchange in group)])
        else:
            losses += (
                Loss(conversation.source, exchange.number, "nothing_learned", system_tokens + exchange.tokens, 0)
                for exchange in group
            )
    return parts, losses


def _groups(
    exchanges: Sequence[_Exchange], system_tokens: int, max_length: int, source: str, losses: list[Loss]
) -> Iterator[list[_Exchange]]:
    """Yield groups of exchanges, each with as many as fit after the system message; add to `losses` what does not."""
    group: list[_Exchange] = []
    room = max_length - system_tokens
    for exchange in exchanges:
        if exchange.tokens > room and group:
            yield group
            group, room = [], max_length - system_tokens
        if exchange.tokens > room:
            fitting, reason = _fitting(exchange, room, max_length)
            kept_tokens = system_tokens + fitting.tokens if fitting else 0
            losses.append(Loss(source, exchange.number, reason, system_tokens + exchange.tokens, kept_tokens))
        else:
            fitting = exchange
        if fitting:
            group.append(fitting)
            room -= fitting.tokens
    if group:
        yield group


def _fitting(exchange: _Exchange, room: int, max_length: int) -> tuple[_Exchange | None, str]:
    """Cut an exchange that is too long; None if no learned token would be left. Return also the reason of the loss."""
    if not exchange.learned:
        return None, "nothing_learned"
    fixed = exchange.reply - exchange.begin + 1  # the question, and the token that begins the reply
    if room > fixed:
        return exchange._replace(end=exchange.begin + room), "reply_cut"
    return None, "system_too_long" if max_length > fixed else "question_too_long"


def text_parts(is_break: np.ndarray, begin: int, max_length: int) -> list[Pieces]:
    """Return the documents of a text.

    Args:
        is_break: whether each of its tokens ends a sentence or contains a line break, bool [tokens].
        begin: where it begins in its batch.
        max_length: of a document, in tokens.
    """
    parts: list[Pieces] = []
    done = 0
    while done < len(is_break):
        length = _piece_length(is_break, done, max_length)
        parts.append([(begin + done, begin + done + length)])
        done += length
    return parts


def _piece_length(is_break: np.ndarray, done: int, max_length: int) -> int:
    """Length of the next piece: an equal part of the rest, up to a quarter more or less so that it ends at a break.

    Args:
        is_break: whether a piece may end after each token of the text, bool [tokens].
        done: tokens of the pieces before.
    """
    rest = len(is_break) - done
    if rest <= max_length:
        return rest
    equal = -(-rest // -(-rest // max_length))
    shortest = equal - equal // 4
    longest = min(equal + equal // 4, max_length)
    lengths = shortest + np.flatnonzero(is_break[done + shortest - 1 : done + longest])
    return int(lengths[np.argmin(np.abs(lengths - equal))]) if len(lengths) else equal


LeftOut = tuple[int, int, int]
"""The position of a message, how many of its wordings are left out, and the document's length with the longest one."""


def wordings_within(
    pieces: Pieces, borders: Sequence[int], messages: Sequence[Sequence[np.ndarray]], max_length: int
) -> tuple[list[Wording], list[LeftOut]]:
    """Return the wordings of a document's messages that leave it within `max_length`, whichever of them are taken.

    Args:
        pieces: the document as slices of a batch.
        borders: where each message of its conversation begins in the batch, and where the last one ends.
        messages: the wordings of each message, with its special tokens.
    """
    room = max_length - sum(end - begin for begin, end in pieces)
    found: list[Wording] = []
    left_out: list[LeftOut] = []
    for at, (begin, end, wordings) in enumerate(zip(borders, borders[1:], messages, strict=False)):
        place = _place(pieces, begin, end) if wordings else None
        if place is None:
            continue
        growth = [len(ids) - (end - begin) for ids in wordings]
        fitting = [ids for ids, grown in zip(wordings, growth, strict=True) if grown <= room]
        if len(fitting) < len(wordings):
            left_out.append((at, len(wordings) - len(fitting), max_length - room + max(growth)))
        room -= max([0, *(grown for grown in growth if grown <= room)])
        found += (Wording(place, place + end - begin, ids) for ids in fitting)
    return found, left_out


def too_long(conversation: Conversation, pieces: Pieces, left_out: Sequence[LeftOut]) -> Iterator[Loss]:
    """Yield what is lost with the wordings that `wordings_within` left out of a document."""
    tokens = sum(end - begin for begin, end in pieces)
    has_system = conversation.messages[0].role == "system"
    for at, _, needed in left_out:
        yield Loss(conversation.source, (at - has_system) // 2 + 1, "wordings_too_long", needed, tokens)


def _place(pieces: Pieces, begin: int, end: int) -> int | None:
    """Where a slice of a batch begins in a document; None if the document does not hold it."""
    place = 0
    for first, last in pieces:
        if first <= begin and end <= last:
            return place + begin - first
        place += last - first
    return None
