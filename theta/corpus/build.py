"""A path -> a corpus: find the files, read the items, drop unusable ones, divide the rest into splits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from theta.conversation.messages import Conversation
from theta.corpus import duplicates, shapes, splits
from theta.corpus.items import Item
from theta.corpus.readers.finding import File, Found
from theta.corpus.readers.reading import read
from theta.corpus.report import DUPLICATE, report
from theta.corpus.shapes import Reject
from theta.errors import DataError


@dataclass(frozen=True)
class Corpus:
    """The conversations of the raw files, by split, and what was dropped."""

    splits: dict[str, list[Conversation]]
    """Conversations by split (train, validation, test), each in the order of files and items."""
    rejects: list[Reject]
    """The dropped items, in the same order."""
    report: dict[str, Any]
    """The figures of metrics/prepare.json."""


class UnusableCorpusError(DataError):
    """Too few conversations were kept; the rejects give the reasons."""

    def __init__(self, message: str, rejects: list[Reject]) -> None:
        super().__init__(message)
        self.rejects = rejects


@dataclass
class _Gathered:
    kept: list[Conversation]
    rejects: list[Reject]
    unanswered_questions_cut: int = 0


def build(path: str, found: Found, validation_fraction: float, test_fraction: float) -> Corpus:
    """Read, clean and divide the conversations of the files that were found at `path`.

    Raises:
        DataError: a file cannot be read.
        UnusableCorpusError: no conversation was kept, or too few for three splits.
    """
    files = found.files
    gathered = _gather(files)
    rejects = gathered.rejects
    if not gathered.kept:
        raise UnusableCorpusError(_nothing_kept(path, rejects), rejects)
    try:
        divided = splits.divide(gathered.kept, validation_fraction, test_fraction)
    except DataError as fault:
        raise UnusableCorpusError(f"{path}: {fault}", rejects) from None
    cut = gathered.unanswered_questions_cut
    return Corpus(divided, rejects, report(divided, rejects, files=len(files), unanswered_questions_cut=cut))


def rehearsal(path: Path, corpus: Corpus) -> list[Conversation]:
    """Return the base's own conversations, without those that open with a question of the corpus.

    Otherwise training could learn a question of the test split.

    Args:
        path: a file of conversations; it may be blank.

    Raises:
        DataError: the file is missing, or cannot be read.
    """
    if not path.is_file():
        raise DataError(f"{path} does not exist; run `dvc repro fetch` to create it.")
    if not path.read_bytes().strip():
        return []
    openings = {splits.key(each.opening) for conversations in corpus.splits.values() for each in conversations}
    return [each for each in _gather([File.at(path)]).kept if splits.key(each.opening) not in openings]


def _gather(files: Sequence[File]) -> _Gathered:
    """Read the items of all files, and keep or reject each."""
    gathered, seen = _Gathered([], []), duplicates.Seen()
    for item in (item for file in files for block in read(file) for item in block.items()):
        shaped = _shape(item)
        if isinstance(shaped, Reject):
            gathered.rejects.append(shaped)
        elif earlier := seen.earlier(shaped.conversation):
            gathered.rejects.append(Reject(item.source, DUPLICATE, f"of {earlier}", item.value))
        else:
            gathered.kept.append(shaped.conversation)
            gathered.unanswered_questions_cut += shaped.unanswered_question_cut
    return gathered


def _shape(item: Item) -> shapes.Shaped | Reject:
    if item.broken:
        reason, _, detail = item.broken.partition(": ")
        return Reject(item.source, reason, detail, item.value)
    return shapes.read(item.value, item.source, item.domain)


def _nothing_kept(path: str, rejects: Sequence[Reject]) -> str:
    if not rejects:
        return f"{path}: its files contain no conversations; add some."
    reason, count = Counter(reject.reason for reject in rejects).most_common(1)[0]
    example = next(reject for reject in rejects if reject.reason == reason)
    return (
        f"{path}: none of {len(rejects)} items is a usable conversation, most often because of {reason} ({count}), "
        f"such as {example.source}" + (f" ({example.detail})." if example.detail else ".")
    )
