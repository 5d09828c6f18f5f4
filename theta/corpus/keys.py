"""Keys: texts without the differences that do not matter, as points between 0 and 1, and as records on disk.

Records are kept on disk, so that the memory for finding equal keys hardly grows with the data. They are divided into
files by the key; all records of one key are in the same file, and one file after the other is read and sorted.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_ENUMERATION = re.compile(r"(?:\(?\d{1,3}[.):]|q(?:uestion)?(?: ?\d{1,3})?[.:])\s+")
_IS = re.compile(r"\b(what|who|where|when|how|that|there|here)'?s\b")
_ENUMERATION_SIGNS = (". ", ") ", ": ")
_IS_SIGNS = ("'s", "hats", "whos", "heres", "whens", "hows")
_WORD = re.compile(r"[\w+#]+")
_BETWEEN_ASCII_WORDS = {code: " " for code in range(128) if not _WORD.match(chr(code))}
_ARTICLES = frozenset(("a", "an", "the"))

SHORT_QUESTION = 200
"""Longer questions are hardly asked twice in slightly other words; their near twins are found anyway."""

PARTITION_BITS = 4
"""The first bits of a key, which say in which of 16 files it is."""


def key(text: str) -> str:
    """Return the text without differences of case, Unicode form, white space and outer punctuation.

    Args:
        text: has no control characters other than tabs and line breaks, as `clean` leaves it.
    """
    if text.isascii():
        words = text.lower().replace("\n", " ")
        if not _is_single_spaced(words):
            words = " ".join(words.split())
        return words.strip(_ASCII_OUTER) or words.strip()
    words = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    start, end = 0, len(words)
    while start < end and _is_outer(words[start]):
        start += 1
    while end > start and _is_outer(words[end - 1]):
        end -= 1
    return words[start:end] or words


def count_words(text: str) -> int:
    """Return the number of words between white space in a text that is cleaned (see `key`) and not blank."""
    if text.isascii() and _is_single_spaced(spaced := text.replace("\n", " ")):
        return spaced.strip().count(" ") + 1
    return len(text.split())


def _is_single_spaced(text: str) -> bool:
    """Whether nothing but single spaces stands between words; dividing a text into words takes five times as long."""
    return "  " not in text and "\t" not in text


def question_key(normal: str) -> str:
    """Return a key that equal questions in slightly other words share.

    "What's DNS?", "1. what is the DNS" and "Q: What is DNS 🙂" have one key: numbers in front, articles and symbols are
    left out, and contractions of "is" are written out.

    Args:
        normal: the question as `key` returns it. A long one is returned as it is.
    """
    if len(normal) > SHORT_QUESTION:
        return normal
    # Most questions hold none of the signs, which are quicker to find than the patterns.
    words = _ENUMERATION.sub("", normal) if any(sign in normal for sign in _ENUMERATION_SIGNS) else normal
    words = words.replace("’", "'")
    if any(sign in words for sign in _IS_SIGNS):
        words = _IS.sub(r"\1 is", words)
    parts = words.translate(_BETWEEN_ASCII_WORDS).split() if words.isascii() else _WORD.findall(words)
    if not _ARTICLES.isdisjoint(parts):
        parts = [part for part in parts if part not in _ARTICLES]
    return " ".join(parts) or words


def point(text: str) -> float:
    """Return a point in [0, 1) that depends on the text alone."""
    # A float holds 48 bits exactly, so the quotient never rounds up to 1.
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:6]) / 2**48


def _is_outer(character: str) -> bool:
    # C# is not C.
    return character == " " or (character != "#" and unicodedata.category(character).startswith("P"))


_ASCII_OUTER = "".join(filter(_is_outer, map(chr, range(128))))


class Records:
    """Keys with their owners on disk, in 2 ** partition_bits files."""

    def __init__(self, folder: Path, name: str, partition_bits: int = PARTITION_BITS) -> None:
        self._shift = np.uint64(64 - partition_bits)
        self._dtype = np.dtype([("key", np.uint64), ("owner", np.uint32), ("extra", np.uint64)])
        self._paths = [folder / f"{name}.{part}" for part in range(1 << partition_bits)]
        self._files = [path.open("wb") for path in self._paths]

    def append(self, keys: np.ndarray, owners: np.ndarray, extra: np.ndarray | int = 0) -> None:
        """Add records: uint64 keys, uint32 owners, and another number."""
        records = np.empty(len(keys), self._dtype)
        records["key"], records["owner"], records["extra"] = keys, owners, extra
        part = (keys >> self._shift).astype(np.uint8)  # numbers of a byte are sorted in linear time
        order = np.argsort(part, kind="stable")
        ends = np.cumsum(np.bincount(part, minlength=len(self._files))).tolist()
        begin = 0
        for file, end in zip(self._files, ends, strict=True):
            if end > begin:
                file.write(records[order[begin:end]].tobytes())
            begin = end

    def close(self) -> None:
        """Write what is still in memory."""
        for file in self._files:
            file.close()

    def remove(self) -> None:
        """Remove the files."""
        for path in self._paths:
            path.unlink()

    def keys(self, members: np.ndarray) -> Iterator[np.ndarray]:
        """Yield, for each partition, the keys of the records of members, uint64 [records]; the smallest come first."""
        for path in self._paths:
            records = np.fromfile(path, self._dtype)
            yield records["key"][members[records["owner"]]]

    def runs(self, members: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yield, for each partition, the records of members whose key another record has too, by key and owner.

        Args:
            members: whether a conversation counts, bool [conversations].

        Yields:
            owners uint32 [records], extra uint64 [records], and sizes int64 [runs]: the number of records of each key,
            one key after the other.
        """
        for path in self._paths:
            records = np.fromfile(path, self._dtype)
            records = _shared(records[members[records["owner"]]])
            if len(records):
                keys = records["key"]
                is_new = np.concatenate(([True], keys[1:] != keys[:-1]))
                yield records["owner"], records["extra"], np.diff(np.append(np.flatnonzero(is_new), len(keys)))


def _shared(records: np.ndarray) -> np.ndarray:
    """Return the records whose key another record has too, by key, owner and extra."""
    # Few are shared as a rule, so all are sorted by key alone, in a fifth of the time of sorting by key and owner.
    order = np.argsort(records["key"])
    keys = records["key"][order]
    is_shared = np.zeros(len(keys), np.bool_)
    is_shared[1:] = keys[1:] == keys[:-1]
    is_shared[:-1] |= is_shared[1:]
    shared = records[order[is_shared]]
    # The first sort leaves equal keys in an order that differs between processors, so this one leaves none open.
    return shared[np.lexsort((shared["extra"], shared["owner"], shared["key"]))]


def starts(sizes: np.ndarray) -> np.ndarray:
    """Return where each run of these sizes begins."""
    return np.asarray(np.cumsum(sizes) - sizes)
