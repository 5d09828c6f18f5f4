"""What becomes of each conversation, and the files of Datasets/prepared that hold it."""

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

import numpy as np

from theta.corpus import splits
from theta.corpus.evidence import KINDS, Evidence
from theta.corpus.gather import line
from theta.corpus.items import Reject
from theta.corpus.pile import Pile
from theta.corpus.records import slices
from theta.corpus.report import DUPLICATE
from theta.corpus.wordings import WordingRules, Wordings, concerns, divide, without_wordings
from theta.parallel import ordered_map

REHEARSAL = len(splits.SPLITS)
"""The position of the base's own conversations after those of the splits."""
BATCH_BYTES = 1 << 20
"""Size of the lines whose wordings are divided together."""
OUTPUTS = (*splits.SPLITS, "rehearsal")


@dataclass(frozen=True)
class Outcome:
    """What becomes of each conversation.

    Attributes:
        output: position in OUTPUTS, or -1 if it is in none; int8 [conversations].
        duplicate_of: the conversation that it repeats, or -1; int32 [conversations].
        repeats: how often it is written; int32 [conversations].
    """

    output: np.ndarray
    duplicate_of: np.ndarray
    repeats: np.ndarray


def rehearsed(evidence: Evidence, members: np.ndarray, is_data: np.ndarray, split: np.ndarray) -> np.ndarray:
    """Return which of the base's own conversations may be learned, bool [conversations].

    Those are left out that share a question with the data, and those that are tied to what is held back: otherwise
    training could learn it.
    """
    if is_data.all():
        return np.zeros(len(is_data), np.bool_)
    own = ~is_data & (evidence.duplicate_of(~is_data) < 0)
    ties = evidence.ties(members | own)
    for _, some in ties.chunks():
        # The data comes first, so it is the centre of the star of those that share a question.
        asks = some[(some["kind"] == KINDS.index("question")) & members[some["one"]]]
        own[asks["other"]] = False
    group_of = splits.tied(ties, splits.Loosened(("short_reply",)), len(members))
    is_held_out = np.zeros(len(members), np.bool_)
    is_held_out[group_of[(split == splits.VALIDATION) | (split == splits.TEST)]] = True
    own &= ~is_held_out[group_of]
    return own


def write(pile: Pile, outcome: Outcome, rules: WordingRules, processes: int) -> Wordings:
    """Write the conversations of each split, new wordings of those in train, those for rehearsal, and duplicates.

    Returns:
        What became of the wordings of train.
    """
    total = Wordings()
    ordered = deque[list[tuple[bytes, int]]]()
    with ExitStack() as stack:
        outs = [stack.enter_context((pile.folder / f"{name}.jsonl").open("wb")) for name in OUTPUTS]
        new_wordings = stack.enter_context((pile.folder / "new_wordings.jsonl").open("wb"))
        batches = _batches(pile, outcome, rules, outs, ordered)
        for made in ordered_map(partial(divide, rules=rules), batches, processes):
            divided = iter(made.lines)
            lines = ((text or next(divided)) * repeats for text, repeats in ordered.popleft())
            outs[splits.TRAIN].write(b"".join(lines))
            new_wordings.write(b"".join(made.held_back))
            total.count(made)
    write_duplicates(pile, outcome.duplicate_of)
    return total


def _batches(
    pile: Pile,
    outcome: Outcome,
    rules: WordingRules,
    outs: Sequence[BinaryIO],
    ordered: deque[list[tuple[bytes, int]]],
) -> Iterator[list[tuple[bytes, int]]]:
    """Yield the lines of train whose wordings are to be divided, in batches, and write those of the other outputs.

    Args:
        ordered: gets, for each batch, the lines of train in order and how often each is written; a line of the batch is
            empty there.
    """
    batch: list[tuple[bytes, int]] = []
    lines: list[tuple[bytes, int]] = []
    size = 0
    for text, output, repeats, language, is_changed in _pieces(pile, outcome, rules):
        if output != splits.TRAIN:
            if output >= 0:
                outs[output].write((without_wordings(text) if is_changed else text) * repeats)
        elif repeats:
            if is_changed:
                batch.append((text, language))
            lines.append((b"" if is_changed else text, repeats))
            size += len(text)
            if size >= BATCH_BYTES:
                ordered.append(lines)
                yield batch
                batch, lines, size = [], [], 0
    ordered.append(lines)
    yield batch


def _pieces(pile: Pile, outcome: Outcome, rules: WordingRules) -> Iterator[tuple[bytes, int, int, int, bool]]:
    """Yield all lines in order; those that go to the same output as they are, one after the other, come as one.

    Yields:
        lines, the position in OUTPUTS or -1, how often they are written, and the language and whether the line changes.
    """
    with pile.lines() as lines:
        for part, rows in pile.conversations.chunks():
            output, repeats = outcome.output[part], outcome.repeats[part]
            changes = np.where(output == splits.TRAIN, concerns(rows, rules), rows["has_wordings"])
            is_alone, batch = changes | (repeats != 1), rows["begin"] // BATCH_BYTES
            begins = np.ones(len(rows), np.bool_)
            begins[1:] = is_alone[1:] | is_alone[:-1] | (output[1:] != output[:-1]) | (batch[1:] != batch[:-1])
            first = np.flatnonzero(begins)
            sizes = np.add.reduceat(rows["bytes"].astype(np.int64), first)
            columns = (output, repeats, rows["language"], changes)
            for size, *facts in zip(sizes.tolist(), *(column[first].tolist() for column in columns), strict=True):
                yield lines.read(size), *facts


def write_duplicates(pile: Pile, duplicate_of: np.ndarray) -> None:
    """Write the duplicates behind the rejected items."""
    for part in slices(len(duplicate_of)):
        places = np.flatnonzero(duplicate_of[part] >= 0) + part.start
        for repeated, earlier in zip(pile.read(places), pile.read(duplicate_of[places]), strict=True):
            value = repeated.to_json()
            source = value.pop("source")
            pile.rejects.write(line(Reject(source, DUPLICATE, f"of {earlier.source}", value).to_json()))
