"""Duplicates: conversations that are equal except for white space and case."""

from theta.conversation.messages import Conversation


class Seen:
    """The conversations seen so far."""

    def __init__(self) -> None:
        self._sources: dict[tuple[str, ...], str] = {}

    def earlier(self, conversation: Conversation) -> str | None:
        """Return the source of the first conversation with the same messages, or None if this one is the first."""
        first = self._sources.setdefault(_key(conversation), conversation.source)
        return None if first == conversation.source else first


def _key(conversation: Conversation) -> tuple[str, ...]:
    return tuple(f"{message.role} {' '.join(message.content.split()).casefold()}" for message in conversation.messages)
