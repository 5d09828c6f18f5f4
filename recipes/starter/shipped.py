"""The questions of the shipped conversations, which the starter must not see."""

from pathlib import Path

from theta.corpus import keys, shapes
from theta.corpus.readers.finding import find
from theta.corpus.readers.reading import read


def questions(path: Path) -> frozenset[str]:
    """Return the keys of all questions in a folder of conversations."""
    shaped = (
        shapes.read(item.value, item.source, item.domain)
        for file in find(path).files
        for block in read(file)
        for item in block.items()
    )
    return frozenset(
        keys.key(message.content)
        for each in shaped
        if isinstance(each, shapes.Shaped)
        for message in each.conversation.messages
        if message.role == "user"
    )
