"""A file of prepared conversations -> encoded batches, in several processes if that pays."""

import os
from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from theta.conversation.messages import Conversation
from theta.errors import DataError
from theta.files import parse_json_line
from theta.parallel import ordered_map
from theta.tokens.encode import ConversationEncoder, Encoded
from theta.tokens.vocabulary import Vocabulary

BATCH_BYTES = 1 << 20
"""Size of the lines that are encoded together; they become one record batch, so it decides the bytes of the file."""

BYTES_PER_PROCESS = 16 << 20
"""Another process pays from here on: it takes most of a second to start."""


class Lines(NamedTuple):
    """Consecutive lines of a file of prepared conversations."""

    path: Path
    first: int
    """The number of the first line, counting from 1."""
    lines: Sequence[bytes]


def encode_file(path: Path, tokenizer: Path, max_length: int) -> Iterator[tuple[int, Encoded]]:
    """Encode a file of prepared conversations; the result does not depend on the number of processes.

    Args:
        path: JSON Lines, as prepare writes them.
        tokenizer: the folder of the vocabulary.
        max_length: of a document, in tokens.

    Yields:
        The batches in order, and how many bytes of the file have been encoded after each.

    Raises:
        DataError: the file is missing, or a line is not a conversation.
    """
    sizes: list[int] = []
    done = 0
    work = partial(encode_lines, tokenizer=tokenizer, max_length=max_length)
    for encoded in ordered_map(work, _batches(path, sizes), _processes(path)):
        done += sizes.pop(0)
        yield done, encoded


def _processes(path: Path) -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    size = path.stat().st_size if path.is_file() else 0
    return max(1, min(cores, size // BYTES_PER_PROCESS))


def _batches(path: Path, sizes: list[int]) -> Iterator[Lines]:
    """Yield the lines of a file in batches, and append the size of each batch to `sizes`."""
    try:
        with path.open("rb") as content:
            first = 1
            while lines := content.readlines(BATCH_BYTES):
                sizes.append(sum(map(len, lines)))
                yield Lines(path, first, lines)
                first += len(lines)
    except FileNotFoundError:
        raise DataError(f"{path} does not exist; run `dvc repro` to create it.") from None


def encode_lines(batch: Lines, tokenizer: Path, max_length: int) -> Encoded:
    """Encode some lines; see `encode_file`."""
    conversations = [
        _conversation(batch.path, number, line)
        for number, line in enumerate(batch.lines, start=batch.first)
        if line.strip()
    ]
    return _encoder(tokenizer).encode(conversations, max_length)


def _conversation(path: Path, number: int, line: bytes) -> Conversation:
    try:
        text = line.decode()
    except UnicodeDecodeError as fault:
        raise DataError(
            f"{path}, line {number}, is not UTF-8 text ({fault.reason}); run `dvc repro` to recreate the file."
        ) from None
    conversation: Conversation = parse_json_line(path, number, text, _checked)
    return conversation


def _checked(value: Any) -> Conversation:
    conversation = Conversation.from_json(value)
    roles = [message.role for message in conversation.messages]
    chat = roles[1:] if roles[0] == "system" else roles
    if roles != ["text"] and (not chat or chat != ["user", "assistant"] * (len(chat) // 2)):
        raise ValueError("its messages are not those of a user and the assistant in turn")
    return conversation


@lru_cache(maxsize=1)
def _encoder(tokenizer: Path) -> ConversationEncoder:
    """Return the encoder of a process, which is loaded once."""
    return ConversationEncoder(Vocabulary.load(tokenizer))
