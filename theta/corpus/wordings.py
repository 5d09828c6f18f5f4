"""The wordings of trained questions: a part is held back, so that it can be measured, and rules add to the others.

a conversation of train ─┬─ with the wordings that are learned, written and made by rules ── train.jsonl
                         └─ one for each new wording: a wording that is held back ────────── new_wordings.jsonl
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import orjson

from theta.conversation.messages import Conversation, Message
from theta.corpus.english import is_english
from theta.corpus.evidence import Evidence
from theta.corpus.fingerprints import wording_key
from theta.corpus.gather import line
from theta.corpus.keys import key, point
from theta.corpus.rewording import rewordings

MOST_REWORDINGS = 320_000
"""With more conversations, each gets fewer rewordings than the setting says: much data has many wordings of its own,
and the files would grow several times."""
EXAMPLES = 12
REWORDINGS_SHOWN = 6


@dataclass
class Wordings:
    """Divides the wordings of the conversations of train, and counts them.

    Attributes:
        new_fraction: the share of the written wordings that is held back, by a hash of each.
        rewordings: rewordings of each first question.
        any_language: whether questions that are not English are reworded too, by the rules that need no language.
        evidence, members: the questions and wordings of all conversations, those that are held out included, and which
            conversations take part. What occurs in several places is never held back, because it might be learned in
            another place, and no rule makes what is a question or a wording already.
        learned, new, made: number of written wordings that are learned, of those held back, and of rewordings.
        examples: some questions with some of their rewordings.
    """

    new_fraction: float
    rewordings: int
    any_language: bool
    evidence: Evidence
    members: np.ndarray
    learned: int = 0
    new: int = 0
    made: int = 0
    examples: list[tuple[str, list[str]]] = field(default_factory=list)

    def divide(self, text: bytes) -> tuple[bytes, bytes]:
        """Return the line of a conversation of train as it is learned, and a line for each of its new wordings."""
        if not self.rewordings and not has_wordings(text):
            return text, b""
        conversation = Conversation.from_json(orjson.loads(text))
        if conversation.is_text:
            return text, b""
        at = next(at for at, message in enumerate(conversation.messages) if message.role == "user")
        asked = conversation.messages[at]
        is_learned = conversation.messages[at + 1].learned
        new = [wording for wording in asked.wordings if is_learned and self._is_new(wording)]
        written = tuple(wording for wording in asked.wordings if wording not in new)
        made = self._reworded(conversation, asked, written)
        self.new += len(new)
        self.made += len(made)
        learned = _with_wordings(conversation, at, (*written, *made))
        self.learned += sum(len(message.wordings) for message in learned.messages) - len(made)
        opening = [replace(conversation, messages=_opening(conversation, at, wording)) for wording in new]
        return line(learned.to_json()), b"".join(line(each.to_json()) for each in opening)

    def _is_new(self, wording: str) -> bool:
        normal = key(wording)
        return point(f"wording {normal}") < self.new_fraction and self._count(wording_key(normal)) < 2

    @cached_property
    def _asked(self) -> tuple[np.ndarray, np.ndarray]:
        return self.evidence.asked(self.members)

    def _count(self, wanted: int) -> int:
        """How often a key occurs."""
        keys, counts = self._asked
        place = int(np.searchsorted(keys, np.uint64(wanted)))
        return int(counts[place]) if place < len(keys) and int(keys[place]) == wanted else 0

    def _reworded(self, conversation: Conversation, asked: Message, written: tuple[str, ...]) -> tuple[str, ...]:
        if not self.rewordings:
            return ()
        english = is_english(f"{asked.content} {conversation.messages[-1].content}")
        if not english and not self.any_language:
            return ()
        own = {wording_key(key(wording)) for wording in (asked.content, *written)}
        made = {
            wording: wording_key(key(wording))
            for wording in rewordings(asked.content, written, self.rewordings, english=english)
        }
        kept = tuple(wording for wording, made_key in made.items() if made_key in own or not self._count(made_key))
        if kept and len(self.examples) < EXAMPLES:
            self.examples.append((asked.content, list(kept[:REWORDINGS_SHOWN])))
        return kept


def has_wordings(text: bytes) -> bool:
    """Whether the line of a conversation holds wordings; a quotation mark within a text is escaped."""
    return b'"wordings":' in text


def without_wordings(text: bytes) -> bytes:
    """Return the line of a conversation that is held back: it is asked as it was written."""
    if not has_wordings(text):
        return text
    conversation = Conversation.from_json(orjson.loads(text))
    messages = tuple(replace(message, wordings=()) for message in conversation.messages)
    return line(replace(conversation, messages=messages).to_json())


def _with_wordings(conversation: Conversation, at: int, wordings: tuple[str, ...]) -> Conversation:
    messages = conversation.messages
    return replace(
        conversation, messages=(*messages[:at], replace(messages[at], wordings=wordings), *messages[at + 1 :])
    )


def _opening(conversation: Conversation, at: int, wording: str) -> tuple[Message, ...]:
    """The first exchange, asked in other words."""
    return (*conversation.messages[:at], Message("user", wording), conversation.messages[at + 1])
