"""Conversations as long as the model can use them, with room for the reply.

[system | exchange 1 | exchange 2 | last question <|assistant|>| reply ... ]
'------'            the oldest exchanges are dropped first      '--------'
  kept                                                        at least the reserve
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

from theta.conversation.messages import ROLES, Message
from theta.conversation.template import render, render_prompt
from theta.errors import GenerationError
from theta.tokens.vocabulary import Vocabulary

Prompt: TypeAlias = str | Sequence[Message | Mapping[str, Any]]
"""One question, or the messages of a conversation that ends with one."""


class Fitted(NamedTuple):
    """The prompt of a conversation."""

    ids: list[int]
    left_out: int
    """How many of its oldest messages it lacks."""


def to_messages(prompt: Prompt) -> list[Message]:
    """Return the prompt as checked messages: an optional system message, then user and assistant in turn.

    The last message is the user's.

    Raises:
        GenerationError: a message is wrong; the error names it (counted from 1), the value and what is expected.
    """
    values = [Message("user", prompt)] if isinstance(prompt, str) else prompt
    if isinstance(values, Mapping) or not isinstance(values, Sequence):
        raise GenerationError(f"The prompt is {values!r}, expected a text or a list of messages.")
    messages = [_message(number, value) for number, value in enumerate(values, start=1)]
    opening = 1 if messages and messages[0].role == "system" else 0
    for place, message in enumerate(messages[opening:]):
        expected = ("user", "assistant")[place % 2]
        if message.role != expected:
            raise GenerationError(f"Message {opening + place + 1} has role '{message.role}', expected '{expected}'.")
    if (len(messages) - opening) % 2 == 0:
        raise GenerationError("The conversation does not end with a message of the user; add the question to answer.")
    return messages


def _message(number: int, value: Message | Mapping[str, Any]) -> Message:
    try:
        role, content = (value.role, value.content) if isinstance(value, Message) else (value["role"], value["content"])
    except (KeyError, TypeError):
        raise GenerationError(f'Message {number} is {value!r}, expected {{"role": ..., "content": ...}}.') from None
    if role not in ROLES:
        raise GenerationError(f"Message {number} has role {role!r}, which is not one of {', '.join(ROLES)}.")
    if not isinstance(content, str) or not content.strip():
        raise GenerationError(f"Message {number} ({role}) has content {content!r}; give it some text.")
    try:
        content.encode()
    except UnicodeEncodeError:
        raise GenerationError(f"Message {number} ({role}) is not valid Unicode text: {content!r}.") from None
    return Message(role, content)


def fit(
    messages: Sequence[Message],
    vocabulary: Vocabulary,
    *,
    positions: int,
    max_length: int,
    conversation_tokens: int | None = None,
) -> Fitted:
    """Return the ids of the prompt, fewer than `positions`.

    The oldest exchanges (a question and its reply) are left out until a quarter of the tokens that the model can use
    remain for the reply, or `max_length`; the system message and the last question always stay, and may leave less.

    Args:
        messages: as `to_messages` returns them.
        positions: the most tokens that the model reads, prompt and reply together.
        max_length: the most tokens of the reply.
        conversation_tokens: how many the model has learned to deal with; with more history, its replies get worse.

    Raises:
        GenerationError: the system message and the last question leave no room for a single token.
    """
    parts = [*(render([message]) for message in messages), render_prompt([])]
    *encoded, ask = (ids for ids, _ in vocabulary.encode_many([list(part) for part in parts]))
    opening = encoded[: messages[0].role == "system"]
    turns = encoded[len(opening) :]
    usable = min(positions, conversation_tokens or positions)
    room = usable - min(max_length, usable // 4)
    size = len(ask) + sum(map(len, encoded))
    while size > room and len(turns) > 1:
        size -= len(turns[0]) + len(turns[1])
        turns = turns[2:]
    if size >= positions:
        raise GenerationError(
            f"The prompt has {size} tokens and leaves no room for a reply: the model reads {positions}, "
            f"prompt and reply together. Shorten the prompt by {size - positions + 1} tokens or more."
        )
    ids = [token for part in (*opening, *turns, ask) for token in part]
    return Fitted(ids, len(encoded) - len(opening) - len(turns))
