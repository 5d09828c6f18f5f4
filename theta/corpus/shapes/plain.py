"""The commonest shapes, read quickly: a question and its reply, a text, and messages of role and content in turn.

Whatever is not exactly so is left to the complete reading. Both give the same result; a test compares them.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from theta.conversation.messages import Conversation, Message, Role
from theta.corpus.items import Item, Note, Notes, Rules
from theta.corpus.shapes import marks, transcripts
from theta.corpus.shapes.cleaning import clean
from theta.corpus.shapes.fields import DOMAINS, LABELS, METADATA, NO_INPUT, ROLE_KEYS

_QUESTIONS = ("question", "instruction", "prompt", "query")
_CONTEXTS = ("input", "context", "passage")
_REPLIES = ("answer", "response", "completion", "output")
_LISTS = ("messages", "conversations", "conversation")
_BESIDE = (
    (METADATA | frozenset(DOMAINS))
    - marks.ALL
    - {*LABELS, *ROLE_KEYS, "tools", "rejected", "mapping", "email", "emails"}
)
_MOST_KEYS = 12
_NO_INPUT_CHARACTERS = 1 + max(map(len, NO_INPUT))
_ROLES: dict[str, Role] = {
    "user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"
}  # fmt: skip
_MARKS = frozenset(("weight", "train", "trainable", "loss_weight"))
_FULL = (1, "1", "1.0")
"""Values of a mark that says nothing new: the reply is learned. True equals 1."""
_MESSAGES, _TEXT, _EXCHANGE = (Note("shape", name) for name in ("messages", "text", "question and reply"))
_MEDIA_SIGNS = ("<image", "<video", "<audio", "<img", "<|image")


class _Plan(NamedTuple):
    """Which keys of an object hold what; empty for those that it has not."""

    question: str = ""
    context: str = ""
    reply: str = ""
    messages: str = ""
    text: str = ""


def read(item: Item, rules: Rules, notes: Notes) -> Conversation | None:
    """Return the conversation of an item of a common shape; None if it has another or needs mending."""
    value = item.value
    if type(value) is not dict or len(value) > _MOST_KEYS or item.is_file:
        return None
    if rules.fields or rules.roles or rules.speakers or rules.repair_encoding:
        return None
    plan = _plan(tuple(value))
    if plan is None or dict in map(type, value.values()):  # it may hold a mark
        return None
    if plan.messages:
        made, note = _messages(value[plan.messages]), _MESSAGES
    elif plan.text:
        made, note = _text(value[plan.text]), _TEXT
    else:
        made, note = _exchange(value, plan), _EXCHANGE
    if made is None:
        return None
    notes.add_note(note, item.source)
    return Conversation(made, _domain(value) or item.domain, item.source)


@lru_cache(maxsize=512)
def _plan(names: tuple[str, ...]) -> _Plan | None:
    rest = {name for name in names if name not in _BESIDE}
    if len(rest) == 1:
        name = next(iter(rest))
        return _Plan(messages=name) if name in _LISTS else _Plan(text=name) if name == "text" else None
    asked, replied = rest.intersection(_QUESTIONS), rest.intersection(_REPLIES)
    about = rest.intersection(_CONTEXTS)
    if len(asked) == len(replied) == 1 and len(about) <= 1 and len(rest) == 2 + len(about):
        return _Plan(asked.pop(), about.pop() if about else "", replied.pop())
    return None


def _exchange(value: Mapping[str, Any], plan: _Plan) -> tuple[Message, ...] | None:
    question, reply = value[plan.question], value[plan.reply]
    if type(question) is not str or type(reply) is not str:
        return None
    asked, replied = clean(question), clean(reply)
    if (
        not asked
        or not replied
        or transcripts.may_be(asked)
        or asked[-1] in ":>]#"
        or replied[0] in "[<"
        or replied[-1] == ">"
    ):
        return None
    if plan.context and value[plan.context]:
        about = value[plan.context]
        if type(about) is not str:
            return None
        about = clean(about)
        if about:
            if about in asked or asked in about or (len(about) < _NO_INPUT_CHARACTERS and about.lower() in NO_INPUT):
                return None
            asked = f"{asked}\n\n{about}"
    if asked[-1] == ">" or ("<" in asked and _needs_media(asked)):
        return None
    return Message("user", asked), Message("assistant", replied)


def _text(text: Any) -> tuple[Message, ...] | None:
    if type(text) is not str:
        return None
    content = clean(text)
    return (Message("text", content),) if content and content[-1] != ">" and not transcripts.may_be(content) else None


def _messages(entries: Any) -> tuple[Message, ...] | None:  # noqa: PLR0911
    if type(entries) is not list or not entries:
        return None
    made: list[Message] = []
    awaited: Role = "user"
    for entry in entries:
        keys = _message_keys(tuple(entry)) if type(entry) is dict else None
        if keys is None:
            return None
        role_key, content_key, marked = keys
        name, content = entry[role_key], _content(entry[content_key])
        if type(name) is not str or content is None or (marked and entry[marked] not in _FULL):
            return None
        role = _ROLES.get(name)
        if role is None or not content or content[-1] == ">":
            return None
        if role == awaited:
            awaited = "user" if role == "assistant" else "assistant"
        elif role != "system" or made:
            return None
        if "<" in content and (_needs_media(content) if role == "user" else content[0] == "<"):
            return None
        made.append(Message(role, content))
    return tuple(made) if awaited == "user" and len(made) > 1 else None


@lru_cache(maxsize=512)
def _message_keys(names: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The keys of a message that hold the role, the content and a mark, if any."""
    rest = sorted(set(names) - {"role", "content", "from", "value"})
    if len(names) != 2 + len(rest) or len(rest) > 1 or not set(rest) <= _MARKS:
        return None
    for role, content in (("role", "content"), ("from", "value")):
        if role in names and content in names:
            return role, content, rest[0] if rest else ""
    return None


def _content(value: Any) -> str | None:
    """The text of a message, which may be a part of its own."""
    if type(value) is str:
        return clean(value)
    if type(value) is list and len(value) == 1 and type(value[0]) is dict and len(value[0]) == 2:
        part = value[0]
        if part.get("type") == "text":
            text = part.get("text", part.get("value"))
            return clean(text) if type(text) is str else None
    return None


def _needs_media(text: str) -> bool:
    return any(mark in text for mark in _MEDIA_SIGNS)


def _domain(value: Mapping[str, Any]) -> str:
    for name in DOMAINS:
        named = value.get(name)
        if type(named) is str and (words := " ".join(clean(named).split())):
            return words
    return ""
