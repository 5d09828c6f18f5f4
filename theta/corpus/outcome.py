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
        duplicate_of: the conversation that it repeats, or -1; int64 [conversations].
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
    asks = ties.kinds == KINDS.index("question")
    # The data comes first, so it is the centre of the star of those that share a question.
    ones, others = ties.ones[asks], ties.others[asks]
    own[others[members[ones]]] = False
    group_of = splits.groups(ties, ties.kinds != KINDS.index("short_reply"), len(members))
    held_out = np.unique(group_of[(split == splits.VALIDATION) | (split == splits.TEST)])
    return own & ~np.isin(group_of, held_out)


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
    columns = (outcome.output, outcome.repeats, pile.languages)
    for text, output, repeats, language in zip(pile.lines(), *(column.tolist() for column in columns), strict=True):
        if output != splits.TRAIN:
            if output >= 0:
                outs[output].write(without_wordings(text) * repeats)
        elif repeats:
            is_concerned = concerns(text, language, rules)
            if is_concerned:
                batch.append((text, language))
            lines.append((b"" if is_concerned else text, repeats))
            size += len(text)
            if size >= BATCH_BYTES:
                ordered.append(lines)
                yield batch
                batch, lines, size = [], [], 0
    ordered.append(lines)
    yield batch


def write_duplicates(pile: Pile, duplicate_of: np.ndarray) -> None:
    """Write the duplicates behind the rejected items."""
    for place in np.flatnonzero(duplicate_of >= 0).tolist():
        pile.rejects.write(_duplicate(pile, place, int(duplicate_of[place])))


def _duplicate(pile: Pile, place: int, earlier: int) -> bytes:
    repeated = pile.conversation(place).to_json()
    source = repeated.pop("source")
    detail = f"of {pile.conversation(earlier).source}"
    return line(Reject(source, DUPLICATE, detail, repeated).to_json())
