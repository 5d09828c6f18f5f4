"""One block of a file -> its conversations, its rejects, and the facts about both; a pure function, run in any process.

The result consists of bytes and arrays, which travel between processes quickly.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson

from theta.conversation.messages import Conversation
from theta.corpus import fingerprints, suspicious
from theta.corpus.english import is_english
from theta.corpus.fingerprints import Fingerprints
from theta.corpus.items import Item, Notes, Reject, Rules
from theta.corpus.keys import count_words
from theta.corpus.readers.blocks import Block
from theta.corpus.rewording import LONGEST_CHARACTERS
from theta.corpus.shapes.shape import shape

NOT_REWORDED, ENGLISH, ANOTHER, NOT_JUDGED = range(4)
"""The first question of a conversation is too long or there is none; it is English; it is in another language; or
nobody has looked."""


@dataclass(frozen=True, slots=True)
class Task:
    """A block, and how its items are to be understood."""

    block: Block
    rules: Rules
    redact: Collection[str]
    exact_twins: bool
    rewords: bool
    """Whether questions are likely to be reworded, so that their language is of interest."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a block came to.

    Attributes:
        lines: the conversations, each a line of `Datasets/prepared/*.jsonl`.
        lengths: bytes of each line, int64 [conversations].
        rejects: lines of `Datasets/prepared/rejected.jsonl`.
        mended: lines of `Datasets/prepared/mended.jsonl`, one for each repair.
        reasons: number of rejects by reason; `examples` describes the first of each.
        items: number of conversations and rejects.
        domains: the domain of each conversation.
        messages, replies: messages and replies of each conversation, int32 [conversations]; a text has no reply.
        reply_words: words of each reply, int32 [replies], in order.
        languages: NOT_REWORDED, ENGLISH, ANOTHER or NOT_JUDGED, int8 [conversations].
        has_wordings: whether a question has other wordings, bool [conversations].
        fingerprints: what duplicates, groups and splits are found by.
        notes: what to tell the user.
    """

    lines: bytes
    lengths: np.ndarray
    rejects: bytes
    mended: bytes
    reasons: Counter[str]
    examples: dict[str, str]
    items: int
    domains: list[str]
    messages: np.ndarray
    replies: np.ndarray
    reply_words: np.ndarray
    languages: np.ndarray
    has_wordings: np.ndarray
    fingerprints: Fingerprints
    notes: Notes


def gather(task: Task) -> Gathered:
    """Read the items of a block, and keep or reject each."""
    notes, kept, rejects = Notes(), list[Conversation](), list[Reject]()
    for item in task.block.items():
        for result in _results(item, task.rules, notes):
            if isinstance(result, Reject):
                rejects.append(result)
            else:
                suspicious.look(result, notes)
                kept.append(suspicious.redact(result, task.redact, notes) if task.redact else result)
    mended = b"".join(line({"source": source, "mended": name}) for source, name in notes.mended)
    notes.mended.clear()  # they travel as bytes
    lines = [line(each.to_json()) for each in kept]
    replies = [[m.content for m in each.messages if m.role == "assistant"] for each in kept]
    return Gathered(
        lines=b"".join(lines),
        lengths=_numbers(map(len, lines), np.int64),
        rejects=b"".join(line(reject.to_json()) for reject in rejects),
        mended=mended,
        reasons=Counter(reject.reason for reject in rejects),
        examples={reject.reason: _example(reject) for reject in reversed(rejects)},
        items=len(kept) + len(rejects),
        domains=[each.domain for each in kept],
        messages=_numbers((len(each.messages) for each in kept), np.int32),
        replies=_numbers(map(len, replies), np.int32),
        reply_words=_numbers((count_words(text) for texts in replies for text in texts), np.int32),
        languages=_numbers((language(each, is_judged=task.rewords) for each in kept), np.int8),
        has_wordings=_numbers((any(message.wordings for message in each.messages) for each in kept), np.bool_),
        fingerprints=fingerprints.of(kept, with_texts=task.exact_twins),
        notes=notes,
    )


def language(conversation: Conversation, *, is_judged: bool) -> int:
    """Return NOT_REWORDED, or else ENGLISH or ANOTHER, which takes a tenth of the time of `gather`, or NOT_JUDGED."""
    if conversation.is_text or len(question := conversation.opening) > LONGEST_CHARACTERS:
        return NOT_REWORDED
    if not is_judged:
        return NOT_JUDGED
    return ENGLISH if is_english(f"{question} {conversation.messages[-1].content}") else ANOTHER


def line(value: dict[str, Any]) -> bytes:
    """Return a line of JSON Lines."""
    return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)


def _results(item: Item, rules: Rules, notes: Notes) -> Iterator[Conversation | Reject]:
    if item.broken:
        reason, _, detail = item.broken.partition(": ")
        yield Reject(item.source, reason, detail, item.value)
    else:
        yield from shape(item, rules, notes)


def _example(reject: Reject) -> str:
    return f"{reject.source} ({reject.detail})" if reject.detail else reject.source


def _numbers(values: Iterable[int], dtype: type) -> np.ndarray:
    return np.fromiter(values, dtype)
