"""One block of a file -> its conversations, its rejects, and the facts about both; a pure function, run in any process.

The result is small in number of objects: bytes and arrays travel between processes quickly.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import orjson

from theta.conversation.messages import Conversation
from theta.corpus import fingerprints, suspicious
from theta.corpus.fingerprints import Fingerprints
from theta.corpus.items import Notes, Reject, Rules
from theta.corpus.readers.blocks import Block


@dataclass(frozen=True, slots=True)
class Gathered:
    """What a block came to.

    Attributes:
        lines: the conversations, each a line of `Datasets/prepared/*.jsonl`.
        lengths: bytes of each line, int64 [conversations].
        rejects: lines of `Datasets/prepared/rejected.jsonl`.
        reasons: number of rejects by reason.
        items: number of items read.
        domains: the domain of each conversation.
        messages, replies: messages and replies of each conversation, int32 [conversations]; a text has no reply.
        reply_words: words of each reply, int32 [replies], in order.
        fingerprints: what duplicates, groups and splits are found by.
        notes: what to tell the user.
    """

    lines: bytes
    lengths: np.ndarray
    rejects: bytes
    reasons: Counter[str]
    items: int
    domains: list[str]
    messages: np.ndarray
    replies: np.ndarray
    reply_words: np.ndarray
    fingerprints: Fingerprints
    notes: Notes


def gather(block: Block, rules: Rules, redact: Collection[str]) -> Gathered:
    """Read the items of a block, and keep or reject what each holds."""
    notes, kept, rejects, items = Notes(), list[Conversation](), list[Reject](), 0
    for item in block.items():
        items += 1
        for result in _results(item, rules, notes):
            if isinstance(result, Reject):
                rejects.append(result)
            else:
                suspicious.look(result, notes)
                kept.append(suspicious.redact(result, redact, notes) if redact else result)
    lines = [orjson.dumps(each.to_json(), option=orjson.OPT_APPEND_NEWLINE) for each in kept]
    replies = [[m.content for m in each.messages if m.role == "assistant"] for each in kept]
    return Gathered(
        lines=b"".join(lines),
        lengths=np.array(list(map(len, lines)), np.int64),
        rejects=b"".join(_line(reject) for reject in rejects),
        reasons=Counter(reject.reason for reject in rejects),
        items=items,
        domains=[each.domain for each in kept],
        messages=np.array([len(each.messages) for each in kept], np.int32),
        replies=np.array(list(map(len, replies)), np.int32),
        reply_words=np.array([len(text.split()) for texts in replies for text in texts], np.int32),
        fingerprints=fingerprints.of(kept),
        notes=notes,
    )
