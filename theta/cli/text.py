"""Text of users, files and models as a terminal may show it."""

import re

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """`text` with its control characters spelled out, such as \\x1b; line ends and tabs stay.

    What a model writes, and the names of files and domains, may hold escape sequences that change the terminal's
    title, colors or clipboard, signs that turn the order of the letters, and halves of characters that nothing prints.
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
