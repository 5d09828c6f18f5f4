"""The conversations of all files on disk, in the order in which they were read, each with a row of numbers."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from theta.conversation.messages import Conversation
from theta.corpus.evidence import Evidence
from theta.corpus.gather import Gathered
from theta.corpus.items import Notes
from theta.corpus.records import Table, starts

CONVERSATION = (
    ("begin", np.uint64),
    ("bytes", np.uint32),
    ("whole", np.uint64),
    ("point", np.float64),
    ("file", np.uint32),
    ("domain", np.uint32),
    ("messages", np.uint32),
    ("replies", np.uint32),
    ("language", np.int8),
    ("has_wordings", np.bool_),
)
"""Where the line of a conversation begins and its size; its key and its point (see `Fingerprints`); positions of its
file and its domain; how many messages and replies it has; and what `Gathered` says about its questions."""

REPLY = (("owner", np.uint32), ("words", np.uint32))
"""The conversation of a reply, and its length."""


class Pile:
    """Collects what blocks came to.

    Attributes:
        folder: where it keeps files.
        evidence: the fingerprints.
        conversations, replies: a row for each, with the columns CONVERSATION and REPLY.
        of_data: number of conversations of the data; those of the base come after them.
        rejects: the rejected items, `rejected.jsonl`.
        notes, reasons, examples: as in `Gathered`, of all blocks of data.
        domain_names: the domains, each with its position.
    """

    def __init__(self, folder: Path, *, exact_twins: bool) -> None:
        self.folder = folder
        self.evidence = Evidence(folder, exact_twins=exact_twins)
        self.conversations = Table(folder / "conversations", CONVERSATION)
        self.replies = Table(folder / "replies", REPLY)
        self.of_data = 0
        self.notes, self.reasons, self.examples = Notes(), Counter[str](), dict[str, str]()
        self.domain_names: dict[str, int] = {}
        self._lines = (folder / "lines").open("wb")
        self.rejects = (folder / "rejected.jsonl").open("wb")
        self._mended = (folder / "mended.jsonl").open("wb")

    def add(self, made: Gathered, file: int, *, is_data: bool) -> None:
        """Add what a block came to; of the base's own conversations, rejects and notes are of no interest."""
        codes = [self.domain_names.setdefault(name, len(self.domain_names)) for name in made.domains]
        owners = np.arange(len(codes), dtype=np.uint32) + np.uint32(len(self.conversations))
        self.replies.append(len(made.reply_words), owner=np.repeat(owners, made.replies), words=made.reply_words)
        self.conversations.append(
            len(codes),
            begin=starts(made.lengths) + self._lines.tell(),
            bytes=made.lengths,
            whole=made.fingerprints.whole,
            point=made.fingerprints.points,
            file=file,
            domain=np.array(codes, np.uint32),
            messages=made.messages,
            replies=made.replies,
            language=made.languages,
            has_wordings=made.has_wordings,
        )
        self._lines.write(made.lines)
        self.evidence.append(made.fingerprints)
        if is_data:
            self.of_data += len(codes)
            self.rejects.write(made.rejects)
            self._mended.write(made.mended)
            self.notes.merge(made.notes)
            self.reasons.update(made.reasons)
            self.examples = {**made.examples, **self.examples}

    def finish(self) -> None:
        """Write what is still in memory; nothing can be added afterwards."""
        self._lines.close()
        self.conversations.close()
        self.replies.close()
        self.evidence.close()

    def lines(self) -> BinaryIO:
        """Open the file of the lines."""
        return (self.folder / "lines").open("rb")

    def read(self, places: np.ndarray) -> Iterator[Conversation]:
        """Yield some conversations."""
        with self.lines() as lines:
            for begin in self.conversations.take(places)["begin"].tolist():
                lines.seek(begin)
                yield Conversation.from_json(json.loads(lines.readline()))

    def conversation(self, place: int) -> Conversation:
        """Return one conversation."""
        return next(self.read(np.array([place])))

    def close(self) -> None:
        """Close all files."""
        self.finish()
        self.rejects.close()
        self._mended.close()

    def remove_files(self) -> None:
        """Close all files, and remove those that only this object reads."""
        self.close()
        (self.folder / "lines").unlink()
        self.conversations.remove()
        self.replies.remove()
        self.evidence.remove_files()
