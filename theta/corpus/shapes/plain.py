"""The commonest shapes, read quickly: a question and its reply, and messages of role and content in turn.

Whatever is not exactly so is left to the complete reading, which gives the same result.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from theta.conversation.messages import Conversation, Message
from theta.corpus.items import Item, Notes, Number, Rules
from theta.corpus.shapes.cleaning import clean

_QUESTIONS = frozenset(("question", "instruction", "prompt", "query"))
_REPLIES = frozenset(("answer", "response", "completion", "output"))
_LISTS = frozenset(("messages", "conversations", "conversation"))
_BESIDE = frozenset(("id", "source", "url", "domain", "category", "topic"))
_DOMAINS = ("domain", "category", "topic")
_ROLES = {"user": "user", "human": "user", "assistant": "assistant", "gpt": "assistant", "system": "system"}
_MESSAGE_KEYS = {("role", "content"): ("role", "content"), ("from", "value"): ("from", "value"),
                 ("content", "role"): ("role", "content"), ("value", "from"): ("from", "value")}  # fmt: skip


def read(item: Item, rules: Rules, notes: Notes) -> Conversation | None:
    """Return the conversation of an item of a common shape; None if it has another or needs mending."""
    value = item.value
    if type(value) is not dict or rules.fields or rules.roles or rules.speakers or rules.repair_encoding:
        return None
    plan = _plan(tuple(value)) if len(value) < 6 else None
    if plan is None:
        return None
    question, reply, chat = plan
    made = _messages(value[chat]) if chat else _exchange(value[question], value[reply])
    if made is None:
        return None
    notes.add("shape", "messages" if chat else "question and reply", item.source)
    return Conversation(made, _domain(value) or item.domain, item.source)


@lru_cache(maxsize=512)
def _plan(names: tuple[str, ...]) -> tuple[str, str, str] | None:
    """The names of the question and the reply, or that of the list of messages; None for other sets of names."""
    rest = [name for name in names if name not in _BESIDE]
    if len(rest) == 1 and rest[0] in _LISTS:
        return "", "", rest[0]
    if len(rest) == 2:
        asked = [name for name in rest if name in _QUESTIONS]
        replied = [name for name in rest if name in _REPLIES]
        if asked and replied:
            return asked[0], replied[0], ""
    return None


def _exchange(question: Any, reply: Any) -> tuple[Message, ...] | None:
    if type(question) is not str or type(reply) is not str:
        return None
    asked, replied = clean(question), clean(reply)
    if not asked or not replied or _may_be_more(asked) or _may_be_chat(replied):
        return None
    return Message("user", asked), Message("assistant", replied)


def _messages(entries: Any) -> tuple[Message, ...] | None:
    if type(entries) is not list or not entries or type(entries[0]) is not dict:
        return None
    names = _MESSAGE_KEYS.get(tuple(entries[0]))
    if names is None:
        return None
    role_key, content_key = names
    made: list[Message] = []
    awaited = "user"
    for entry in entries:
        if type(entry) is not dict or len(entry) != 2:
            return None
        role, content = _ROLES.get(entry.get(role_key, "")) if type(entry.get(role_key)) is str else None, entry.get(content_key)
        if type(content) is not str:
            return None
        content = clean(content)
        if not content:
            return None
        if role == awaited:
            awaited = "user" if role == "assistant" else "assistant"
        elif role != "system" or made:
            return None
        if role == "user" and "<" in content and _has_image(content):
            return None
        made.append(Message(role, content))  # type: ignore[arg-type]
    return tuple(made) if awaited == "user" and len(made) > 1 else None


def _may_be_more(question: str) -> bool:
    return question[-1] in ":>]" or (question[0] in "<[#" or ":" in question[:40]) or _has_image(question)


def _may_be_chat(reply: str) -> bool:
    return "\n" in reply and (":" in reply[:40] or reply[0] in "<[#")


def _has_image(text: str) -> bool:
    return "<" in text and any(mark in text for mark in ("<image", "<video", "<audio", "<img", "<|image"))


def _domain(value: Mapping[str, Any]) -> str:
    for name in _DOMAINS:
        if name in value and type(value[name]) is str and not isinstance(value[name], Number):
            words = " ".join(clean(value[name]).split())
            if words:
                return words
    return ""
