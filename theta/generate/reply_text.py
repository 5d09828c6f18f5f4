"""The text of a reply as its tokens arrive, up to a stop sequence."""

from collections.abc import Sequence

from theta.tokens.vocabulary import Vocabulary

PARTIAL = "\N{REPLACEMENT CHARACTER}"
"""What the bytes of an unfinished character decode to."""


class ReplyText:
    """Turns ids into text that is certain: no half of a character, and nothing of a stop sequence.

    Attributes:
        certain: number of characters of the tokens so far, without those of an unfinished character.
        released: how many of them were returned.
        stopped: whether a stop sequence has ended the text; nothing is returned afterwards.
    """

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str] = ()) -> None:
        self._vocabulary, self._stops = vocabulary, stops
        self._context: list[int] = []  # a token before the new ones: some tokenizers drop the space of the first
        self._new: list[int] = []
        self._shown = 0  # characters of the new tokens
        self._held = ""
        self.certain = self.released = 0
        self.stopped = False

    def add(self, *ids: int) -> str:
        """Return the text that has become certain with further tokens."""
        self._new += ids
        text = self._decoded()
        whole = text.rstrip(PARTIAL)
        piece, self._shown = whole[self._shown :], len(whole)
        self.certain += len(piece)
        if whole == text:
            self._context, self._new, self._shown = self._new[-1:], [], 0
        return self._release(piece)

    def end(self) -> str:
        """Return the rest of the text."""
        piece = self._release(self._decoded()[self._shown :])
        held, self._new, self._held = self._held, [], ""
        self.released += len(held)
        return piece + held

    def _decoded(self) -> str:
        decode = self._vocabulary.decode
        return decode([*self._context, *self._new])[len(decode(self._context)) :]

    def _release(self, text: str) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        ends = [place for stop in self._stops if (place := text.find(stop)) >= 0]
        if ends:
            self.stopped = True
            text, self._held = text[: min(ends)], ""
        else:
            kept = max((_overlap(text, stop) for stop in self._stops), default=0)
            text, self._held = text[: len(text) - kept], text[len(text) - kept :]
        self.released += len(text)
        return text


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters of a text begin the stop sequence."""
    sizes = range(min(len(stop) - 1, len(text)), 0, -1)
    return next((size for size in sizes if text.endswith(stop[:size])), 0)
