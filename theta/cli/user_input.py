"""The user's messages, from a terminal or from a pipe.

A message is a line. One that begins with three quotation marks goes on over further lines until three more.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from rich.console import Console

from theta.cli.console import say
from theta.errors import GenerationError

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

QUOTES = '"""'


def is_open(text: str) -> bool:
    """Whether a message that began with three quotation marks goes on."""
    return text.lstrip().startswith(QUOTES) and text.count(QUOTES) == 1


def unquoted(text: str) -> str:
    """Return a message without the quotation marks around it and without outer white space."""
    text = text.strip()
    return text.removeprefix(QUOTES).removesuffix(QUOTES).strip() if text.startswith(QUOTES) else text


def read_all() -> str:
    """Return everything that is piped into the program.

    Raises:
        GenerationError: it is not UTF-8.
    """
    with _utf8() as text:
        return text.read()


def piped_messages() -> Iterator[str]:
    """Yield the messages of the standard input except blank ones.

    Raises:
        GenerationError: the input is not UTF-8.
    """
    lines: list[str] = []
    with _utf8() as text:
        for line in text:
            lines.append(line)
            if is_open("".join(lines)):
                continue
            if message := unquoted("".join(lines)):
                yield message
            lines.clear()
    if rest := unquoted("".join(lines)):
        yield rest


@contextmanager
def _utf8() -> Iterator[TextIO]:
    """Yield the standard input, which must be UTF-8; in some locales Python would let other bytes pass."""
    if isinstance(sys.stdin, TextIOWrapper):
        sys.stdin.reconfigure(errors="strict")
    try:
        yield sys.stdin
    except UnicodeDecodeError:
        raise GenerationError("The input is not valid UTF-8 text; save it as UTF-8.") from None


def typed_messages(console: Console, mark: str, hint: str) -> Iterator[str]:
    """Yield the messages that the user types until Ctrl-D, except blank ones.

    Enter sends a message, Alt-Enter begins another line of it, and a pasted text of several lines is one message. The
    arrow keys bring back earlier messages, those of earlier sessions included. Ctrl-C clears what was typed.

    Args:
        console: the terminal.
        mark: precedes each message.
        hint: printed on Ctrl-C when nothing was typed.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    file = history_file()
    session: PromptSession[str] = PromptSession(
        [("bold ansigreen", mark)],
        history=FileHistory(str(file)) if file else InMemoryHistory(),
        multiline=True,
        prompt_continuation=" " * len(mark),
        key_bindings=_keys(),
    )
    while True:
        try:
            message = unquoted(session.prompt())
        except KeyboardInterrupt:
            say(console, hint, style="dim")
            continue
        except EOFError:
            return
        if message:
            yield message


def _keys() -> "KeyBindings":
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("enter")
    def send(event: "KeyPressEvent") -> None:
        if is_open(event.current_buffer.text):
            event.current_buffer.insert_text("\n")
        else:
            event.current_buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def begin_line(event: "KeyPressEvent") -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("c-c")
    def clear(event: "KeyPressEvent") -> None:
        if event.current_buffer.text:
            event.current_buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    return keys


def history_file() -> Path | None:
    """Return the file that keeps what was typed, readable by its owner alone; None if it cannot be written."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    file = state / "theta" / "chat_history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(file, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
    except OSError:
        return None
    return file
