"""How a reply appears: piece by piece as it is written, wrapped in a terminal, until Ctrl-C stops it."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from types import FrameType

from rich.console import Console

from theta.cli.wrapping import Wrapping
from theta.text import visible


class Interrupts:
    """Whether Ctrl-C was pressed since `clear`; it then interrupts nothing, so that no moment is a wrong one."""

    def __init__(self) -> None:
        self.pressed = False

    def clear(self) -> None:
        """Forget earlier presses."""
        self.pressed = False

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Catch Ctrl-C within the block."""

        def note(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the form that Python calls
            self.pressed = True

        before = signal.signal(signal.SIGINT, note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def show(console: Console, pieces: Iterable[str], interrupts: Interrupts | None = None, *, name: str = "") -> str:
    """Write the pieces as they arrive, until Ctrl-C stops them; return what was written.

    Args:
        console: where a terminal gets wrapped lines, and everything else the text as it is.
        pieces: the reply.
        interrupts: stops the reply when Ctrl-C was pressed.
        name: who speaks; it precedes the reply in a terminal.
    """
    pieces, shown = iter(pieces), []
    wrapping = None
    if console.is_terminal:
        with console.status("[dim]thinking[/]"):
            pieces = chain([next(pieces, "")], pieces)
        console.print(name, style="bold cyan", end="")
        wrapping = Wrapping(lambda: console.width, len(name))
    for piece in pieces:
        shown.append(piece)
        _write(console, wrapping.add(visible(piece)) if wrapping else visible(piece))
        if interrupts and interrupts.pressed:
            break
    _write(console, wrapping.end() if wrapping else "")
    if interrupts and interrupts.pressed:
        mark = " (stopped)"
        console.out(wrapping.add(mark) + wrapping.end() if wrapping else mark, style="dim", end="", highlight=False)
    console.print()
    return "".join(shown)


def _write(console: Console, text: str) -> None:
    # Not console.print, which would interpret what the model writes and wrap it once more.
    console.file.write(text)
    console.file.flush()
