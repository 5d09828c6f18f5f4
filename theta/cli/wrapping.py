"""Lines no wider than the terminal, broken between words, of a text that arrives in pieces."""

from collections.abc import Callable, Iterator

from rich.cells import cell_len


class Wrapping:
    """Breaks a text that arrives in pieces into lines no wider than the terminal, between words.

    A word is held back until it is complete, since it may belong on the next line. Wide characters, such as Chinese
    ones, take two columns, and a line may break after each of them.

    Args:
        width: returns the number of columns, which changes when the user resizes the window.
        column: where the first line begins.
    """

    def __init__(self, width: Callable[[], int], column: int = 0) -> None:
        self._width, self._column = width, column
        self._space, self._word = "", ""

    def add(self, piece: str) -> str:
        """Return what can be printed now that `piece` has arrived."""
        return "".join(self._placed(character) for character in piece)

    def end(self) -> str:
        """Return what was held back."""
        return self._flush()

    def _placed(self, character: str) -> str:
        if character == "\n":
            shown, self._space, self._column = self._flush() + "\n", "", 0
            return shown
        if character.isspace() and character != "\N{NO-BREAK SPACE}":
            shown = self._flush()
            self._space += "    " if character == "\t" else character
            return shown
        if cell_len(character) > 1:
            shown = self._flush()
            self._word = character
            return shown
        self._word += character
        return ""

    def _flush(self) -> str:
        """Place the word after the spaces before it, or on the next line without them."""
        if not self._word:
            return ""
        word, space, width = self._word, self._space, max(self._width(), 1)
        self._space = self._word = ""
        if self._column and self._column + cell_len(space) + cell_len(word) > width:
            space, self._column = "\n", 0
        else:
            self._column += cell_len(space)
        return space + "".join(self._broken(word, width))

    def _broken(self, word: str, width: int) -> Iterator[str]:
        """Yield the characters of a word, and line breaks where it is wider than a line."""
        for character in word:
            cells = cell_len(character)
            if self._column and self._column + cells > width:
                yield "\n"
                self._column = 0
            self._column += cells
            yield character
