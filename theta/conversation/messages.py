"""Messages and conversations. A plain text is a conversation of one message with the role `text`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant", "text"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")
"""The roles of a chat; `text` is the role of the only message of a plain text."""

OPENING_CHARACTERS = 200

DOMAINS_SHOWN = 20
"""Number of domains that metrics and images name; a topic can be any text, so there may be thousands."""
OTHER_DOMAINS = "(others)"
"""The name under which all other domains are counted together."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat, or a plain text."""

    role: Role
    content: str
    learned: bool = True
    """Whether a reply is learned. A reply that is not learned is context: its labels are masked."""
    wordings: tuple[str, ...] = ()
    """Other ways to ask the same question. Each epoch of training asks in one of them or as `content` does."""

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands for the message in a line of `Datasets/prepared/*.jsonl`."""
        value: dict[str, Any] = {"role": self.role, "content": self.content}
        if not self.learned:
            value["learned"] = False
        if self.wordings:
            value["wordings"] = list(self.wordings)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Message":
        """Create a message from what `to_json` returned."""
        return cls(value["role"], value["content"], value.get("learned", True), tuple(value.get("wordings", ())))


@dataclass(frozen=True, slots=True)
class Conversation:
    """At most one system message, then user and assistant in turn, ending with the assistant; or one plain text."""

    messages: tuple[Message, ...]
    domain: str
    """The subject, such as "linux"; metrics are reported by domain."""
    source: str
    """File and item that it was read from, such as "Datasets/conversations/linux.json#12" (counting from 1)."""

    @property
    def is_text(self) -> bool:
        """Whether it is a plain text, without a question and learned completely."""
        return self.messages[0].role == "text"

    @property
    def opening(self) -> str:
        """The first question, or the first characters of a text; it decides the split."""
        if self.is_text:
            return self.messages[0].content[:OPENING_CHARACTERS]
        return next(message.content for message in self.messages if message.role == "user")

    def to_json(self) -> dict[str, Any]:
        """Return the object that a line of `Datasets/prepared/*.jsonl` holds."""
        messages = [message.to_json() for message in self.messages]
        return {"domain": self.domain, "source": self.source, "messages": messages}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Conversation":
        """Create a conversation from what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: the value does not have the form that `to_json` returns.
        """
        messages = tuple(map(Message.from_json, value["messages"]))
        said = [text for message in messages for text in (message.content, *message.wordings)]
        if not messages or {*map(type, said), type(value["domain"]), type(value["source"])} != {str}:
            raise ValueError("it holds no conversation")
        return cls(messages, value["domain"], value["source"])


def domains_shown(counts: Mapping[str, int]) -> set[str]:
    """Return the domains with the most conversations or documents; ties are broken by name."""
    return set(sorted(counts, key=lambda domain: (-counts[domain], domain))[:DOMAINS_SHOWN])
