"""Duplicates of earlier paragraphs, in any package: the same letters, or mostly the same sequences of words."""

import re
import zlib

WORDS_PER_RUN = 6
MAX_SEEN_FRACTION = 0.6
"""With a larger fraction of sequences seen before, a paragraph is a near duplicate."""
_SAMPLED = 4
"""One of this many sequences is kept, chosen by its hash, so that equal sequences are kept everywhere."""
_NO_LETTERS = re.compile(r"[\W\d_]+")


class Seen:
    """The paragraphs seen so far."""

    def __init__(self) -> None:
        self._paragraphs: set[int] = set()
        self._runs: set[int] = set()

    def is_new(self, paragraph: str) -> bool:
        """Return whether the paragraph is new, and remember it."""
        words = _NO_LETTERS.sub(" ", paragraph.lower()).split()
        whole = hash(" ".join(words))
        if whole in self._paragraphs:
            return False
        self._paragraphs.add(whole)
        runs = _runs(words)
        if len(runs & self._runs) > MAX_SEEN_FRACTION * len(runs):
            return False
        self._runs |= runs
        return True


def _runs(words: list[str]) -> set[int]:
    hashes = (
        zlib.crc32(" ".join(words[begin : begin + WORDS_PER_RUN]).encode())
        for begin in range(len(words) - WORDS_PER_RUN + 1)
    )
    return {each for each in hashes if each % _SAMPLED == 0}
