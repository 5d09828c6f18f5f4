"""A file -> blocks of items, by the reader of its kind."""

from collections.abc import Iterator

from theta.corpus.readers import arrow_files, csv_files, json_files, text_files
from theta.corpus.readers.blocks import Block, IsMessage, never
from theta.corpus.readers.content import opened
from theta.corpus.readers.finding import File


def read(file: File, is_message: IsMessage = never) -> Iterator[Block]:
    """Yield the blocks of a file in order. What stands before a fault is yielded before the error is raised.

    Entries that are broken in themselves raise nothing: they are items whose `broken` says why and where.

    Args:
        file: the file.
        is_message: whether a value is a message of a chat: a file or a list whose first entry is one is one item, the
            list of all entries. A function of a module, since blocks are sent to other processes.

    Raises:
        DataError: the file cannot be read, is of no kind that is read, is empty, or ends inside a value.
        OutOfMemoryError: the file needs more memory than the machine has.
    """
    with opened(file) as content:
        if content.kind == "json":
            yield from json_files.read(content, is_message)
        elif content.kind in ("csv", "tsv"):
            yield from csv_files.read(content, is_message)
        elif content.kind == "text":
            yield from text_files.read(content)
        else:
            yield from arrow_files.read(content, is_message)
