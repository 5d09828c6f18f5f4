"""Paragraphs that were met before, in any package: the same letters, or mostly the same runs of words."""

import re
import zlib

WORDS_PER_RUN = 6
LARGEST_SHARE_SEEN = 0.6
"""Of a paragraph's runs; above it the paragraph is a near duplicate."""
_SAMPLED = 4
"""One run in so many is kept, chosen by its hash, so that the same runs are kept wherever they stand."""
_NO_LETTERS = re.compile(r"[\W\d_]+")


class Seen:
    """The paragraphs met so far."""

    def __init__(self) -> None:
        self._paragraphs: set[int] = set()
        self._runs: set[int] = set()

    def is_new(self, paragraph: str) -> bool:
        """Whether the paragraph says something new; it is remembered then."""
        words = _NO_LETTERS.sub(" ", paragraph.lower()).split()
        whole = hash(" ".join(words))
        if whole in self._paragraphs:
            return False
        self._paragraphs.add(whole)
        runs = _runs(words)
        if len(runs & self._runs) > LARGEST_SHARE_SEEN * len(runs):
            return False
        self._runs |= runs
        return True


def _runs(words: list[str]) -> set[int]:
    hashes = (
        zlib.crc32(" ".join(words[begin : begin + WORDS_PER_RUN]).encode())
        for begin in range(len(words) - WORDS_PER_RUN + 1)
    )
    return {each for each in hashes if each % _SAMPLED == 0}
