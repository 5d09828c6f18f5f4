"""The conversations of all files: on disk in the order in which they were read, with a few numbers in memory."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from theta.conversation.messages import Conversation
from theta.corpus.evidence import Evidence
from theta.corpus.gather import Gathered
from theta.corpus.items import Notes
from theta.corpus.keys import starts


class Pile:
    """Collects what blocks came to.

    Attributes:
        folder: where it keeps files.
        evidence: the fingerprints.
        rejects: the rejected items, `rejected.jsonl`.
        notes, reasons, examples: as in `Gathered`, of all blocks of data.
        domain_names: the domains, each with its position.
        lengths, files, domains, messages, replies: numbers for each conversation, once `finish` was called: bytes of
            its line, position of its file, position of its domain, and how many messages and replies it has.
        reply_words: words of each reply, in order.
    """

    def __init__(self, folder: Path, *, exact_twins: bool) -> None:
        self.folder = folder
        self.evidence = Evidence(folder, exact_twins=exact_twins)
        self.notes, self.reasons, self.examples = Notes(), Counter[str](), dict[str, str]()
        self.domain_names: dict[str, int] = {}
        self._lines = (folder / "lines").open("wb")
        self.rejects = (folder / "rejected.jsonl").open("wb")
        self._mended = (folder / "mended.jsonl").open("wb")
        empty = np.empty(0, np.int32)
        self._columns: dict[str, list[np.ndarray]] = {
            name: [empty] for name in ("lengths", "files", "domains", "messages", "replies", "reply_words", "languages")
        }

    def add(self, made: Gathered, file: int, *, is_data: bool) -> None:
        """Add what a block came to; of the base's own conversations, rejects and notes are of no interest."""
        self._lines.write(made.lines)
        self.evidence.append(made.fingerprints)
        codes = [self.domain_names.setdefault(name, len(self.domain_names)) for name in made.domains]
        columns = {
            "lengths": made.lengths,
            "files": np.full(len(codes), file, np.int32),
            "domains": np.array(codes, np.int32),
            "messages": made.messages,
            "replies": made.replies,
            "reply_words": made.reply_words,
            "languages": made.languages,
        }
        for name, values in columns.items():
            self._columns[name].append(values)
        if is_data:
            self.rejects.write(made.rejects)
            self._mended.write(made.mended)
            self.notes.merge(made.notes)
            self.reasons.update(made.reasons)
            self.examples = {**made.examples, **self.examples}

    def finish(self) -> None:
        """Write what is still in memory; nothing can be added afterwards."""
        self._lines.close()
        self.evidence.finish()
        made = {name: np.concatenate(values) for name, values in self._columns.items()}
        self._columns.clear()
        self.lengths, self.files, self.domains = made["lengths"], made["files"], made["domains"]
        self.messages, self.replies, self.reply_words = made["messages"], made["replies"], made["reply_words"]
        self.languages = made["languages"]

    @cached_property
    def _begins(self) -> np.ndarray:
        """Where each line begins; most of the memory is needed before anyone asks."""
        return starts(self.lengths)

    def lines(self) -> Iterator[bytes]:
        """Yield the line of each conversation."""
        with (self.folder / "lines").open("rb") as lines:
            yield from lines

    def conversation(self, place: int) -> Conversation:
        """Return one conversation."""
        with (self.folder / "lines").open("rb") as lines:
            line = os.pread(lines.fileno(), int(self.lengths[place]), int(self._begins[place]))
        return Conversation.from_json(json.loads(line))

    def close(self) -> None:
        """Close all files."""
        self._lines.close()
        self.rejects.close()
        self._mended.close()
        self.evidence.close()

    def remove_files(self) -> None:
        """Close all files, and remove those that only this object reads."""
        self.close()
        (self.folder / "lines").unlink()
        self.evidence.remove_files()
