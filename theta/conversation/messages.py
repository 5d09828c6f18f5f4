"""Messages and conversations."""

from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
ROLES: tuple[Role, ...] = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """What one side says."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """At most one system message, then user and assistant in turn, ending with the assistant."""

    messages: tuple[Message, ...]
    domain: str
    """What it is about, such as "linux"; metrics are reported by domain."""
    source: str
    """Where it came from, such as "Datasets/conversations/linux.json#12" (items count from 1)."""

    @property
    def first_user_content(self) -> str:
        """The question that opens it; splits are drawn by it."""
        return next(message.content for message in self.messages if message.role == "user")

    def to_json(self) -> dict[str, Any]:
        """The form of a line of `Datasets/prepared/*.jsonl`."""
        messages = [{"role": message.role, "content": message.content} for message in self.messages]
        return {"domain": self.domain, "source": self.source, "messages": messages}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Conversation":
        """The inverse of `to_json`."""
        messages = tuple(Message(message["role"], message["content"]) for message in value["messages"])
        return cls(messages, value["domain"], value["source"])
