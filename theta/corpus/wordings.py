"""The wordings of trained questions: a part is held back, so that it can be measured, and rules add to the others.

a conversation of train ─┬─ with the wordings that are learned, written and made by rules ── train.jsonl
                         └─ one for each new wording: a wording that is held back ────────── new_wordings.jsonl
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import orjson

from theta.conversation.messages import Conversation, Message
from theta.corpus import gather
from theta.corpus.fingerprints import wording_key
from theta.corpus.gather import ANOTHER, ENGLISH, NOT_JUDGED, line
from theta.corpus.keys import key, point
from theta.corpus.rewording import rewordings

MOST_REWORDINGS = 320_000
"""With more conversations, each gets fewer rewordings than the setting says: much data has many wordings of its own,
and the files would grow several times."""
EXAMPLES = 12
REWORDINGS_SHOWN = 6


@dataclass(frozen=True)
class WordingRules:
    """How the wordings of train are divided.

    Attributes:
        new_fraction: the share of the written wordings that is held back, by a hash of each.
        rewordings: rewordings of each first question.
        any_language: whether questions that are not English are reworded too, by the rules that need no language.
        asked: the files of `save_asked`. What occurs in several places is never held back, because it might be learned
            in another place, and no rule makes what is a question or a wording already.
    """

    new_fraction: float
    rewordings: int
    any_language: bool
    asked: Path


@dataclass
class Wordings:
    """Lines of train with their wordings divided, and what came of it.

    Attributes:
        lines: the conversations as they are learned, each a line.
        held_back: a line for each new wording.
        learned, new, made: number of written wordings that are learned, of those held back, and of rewordings.
        examples: some questions with some of their rewordings.
    """

    lines: list[bytes] = field(default_factory=list)
    held_back: list[bytes] = field(default_factory=list)
    learned: int = 0
    new: int = 0
    made: int = 0
    examples: list[tuple[str, list[str]]] = field(default_factory=list)

    def count(self, later: "Wordings") -> None:
        """Add the counts and examples of later lines, but not the lines."""
        self.learned += later.learned
        self.new += later.new
        self.made += later.made
        self.examples += later.examples[: EXAMPLES - len(self.examples)]


_KEYS, _COUNTS = ".keys", ".counts"
"""The files of `save_asked`."""


def save_asked(path: Path, asked: Iterable[tuple[np.ndarray, np.ndarray]]) -> None:
    """Write how often each question and wording of all conversations occurs, those that are held out included.

    Other processes read it, each only the pages that it needs.

    Args:
        asked: keys, uint64 [keys], and how often each occurs, int64 [keys]; all keys are in order.
    """
    with path.with_suffix(_KEYS).open("wb") as all_keys, path.with_suffix(_COUNTS).open("wb") as all_counts:
        for keys, counts in asked:
            all_keys.write(keys.tobytes())
            all_counts.write(np.minimum(counts, 2).astype(np.uint8).tobytes())


def remove_asked(path: Path) -> None:
    """Remove the files of `save_asked`."""
    for suffix in (_KEYS, _COUNTS):
        path.with_suffix(suffix).unlink(missing_ok=True)


def divide(lines: Sequence[tuple[bytes, int]], rules: WordingRules) -> Wordings:
    """Divide the wordings of conversations of train; a pure function, run in any process.

    Args:
        lines: conversations for which `concerns` holds, each with its language.
        rules: how their wordings are divided.
    """
    asked = _Asked(rules.asked)
    made = Wordings()
    for text, language in lines:
        _divide(text, language, rules, asked, made)
    return made


def concerns(rows: np.ndarray, rules: WordingRules) -> np.ndarray:
    """Return whether conversations have wordings, or get some, bool [len(rows)].

    Args:
        rows: a row for each, of which `language` and `has_wordings` are read.
        rules: how wordings are divided.
    """
    reworded = [language for language in (ENGLISH, ANOTHER, NOT_JUDGED) if _is_reworded(language, rules)]
    return np.asarray(np.isin(rows["language"], reworded) | rows["has_wordings"])


def _is_reworded(language: int, rules: WordingRules) -> bool:
    return rules.rewordings > 0 and (language in (ENGLISH, NOT_JUDGED) or (language == ANOTHER and rules.any_language))


class _Asked:
    """How often each question and wording occurs."""

    def __init__(self, path: Path) -> None:
        self._keys = np.memmap(path.with_suffix(_KEYS), np.uint64, "r")
        self._counts = np.memmap(path.with_suffix(_COUNTS), np.uint8, "r")

    def counts(self, wanted: Sequence[int]) -> list[int]:
        """Return how often each of some keys occurs: 0, 1, or 2 for more."""
        sought = np.array(wanted, np.uint64)
        places = np.minimum(np.searchsorted(self._keys, sought), len(self._keys) - 1)
        counts: list[int] = np.where(self._keys[places] == sought, self._counts[places], 0).tolist()
        return counts


def _divide(text: bytes, language: int, rules: WordingRules, asked: _Asked, made: Wordings) -> None:
    """Add the line of a conversation as it is learned, and a line for each of its new wordings."""
    conversation = Conversation.from_json(orjson.loads(text))
    if language == NOT_JUDGED:
        language = gather.language(conversation, is_judged=True)
    at = next(at for at, message in enumerate(conversation.messages) if message.role == "user")
    question = conversation.messages[at]
    new = _held_back(conversation, at, rules, asked)
    written = tuple(wording for wording in question.wordings if wording not in new)
    amount = rules.rewordings if _is_reworded(language, rules) else 0
    reworded = _reworded(question, written, amount, asked, english=language == ENGLISH)
    if reworded and len(made.examples) < EXAMPLES:
        made.examples.append((question.content, list(reworded[:REWORDINGS_SHOWN])))
    learned = _with_wordings(conversation, at, (*written, *reworded))
    made.lines.append(line(learned.to_json()))
    made.held_back += (line(replace(conversation, messages=_opening(conversation, at, each)).to_json()) for each in new)
    made.new += len(new)
    made.made += len(reworded)
    made.learned += sum(len(message.wordings) for message in learned.messages) - len(reworded)


def _held_back(conversation: Conversation, at: int, rules: WordingRules, asked: _Asked) -> list[str]:
    """The wordings of a learned question that are held back: those of the smallest hashes that nothing else asks."""
    if not rules.new_fraction or not conversation.messages[at + 1].learned:
        return []
    few = [
        (wording, normal)
        for wording in conversation.messages[at].wordings
        if point(f"wording {(normal := key(wording))}") < rules.new_fraction
    ]
    counts = asked.counts([wording_key(normal) for _, normal in few])
    return [wording for (wording, _), count in zip(few, counts, strict=True) if count < 2]


def _reworded(
    question: Message, written: tuple[str, ...], amount: int, asked: _Asked, *, english: bool
) -> tuple[str, ...]:
    """The rewordings of a question that no conversation asks already, apart from this one."""
    made = rewordings(question.content, written, amount, english=english)
    if not made:
        return ()
    own = {wording_key(key(wording)) for wording in (question.content, *written)}
    keys = [wording_key(key(wording)) for wording in made]
    counts = asked.counts(keys)
    return tuple(
        wording for wording, made_key, count in zip(made, keys, counts, strict=True) if made_key in own or not count
    )


def without_wordings(text: bytes) -> bytes:
    """Return the line of a conversation that is held back: it is asked as it was written."""
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
