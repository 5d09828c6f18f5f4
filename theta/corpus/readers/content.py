"""A file -> its kind, told by the first bytes, and its content as a stream of bytes: decompressed, text in UTF-8.

The ending counts only where the bytes do not tell: a gzip named .json is read as the JSON inside.
"""

import codecs
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from theta.corpus.readers.finding import JSON_ENDINGS, TEXT_ENDINGS, File, ending, shown
from theta.errors import DataError, OutOfMemoryError, reason

CHUNK_BYTES = 1 << 20
"""How much is read at once. Blocks have about this size."""

_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\x00": "xz",
    **{b"BZh%d1AY&SY" % level: "bzip2" for level in range(1, 10)},
}
_ARROW_STREAM = b"\xff\xff\xff\xff"
_READ_BY_ARROW = {b"PAR1": "parquet", b"ARROW1": "arrow", _ARROW_STREAM: "arrow stream"}
_UNREADABLE = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"PK\x05\x06": "an empty zip archive; remove it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!\x1a\x07": "a RAR archive; unpack it",
    b"SQLite format 3\x00": "an SQLite database; export its table as .csv",
    b"%PDF-": "a PDF; save its text as .txt",
    b"{\\rtf": "an RTF document; save it as .txt",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old Microsoft Office document; save it as .csv or .txt",
    b"\x89HDF\r\n\x1a\n": "an HDF5 file; export it as .jsonl",
    b"\x93NUMPY": "a NumPy array; export it as .jsonl",
    b"Obj\x01": "an Avro file; export it as .parquet",
    b"FEA1": "a feather file of version 1; write it anew with pyarrow",
    b"\x89PNG": "a PNG image; remove it",
    b"\xff\xd8\xff": "a JPEG image; remove it",
    b"GIF89a": "a GIF image; remove it",
    b"OggS\x00": "an Ogg recording; remove it",
    b"\x7fELF": "a program; remove it",
    b"\x80\x04\x95": "a pickle, which can run any code when it is read; export it as .jsonl",
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; run `git lfs pull`",
}
_LONGEST_MARK = 32

_JSON_BEGINS = re.compile(rb'(\xef\xbb\xbf)?[\s\x00\[]*\{[\s\x00]*"')
"""How a list of objects begins, or objects one after another; no text and no CSV begins so."""

_NAMES_OF_COLUMNS = re.compile(
    rb'(?:\xef\xbb\xbf)?"?(?:question|prompt|instruction|input|query|context|user)s?"?[,;\t|]'
    rb'"?(?:context|input|answer|response|completion|output|reply|assistant)s?"?[,;\t|\r\n]',
    re.IGNORECASE,
)
"""How a table begins that is named .txt."""

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Content:
    """The open content of a file.

    Attributes:
        kind: json, csv, tsv, text, parquet, arrow or arrow stream.
        stream: the decompressed bytes, from the beginning.
    """

    def __init__(self, file: File, stream: Any, is_compressed: bool) -> None:
        self.file, self.stream, self.is_compressed = file, stream, is_compressed
        head = stream.read(_LONGEST_MARK)
        self._begin = head
        self.kind = _kind(file, head)

    def chunks(self) -> Iterator[bytes]:
        """Yield the content in pieces of about CHUNK_BYTES, without a byte order mark, transcoded to UTF-8.

        Bytes of a UTF-8 file are passed on as they are, even if they are not valid.

        Raises:
            DataError: the file is empty, or UTF-16 or UTF-32 with bytes that are not valid there.
        """
        encoding, mark_bytes = _encoding(self._begin)
        raw = self._raw(mark_bytes)
        is_blank = True
        for chunk in raw if encoding == "utf-8" else self._transcoded(raw, encoding):
            is_blank = is_blank and not chunk.strip()
            yield chunk
        if is_blank:
            raise DataError(f"{self.file.name} is empty; remove it, or leave it out with data.exclude.")

    def _raw(self, skipped_bytes: int) -> Iterator[bytes]:
        """Yield what can be read, also where a compressed file turns out to be damaged; the error follows."""
        parts, size, ends = [self._begin[skipped_bytes:]], len(self._begin) - skipped_bytes, False
        while not ends:
            try:
                while size < CHUNK_BYTES and not ends:
                    part = self.stream.read1(CHUNK_BYTES - size)
                    ends = not part
                    parts.append(part)
                    size += len(part)
            except Exception:
                if size:
                    yield b"".join(parts)
                raise
            if size:
                yield b"".join(parts)
                parts, size = [], 0

    def _transcoded(self, raw: Iterator[bytes], encoding: str) -> Iterator[bytes]:
        decoder = codecs.getincrementaldecoder(encoding)()
        line = 1
        try:
            for chunk in raw:
                # A lone half of a surrogate pair cannot come out of these decoders: they refuse it.
                if text := decoder.decode(chunk):
                    line += text.count("\n")
                    yield text.encode()
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as fault:
            if text := fault.object[: fault.start].decode(encoding):
                yield text.encode()
            line += text.count("\n")
            raise DataError(
                f"{self.file.name}, line {line}: not valid {encoding.upper()} ({fault.reason}); save the file as UTF-8."
            ) from None


@contextmanager
def opened(file: File) -> Iterator[Content]:
    """Open a file, and turn every error of reading it into one line.

    Raises:
        DataError: the file cannot be read, is damaged, or is of a kind that is not read; the message says of which.
        OutOfMemoryError: the file needs more memory than the machine has.
    """
    import lzma
    import zlib

    try:
        with file.path.open("rb", buffering=CHUNK_BYTES) as stream:
            compression = _marked(_COMPRESSED, stream.read(_LONGEST_MARK))
            stream.seek(0)
            yield Content(file, _decompressed(stream, compression), bool(compression))
    except OSError as fault:
        if fault.errno is None:  # of a decompressor
            raise _damaged(file, fault) from None
        raise DataError(
            f"{file.name} cannot be read ({fault.strerror}); allow access, or leave it out with data.exclude."
        ) from None
    except (EOFError, zlib.error, lzma.LZMAError) as fault:
        raise _damaged(file, fault) from None
    except MemoryError:
        raise OutOfMemoryError(
            f"{file.name} needs more memory than there is; store its conversations as JSON Lines, one a line."
        ) from None


def _damaged(file: File, fault: Exception) -> DataError:
    return DataError(
        f"{file.name} is compressed, and damaged or incomplete ({shown(reason(fault))}); copy or download it again."
    )


def _marked(marks: dict[bytes, str], head: bytes) -> str:
    return next((what for mark, what in marks.items() if head.startswith(mark)), "")


def _decompressed(stream: IO[bytes], compression: str) -> Any:
    """Open what a compressed stream holds, also where several were written one after another."""
    import bz2
    import gzip
    import lzma

    openers: dict[str, Callable[[], Any]] = {
        "gzip": lambda: gzip.GzipFile(fileobj=stream),
        "bzip2": lambda: bz2.BZ2File(stream),
        "xz": lambda: lzma.LZMAFile(stream),  # noqa: SIM115  `opened` closes the file itself
        "zstd": lambda: io.BufferedReader(_Zstandard(stream), CHUNK_BYTES),
    }
    return openers[compression]() if compression else stream


_ZSTANDARD_BYTES = 8192
"""Little, because it may be a million times as much when decompressed."""


class _Zstandard(io.RawIOBase):
    """Decompresses a .zst file. The library's own reader takes a file that is cut off for a complete one."""

    def __init__(self, stream: IO[bytes]) -> None:
        import zstandard

        self._stream, self._new = stream, zstandard.ZstdDecompressor(max_window_size=1 << 31).decompressobj
        self._frame: Any = None
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            chunk = self._stream.read(_ZSTANDARD_BYTES)
            if not chunk:
                if self._frame is not None:
                    raise EOFError("the file ends before its end marker")
                return 0
            self._left = memoryview(self._decompressed(chunk))
        count = min(len(buffer), len(self._left))
        buffer[:count], self._left = self._left[:count], self._left[count:]
        return count

    def _decompressed(self, chunk: bytes) -> bytes:
        import zstandard

        parts = []
        try:
            while chunk:
                self._frame = self._frame or self._new()
                parts.append(self._frame.decompress(chunk))
                chunk = self._frame.unused_data
                if self._frame.eof:
                    self._frame = None
        except zstandard.ZstdError as fault:
            raise EOFError(reason(fault)) from None
        return b"".join(parts)


def _kind(file: File, head: bytes) -> str:
    if what := _marked(_UNREADABLE, head):
        raise DataError(f"{file.name} is {what}, or leave it out with data.exclude.")
    if kind := _marked(_READ_BY_ARROW, head):
        return kind
    suffix = ending(file.path.name)
    if suffix in JSON_ENDINGS:
        return "json"
    if suffix != ".md" and _JSON_BEGINS.match(head):
        return "json"
    if suffix in TEXT_ENDINGS:
        return "csv" if suffix == ".txt" and _NAMES_OF_COLUMNS.match(head) else "text"
    if suffix in (".csv", ".tsv"):
        return suffix.removeprefix(".")
    if suffix in (".parquet", ".arrow", ".feather"):
        raise DataError(
            f"{file.name} does not begin as a {suffix} file does; copy or download it again, or name it after its kind."
        )
    raise DataError(f"{file.name} is of no kind that Theta reads; name it .jsonl, .json, .csv, .parquet or .txt.")


def _encoding(head: bytes) -> tuple[str, int]:
    """The encoding of a text, and the length of its byte order mark."""
    for mark, encoding in _BOMS:
        if head.startswith(mark):
            return encoding, len(mark)
    # Without a mark, every second byte of ASCII in UTF-16 is null, and three of four in UTF-32 (RFC 4627, section 3).
    nulls = "".join("0" if each == 0 else "x" for each in head[:4])
    patterns = {"000x": "utf-32-be", "x000": "utf-32-le", "0x0x": "utf-16-be", "x0x0": "utf-16-le"}
    return patterns.get(nulls, "utf-8"), 0
