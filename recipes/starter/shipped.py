"""The questions of the shipped conversations, which the starter must not see."""

from pathlib import Path

from theta.conversation.messages import Conversation
from theta.corpus import keys
from theta.corpus.items import Notes, Rules
from theta.corpus.readers.finding import find
from theta.corpus.readers.reading import read
from theta.corpus.shapes.shape import is_message, shape


def questions(path: Path) -> frozenset[str]:
    """Return the keys of all questions in a folder of conversations."""
    shaped = (
        each
        for file in find(path).files
        for block in read(file, is_message)
        for item in block.items()
        for each in shape(item, Rules(), Notes())
    )
    return frozenset(
        keys.key(message.content)
        for each in shaped
        if isinstance(each, Conversation)
        for message in each.messages
        if message.role == "user"
    )
