"""Text that people read: characters that are safe for a terminal, numbers with their nouns, and help."""

import re
from inspect import cleandoc

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` with its control characters escaped, such as \\x1b; line ends and tabs stay.

    Replies, file names and domains may contain escape sequences that change the terminal's title, colors or clipboard,
    characters that reverse the order of letters, and lone surrogates, which cannot be printed.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, such as "1 token" or "1,024 tokens".

    Args:
        number: how many.
        noun: in the singular.
        plural: None adds an s to the noun.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def help_of(docstring: str | None) -> str:
    """Return a command's docstring without sections such as Raises, and with a line for each paragraph.

    typer keeps the line ends of a docstring, and wraps lines to the width of the terminal.
    """
    paragraphs = cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs if not each.startswith(("Args:", "Raises:")))
