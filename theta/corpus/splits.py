"""Conversations -> train, validation and test, by a hash of the first question, or of the opening of a text.

    0        validation_fraction            1 - test_fraction        1
    |-- validation --|------------ train ------------|---- test ----|

A question's point on that line depends on the question alone. Adding a file therefore never moves the conversations of
another file, changing one fraction moves conversations between train and that split only, and all conversations that
open with the same question are in the same split.

With few conversations a split can be empty. It then gets the train question whose point is nearest to its boundary,
with all its conversations. If train itself is empty, it gets the nearest question of test, or of validation if test has
only one. This too depends on the questions alone, but such a question may move back when others are added.
"""

import hashlib
import unicodedata
from bisect import bisect_left
from collections.abc import Sequence

from theta.conversation.messages import Conversation
from theta.errors import DataError

SPLITS = ("train", "validation", "test")
QUESTIONS_NEEDED = 3
"""One for each split."""


def divide(
    conversations: Sequence[Conversation], validation_fraction: float, test_fraction: float
) -> dict[str, list[Conversation]]:
    """Return the conversations of each split in their order; no split is empty.

    Raises:
        DataError: there are fewer than three distinct first questions.
    """
    keys = [key(conversation.opening) for conversation in conversations]
    ordered = sorted((point(each), each) for each in set(keys))
    if len(ordered) < QUESTIONS_NEEDED:
        raise DataError(
            f"the number of distinct first questions is {len(ordered)}; at least {QUESTIONS_NEEDED} are needed, "
            "one each for train, validation and test; add conversations."
        )
    low, high = _cuts([at for at, _ in ordered], validation_fraction, test_fraction)
    split_of = {each: _split(rank, low, high) for rank, (_, each) in enumerate(ordered)}
    splits: dict[str, list[Conversation]] = {name: [] for name in SPLITS}
    for conversation, each in zip(conversations, keys, strict=True):
        splits[split_of[each]].append(conversation)
    return splits


def key(question: str) -> str:
    """Return the question without differences of case, Unicode form, white space and outer punctuation."""
    words = " ".join(unicodedata.normalize("NFKC", question).casefold().split())
    start, end = 0, len(words)
    while start < end and _is_outer(words[start]):
        start += 1
    while end > start and _is_outer(words[end - 1]):
        end -= 1
    return words[start:end] or words


def point(text: str) -> float:
    """Return a point in [0, 1) that depends on the text alone."""
    # A float holds 48 bits exactly, so the quotient never rounds up to 1.
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6]) / 2**48


def _is_outer(character: str) -> bool:
    return character == " " or unicodedata.category(character).startswith("P")


def _cuts(points: Sequence[float], validation_fraction: float, test_fraction: float) -> tuple[int, int]:
    """The ranks of the first train point and of the first test point; each split keeps at least one."""
    low = bisect_left(points, validation_fraction)
    high = bisect_left(points, 1 - test_fraction)
    low = min(max(low, 1), len(points) - 2)
    high = min(max(high, low + 1), len(points) - 1)
    return low, high


def _split(rank: int, low: int, high: int) -> str:
    if rank < low:
        return "validation"
    return "train" if rank < high else "test"
