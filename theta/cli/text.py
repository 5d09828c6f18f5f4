"""Text of users, files and models in a form that is safe for a terminal."""

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` with its control characters escaped, such as \\x1b; line ends and tabs stay.

    Replies, file names and domains may contain escape sequences that change the terminal's title, colors or clipboard,
    characters that reverse the order of letters, and lone surrogates, which cannot be printed.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
