"""What a message says before it is known whether it can be learned, and where it was found."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from theta.corpus.items import Notes, Reject, Rules
from theta.corpus.shapes.fields import TurnRole, UnusableError

_DETAIL_CHARACTERS = 120


class Turn(NamedTuple):
    """A message as it was found."""

    role: TurnRole
    content: str
    learned: bool = True
    fault: str = ""
    """Why its exchange cannot be learned, such as "tool_call"; empty if it can."""
    wordings: tuple[str, ...] = ()
    """Other ways to ask it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value was found, how it is to be understood, and what is noted about it."""

    source: str
    domain: str
    rules: Rules
    notes: Notes
    takes_texts: bool = True
    """Whether a plain text is one to learn here; within an object it is mostly a part of something else."""
    wordings: tuple[str, ...] = ()
    """Other ways to ask the question of this value."""
    asked: str = ""
    """That question, where one key holds it; its context or options may follow it in the message."""
    is_file: bool = False
    """Whether the value is a text file as a whole."""

    def at(self, name: str | int) -> "Place":
        """Return the place of an entry of this value."""
        shown = "".join(character if character.isprintable() else "?" for character in str(name)[:60])
        return replace(self, source=f"{self.source}.{shown}", wordings=(), asked="", is_file=False)

    def note(self, kind: str, name: str) -> None:
        """Count a note about this value."""
        self.notes.add(kind, name, self.source)

    def reject(self, fault: UnusableError, value: Any) -> Reject:
        """Return the reject of this value."""
        return Reject(self.source, fault.reason, fault.detail[:_DETAIL_CHARACTERS], value)
