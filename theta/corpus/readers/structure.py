"""Where the values of a JSON stream begin and end, found with numpy at several times the speed of a parser.

    [ {...} , {...} , ... ]  {...}
    | |     |       |     |  |   |
     cuts: around the brackets of an outermost list, after a comma in it, and after an outermost object

Only quotes, backslashes, brackets and commas are looked at, so the values may be broken in themselves.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_QUOTE, _BACKSLASH, _COMMA, _OPEN_LIST, _CLOSE_LIST = (ord(each) for each in '"\\,[]')
_STEP = np.zeros(256, np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1
_IS_STRUCTURAL = np.zeros(256, bool)
_IS_STRUCTURAL[[ord(each) for each in '"[]{},']] = True


@dataclass(slots=True)
class Structure:
    """What is open at the end of the bytes that were seen."""

    depth: int = 0
    """How many lists and objects are open."""
    in_list: bool = False
    """Whether the outermost of them, or of those that were closed last, is a list."""
    in_text: bool = False
    """Whether a text is open."""
    backslashes: int = 0
    """The number of backslashes at the end."""

    @property
    def is_open(self) -> bool:
        """Whether a list, an object or a text is open."""
        return self.depth > 0 or self.in_text

    def resumed(self) -> "Structure":
        """Return the structure after a value that was given up: only an outermost list is still open."""
        is_list = self.in_list and self.depth > 0
        return Structure(depth=int(is_list), in_list=is_list)

    def cuts(self, chunk: bytes) -> list[int]:
        """Return the offsets in the next bytes at which the outermost values end, in order."""
        content = np.frombuffer(chunk, np.uint8)
        at, codes = self._outside_texts(content)
        steps = _STEP[codes].astype(np.int64)
        level = self.depth + np.cumsum(steps)
        level -= np.minimum(0, np.minimum.accumulate(level)) if len(level) else 0  # a closer that nothing opened
        before = np.concatenate(([self.depth], level[:-1]))
        opens, closes = (steps == 1) & (before == 0), (steps == -1) & (level == 0)
        in_list = self._in_list(codes, opens)
        around = (opens | closes) & in_list & (steps != 0)
        after = (closes & ~in_list) | ((codes == _COMMA) & (level == 1) & in_list)
        cuts = np.unique(np.concatenate((at[around], at[around] + 1, at[after] + 1)))
        if len(level):
            self.depth, self.in_list = int(level[-1]), bool(in_list[-1])
        return list(map(int, cuts))

    def _in_list(self, codes: NDArray[np.uint8], opens: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether each position is in an outermost list, its brackets included, and not in an outermost object."""
        last = np.maximum.accumulate(np.where(opens, np.arange(len(codes)), -1))
        is_list: NDArray[np.bool_] = (
            np.where(last < 0, self.in_list, codes[last] == _OPEN_LIST) if len(codes) else opens
        )
        return is_list

    def _outside_texts(self, content: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Offsets and bytes of the brackets and commas that are not inside a text."""
        at = np.flatnonzero(_IS_STRUCTURAL[content])
        codes = content[at]
        is_quote = codes == _QUOTE
        quotes = np.flatnonzero(is_quote)
        is_quote[quotes[self._escaped(content, at[quotes])]] = False
        opened = np.cumsum(is_quote) + self.in_text
        if len(opened):
            self.in_text = bool(opened[-1] % 2)
        keep = (opened % 2 == 0) & (codes != _QUOTE)
        return at[keep], codes[keep]

    def _escaped(self, content: NDArray[np.uint8], quotes: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether each quote follows an odd number of backslashes."""
        length, carried = len(content), self.backslashes
        found = np.flatnonzero(content == _BACKSLASH)
        is_carried = np.asarray((quotes == 0) & (carried % 2 == 1))
        if not len(found):
            self.backslashes = 0 if length else carried
            return is_carried
        begins = np.concatenate(([True], np.diff(found) != 1))
        first = np.maximum.accumulate(np.where(begins, found, 0))  # of the run that each backslash is part of
        first = np.where(first == 0, -carried, first)
        self.backslashes = length - int(first[-1]) if found[-1] == length - 1 else 0
        at = np.minimum(np.searchsorted(found, quotes - 1), len(found) - 1)
        follows = found[at] == quotes - 1
        return np.asarray(np.where(follows, (quotes - first[at]) % 2 == 1, is_carried), np.bool_)
