"""A .txt or .md file -> one block with one item, {"text": ...}."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from theta.corpus.items import Item
from theta.corpus.readers.blocks import Named
from theta.corpus.readers.content import Content
from theta.corpus.readers.finding import File
from theta.errors import DataError

TEXT_BYTES_AT_MOST = 256 << 20
"""A text is one document, which is held in memory several times over."""


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A whole text."""

    file: File
    content: bytes

    def items(self) -> Iterator[Item]:
        """Yield the text."""
        try:
            yield replace(Named(self.file).item(1, {"text": self.content.decode()}), is_file=True)
        except UnicodeDecodeError as fault:
            line = self.content.count(b"\n", 0, fault.start) + 1
            why = f"not_utf8: line {line}: byte 0x{self.content[fault.start]:02x} is not UTF-8"
            yield Named(self.file).broken(1, self.content.decode("utf-8", "replace"), why)


def read(content: Content) -> Iterator[TextBlock]:
    """Yield the text of a file.

    Raises:
        DataError: it is larger than TEXT_BYTES_AT_MOST.
    """
    text = bytearray()
    for chunk in content.chunks():
        text += chunk
        if len(text) > TEXT_BYTES_AT_MOST:
            raise DataError(f"{content.file.name} is larger than {TEXT_BYTES_AT_MOST >> 20} MB; divide it into files.")
    yield TextBlock(content.file, bytes(text))
