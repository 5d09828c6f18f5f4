"""Files of prepared conversations -> files of documents, in several processes where that pays.

PREPARED/{train,validation,test,rehearsal}.jsonl -> FOLDER/{train,validation,test,rehearsal}.arrow, FOLDER/cut.jsonl
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import orjson

from theta.conversation.messages import Conversation
from theta.errors import DataError
from theta.files import line_ends, parse_json_line, sha256
from theta.parallel import ordered_map
from theta.tokens.encode import ConversationEncoder, Counts, Encoded
from theta.tokens.report import empty_split
from theta.tokens.store import Documents, write_batches
from theta.tokens.vocabulary import TOKENIZER_JSON, Vocabulary

SPLITS = ("train", "validation", "test")
REHEARSAL = "rehearsal"
CUT = "cut.jsonl"
"""The replies that were cut and the exchanges that were dropped, one a line."""

BATCH_BYTES = 1 << 20
"""Size of the lines that are encoded together; they become one record batch, so it decides the bytes of the file."""

BYTES_PER_PROCESS = 16 << 20
"""Another process pays from here on: it takes most of a second to start."""


def build(
    prepared: Path, folder: Path, max_length: int, positions: int, cores: int, progress: Callable[[float], None]
) -> dict[str, Counts]:
    """Encode all splits and the conversations for rehearsal; the bytes do not depend on the number of cores.

    Args:
        prepared: the folder that prepare wrote.
        folder: holds `tokenizer`, the saved vocabulary; the files are written beside it.
        max_length: of a document, in tokens.
        positions: the largest `max_length` that the base allows.
        cores: at most so many processes run at once.
        progress: is told which fraction of the work is done.

    Returns:
        The figures of each split and of rehearsal.

    Raises:
        DataError: a file is missing or damaged, train has no documents, or nothing of what is held back is learned.
        OutOfMemoryError: a process was killed.
    """
    sources = {name: prepared / f"{name}.jsonl" for name in (*SPLITS, REHEARSAL)}
    total_bytes = sum(path.stat().st_size for path in sources.values() if path.is_file())
    done_bytes = 0

    def advance(size: int) -> None:
        nonlocal done_bytes
        done_bytes += size
        progress(done_bytes / total_bytes)

    counts = {}
    with (folder / CUT).open("w", encoding="utf-8", newline="\n") as cut:
        encoded = encode_files(list(sources.values()), folder / "tokenizer", max_length, cores)
        for name, path in sources.items():
            figures = counts[name] = Counts()
            of_file = iter(lambda: next(encoded), None)
            write_batches(folder / f"{name}.arrow", _counted(of_file, name, figures, cut, advance))
            # prepare leaves a split empty only where its fraction is 0.
            if name in SPLITS and not figures.lengths and (name == "train" or figures.conversations):
                raise DataError(empty_split(path, figures, max_length, positions))
    return counts


def _counted(
    batches: Iterable[tuple[int, Encoded]], name: str, figures: Counts, cut: TextIO, advance: Callable[[int], None]
) -> Iterator[Documents]:
    """Yield the documents; add their figures, list what was lost, and tell the bytes that were read."""
    for size, encoded in batches:
        figures.add(encoded.counts)
        for loss in encoded.losses:
            cut.write(json.dumps({"split": name, **loss._asdict()}, ensure_ascii=False) + "\n")
        advance(size)
        yield encoded.documents


class Lines(NamedTuple):
    """Consecutive lines of a file of prepared conversations."""

    path: Path
    first: int
    """The number of the first line, counting from 1."""
    content: bytes


def encode_files(
    paths: Sequence[Path], tokenizer: Path, max_length: int, cores: int
) -> Iterator[tuple[int, Encoded] | None]:
    """Encode files of prepared conversations.

    Args:
        paths: JSON Lines, as prepare writes them.
        tokenizer: the folder of the vocabulary.
        max_length: of a document, in tokens.
        cores: at most so many processes run at once.

    Yields:
        For each file, the size in bytes of each batch of lines and what it became, in order; then None.

    Raises:
        DataError: a file is missing, or a line is not a conversation.
        OutOfMemoryError: a process was killed.
    """
    total_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    work = partial(encode_lines, tokenizer=tokenizer, digest=sha256(tokenizer / TOKENIZER_JSON), max_length=max_length)
    # The processes serve all files: each of them loads the tokenizer.
    return ordered_map(work, _batches(paths), max(1, min(cores, total_bytes // BYTES_PER_PROCESS)))


def _batches(paths: Sequence[Path]) -> Iterator[Lines | None]:
    """Yield the lines of each file in batches, and None after the last."""
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist; run `dvc repro` to create it.")
        with path.open("rb") as content:
            first = 1
            while part := content.read(BATCH_BYTES + 1):
                lines = Lines(path, first, part if part.endswith(b"\n") else part + content.readline())
                yield lines
                first += line_ends(lines.content)
        yield None


def encode_lines(batch: Lines | None, tokenizer: Path, digest: str, max_length: int) -> tuple[int, Encoded] | None:
    """Encode some lines; see `encode_files`."""
    if batch is None:
        return None
    conversations = [
        _conversation(batch.path, number, line)
        for number, line in enumerate(batch.content.split(b"\n"), start=batch.first)
        if line.strip()
    ]
    return len(batch.content), _encoder(tokenizer, digest).encode(conversations, max_length)


def _conversation(path: Path, number: int, line: bytes) -> Conversation:
    try:
        return _checked(orjson.loads(line))
    except (ValueError, KeyError, TypeError):
        return _read_slowly(path, number, line)


def _read_slowly(path: Path, number: int, line: bytes) -> Conversation:
    """Read a line that may be damaged, and say what is wrong with it."""
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
def _encoder(tokenizer: Path, digest: str) -> ConversationEncoder:  # noqa: ARG001 - the digest is for the cache
    """Return the encoder of a process, which is loaded once for each tokenizer."""
    return ConversationEncoder(Vocabulary.load(tokenizer))
