"""Messages and conversations. A plain text is a conversation of one message that nobody says to anybody."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "text"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
"""Who speaks in a conversation; `text` is the role of a plain text and stands alone."""

OPENING_CHARACTERS = 200

DOMAINS_SHOWN = 20
"""Domains that metrics and pictures name; a topic can be any text, so there may be thousands."""
OTHER_DOMAINS = "(others)"
"""The name of all domains that are not shown, together."""


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says, or a plain text."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """At most one system message, then user and assistant in turn, ending with the assistant; or one plain text."""

    messages: tuple[Message, ...]
    domain: str
    """What it is about, such as "linux"; metrics are reported by domain."""
    source: str
    """Where it came from, such as "Datasets/conversations/linux.json#12" (items count from 1)."""

    @property
    def is_text(self) -> bool:
        """Whether it is a plain text: nothing is asked, all of it is learned."""
        return self.messages[0].role == "text"

    @property
    def opening(self) -> str:
        """The first question, or the first characters of a text; splits are drawn by it."""
        if self.is_text:
            return self.messages[0].content[:OPENING_CHARACTERS]
        return next(message.content for message in self.messages if message.role == "user")

    def to_json(self) -> dict[str, Any]:
        """The form of a line of `Datasets/prepared/*.jsonl`."""
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"domain": self.domain, "source": self.source, "messages": messages}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Conversation":
        """The inverse of `to_json`.

        Raises:
            KeyError, TypeError, ValueError: the value is not what `to_json` gives.
        """
        messages = tuple(Message(message["role"], message["content"]) for message in value["messages"])
        texts = (value["domain"], value["source"], *(message.content for message in messages))
        if not messages or not all(isinstance(text, str) for text in texts):
            raise ValueError("it holds no conversation")
        return cls(messages, value["domain"], value["source"])


def domains_shown(counts: Mapping[str, int]) -> set[str]:
    """The largest domains, by their number of conversations or documents; of equal ones the first by name."""
    return set(sorted(counts, key=lambda domain: (-counts[domain], domain))[:DOMAINS_SHOWN])
