"""One raw item -> a conversation, or the reason why it was rejected.

These shapes are understood, with keys in any case; each may also have a `system` text:

    {"question": ..., "answer": ...}                     and the other names of QUESTIONS and REPLIES
    {"instruction": ..., "input": ..., "output": ...}    the input, if any, follows the instruction
    {"messages": [{"role": ..., "content": ...}, ...]}   and the other names of MESSAGE_LISTS, ROLE_KEYS, CONTENT_KEYS
    {"exchanges": [{"question": ..., "answer": ...}, ...]}
    {"text": ...}                                        a plain text, for continued pretraining
"""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from theta.conversation.messages import Conversation, Message, Role
from theta.corpus.items import Item, Notes, Reject, Rules

QUESTIONS = ("question", "instruction", "prompt", "query", "input")
REPLIES = ("answer", "response", "completion", "output")
INSTRUCTION_INPUTS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
MESSAGE_LISTS = ("messages", "conversation", "conversations", "dialogue", "dialog", "turns")
EXCHANGES = "exchanges"
TEXT = "text"
LABELS = ("label", "labels")
"""A text with one of these keys is an example for a classifier, not a text to learn."""
ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text")
DOMAINS = ("domain", "category", "topic")

ROLE_NAMES: dict[Role, tuple[str, ...]] = {
    "system": ("system", "developer"),
    "user": ("user", "human", "prompter", "question"),
    "assistant": ("assistant", "gpt", "bot", "model", "chatbot", "theta", "answer"),
}
_ROLES: dict[str, Role] = {name: role for role, names in ROLE_NAMES.items() for name in names}

# Control characters other than \n and \t, and halves of surrogate pairs, which UTF-8 cannot encode.
_UNWANTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_DETAIL_CHARACTERS = 120


@dataclass(frozen=True, slots=True)
class Shaped:
    """An item that is a conversation."""

    conversation: Conversation
    unanswered_question_cut: bool
    """Whether a last question without a reply was removed."""


class _UnusableError(Exception):
    """The item is not a usable conversation, for a reason and with the value that caused it."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail[:_DETAIL_CHARACTERS]


def read(value: Any, source: str, domain: str) -> Shaped | Reject:
    """Return the conversation that a raw item holds; `domain` is used if the item names none."""
    try:
        if not isinstance(value, dict):
            raise _UnusableError("not_an_object", type(value).__name__)
        fields = _lowered(value)
        messages, cut = (_text(fields), False) if _is_text(fields) else _arranged(_system(fields) + _turns(fields))
    except _UnusableError as fault:
        return Reject(source, fault.reason, fault.detail, value)
    return Shaped(Conversation(messages, _domain(fields) or domain, source), cut)


def is_conversation(value: Mapping[str, Any]) -> bool:
    """Whether the only object of a file is one conversation rather than a container of a list of them."""
    fields = _lowered(value)
    lists = [fields[key] for key in MESSAGE_LISTS if isinstance(fields.get(key), list)]
    entries = [_lowered(entry) for entries in lists for entry in entries if isinstance(entry, dict)]
    return bool(
        isinstance(fields.get(EXCHANGES), list)
        or (_first(QUESTIONS, fields) and _first(REPLIES, fields))
        or any(_first(ROLE_KEYS, entry) and _first(CONTENT_KEYS, entry) for entry in entries)
    )


def clean(text: str) -> str:
    """Return the text in NFC, with "\\n" line endings, without control characters and outer white space."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return unicodedata.normalize("NFC", _UNWANTED.sub("", text)).strip()


def _lowered(value: Mapping[str, Any]) -> dict[str, Any]:
    return {key.strip().lower(): entry for key, entry in value.items()}


def _first(names: tuple[str, ...], fields: Mapping[str, Any]) -> str | None:
    return next((name for name in names if name in fields), None)


def _is_text(fields: Mapping[str, Any]) -> bool:
    """Whether an item is a plain text: it has no question, reply or list of messages."""
    others = (*QUESTIONS, *REPLIES, *MESSAGE_LISTS, *SYSTEMS, EXCHANGES, *LABELS)
    return TEXT in fields and _first(others, fields) is None


def _text(fields: Mapping[str, Any]) -> tuple[Message, ...]:
    content = _content(fields[TEXT])
    if not content:
        raise _UnusableError("empty_text")
    return (Message("text", content),)


def _system(fields: Mapping[str, Any]) -> list[Message]:
    key = _first(SYSTEMS, fields)
    return [Message("system", _content(fields[key]))] if key else []


def _turns(fields: Mapping[str, Any]) -> list[Message]:
    for key in MESSAGE_LISTS:
        if isinstance(fields.get(key), list):
            return [_message(entry) for entry in fields[key]]
    if isinstance(fields.get(EXCHANGES), list):
        return [message for entry in fields[EXCHANGES] for message in _exchange(_object(entry))]
    return _exchange(fields)


def _message(entry: Any) -> Message:
    fields = _object(entry)
    role_key, content_key = _first(ROLE_KEYS, fields), _first(CONTENT_KEYS, fields)
    if role_key is None or content_key is None:
        raise _unknown_shape(fields)
    name = fields[role_key]
    role = _ROLES.get(name.strip().lower()) if isinstance(name, str) else None
    if role is None:
        raise _UnusableError("unknown_role", repr(name))
    return Message(role, _content(fields[content_key]))


def _exchange(fields: Mapping[str, Any]) -> list[Message]:
    question_key, reply_key = _first(QUESTIONS, fields), _first(REPLIES, fields)
    if question_key is None or reply_key is None:
        raise _unknown_shape(fields)
    keys = (question_key, *INSTRUCTION_INPUTS) if question_key == "instruction" else (question_key,)
    parts = [_content(fields.get(key)) for key in keys]
    question = "\n\n".join(part for part in parts if part)
    return [Message("user", question), Message("assistant", _content(fields[reply_key]))]


def _object(entry: Any) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise _UnusableError("unknown_shape", f"a message is of type {type(entry).__name__}")
    return _lowered(entry)


def _unknown_shape(fields: Mapping[str, Any]) -> _UnusableError:
    return _UnusableError("unknown_shape", f"keys {', '.join(sorted(fields)) or 'none'}")


def _content(value: Any) -> str:
    """Return text cleaned, a number as text, a missing value as empty text, and a list of text parts as one text."""
    if isinstance(value, str):
        return clean(value)
    if value is None:
        return ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list) and all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in value):
        return clean("\n".join(part["text"] for part in value))
    raise _UnusableError("content_not_text", type(value).__name__)


def _arranged(messages: list[Message]) -> tuple[tuple[Message, ...], bool]:
    """The messages in the order of a conversation, and whether a last unanswered question was removed."""
    messages = [message for message in messages if message.content or message.role != "system"]
    system = [message for message in messages[:1] if message.role == "system"]
    turns = messages[len(system) :]
    if any(message.role == "system" for message in turns):
        raise _UnusableError("misplaced_system_message")
    if not any(message.role == "assistant" for message in turns):
        raise _UnusableError("no_assistant_message")
    if turns[0].role == "assistant":
        raise _UnusableError("starts_with_assistant")
    for message, following in pairwise(turns):
        if message.role == following.role:
            raise _UnusableError("same_role_twice", message.role)
    cut = turns[-1].role == "user"
    if cut:
        turns.pop()
    for message in turns:
        if not message.content:
            raise _UnusableError("empty_question" if message.role == "user" else "empty_reply")
    return tuple(system + turns), cut


def _domain(fields: Mapping[str, Any]) -> str:
    """The domain that the item itself names; empty if it names none."""
    named = (fields[key] for key in DOMAINS if isinstance(fields.get(key), str))
    return next((text for text in (" ".join(clean(name).split()) for name in named) if text), "")


def shape(item: Item, rules: Rules, notes: Notes):
    r = read(item.value, item.source, item.domain)
    yield r if isinstance(r, Reject) else r.conversation


def is_message(value: Any) -> bool:
    return False
