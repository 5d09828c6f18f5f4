"""What becomes of each conversation, and the files of Datasets/prepared that hold it."""

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from theta.corpus import splits
from theta.corpus.evidence import KINDS, Evidence
from theta.corpus.gather import line
from theta.corpus.items import Reject
from theta.corpus.pile import Pile
from theta.corpus.report import DUPLICATE
from theta.corpus.wordings import Wordings, without_wordings

REHEARSAL = len(splits.SPLITS)
"""The position of the base's own conversations after those of the splits."""
OUTPUTS = (*splits.SPLITS, "rehearsal")


@dataclass(frozen=True)
class Outcome:
    """What becomes of each conversation.

    Attributes:
        output: position in OUTPUTS, or -1 if it is in none; int8 [conversations].
        duplicate_of: the conversation that it repeats, or -1; int64 [conversations].
        repeats: how often it is written; int64 [conversations].
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


def write(pile: Pile, outcome: Outcome, wordings: Wordings) -> None:
    """Write the conversations of each split, new wordings of those in train, those for rehearsal, and duplicates."""
    with ExitStack() as stack:
        outs = [stack.enter_context((pile.folder / f"{name}.jsonl").open("wb")) for name in OUTPUTS]
        new_wordings = stack.enter_context((pile.folder / "new_wordings.jsonl").open("wb"))
        decisions = zip(outcome.output.tolist(), outcome.repeats.tolist(), strict=True)
        for text, (output, repeats) in zip(pile.lines(), decisions, strict=True):
            if output == splits.TRAIN and repeats:
                learned, new = wordings.divide(text)
                outs[output].write(learned * repeats)
                new_wordings.write(new)
            elif output >= 0:
                outs[output].write(without_wordings(text) * repeats)
    write_duplicates(pile, outcome.duplicate_of)


def write_duplicates(pile: Pile, duplicate_of: np.ndarray) -> None:
    """Write the duplicates behind the rejected items."""
    for place in np.flatnonzero(duplicate_of >= 0).tolist():
        pile.rejects.write(_duplicate(pile, place, int(duplicate_of[place])))


def _duplicate(pile: Pile, place: int, earlier: int) -> bytes:
    repeated = pile.conversation(place).to_json()
    source = repeated.pop("source")
    detail = f"of {pile.conversation(earlier).source}"
    return line(Reject(source, DUPLICATE, detail, repeated).to_json())
