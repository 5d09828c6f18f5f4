"""Keys: texts without the differences that do not matter, and points between 0 and 1."""

import hashlib
import re
import unicodedata

_ENUMERATION = re.compile(r"(?:\(?\d{1,3}[.):]|q(?:uestion)?(?: ?\d{1,3})?[.:])\s+")
_IS = re.compile(r"\b(what|who|where|when|how|that|there|here)'?s\b")
_ENUMERATION_SIGNS = (". ", ") ", ": ")
_IS_SIGNS = ("'s", "hats", "whos", "heres", "whens", "hows")
_WORD = re.compile(r"[\w+#]+")
_BETWEEN_ASCII_WORDS = {code: " " for code in range(128) if not _WORD.match(chr(code))}
_ARTICLES = frozenset(("a", "an", "the"))

SHORT_QUESTION = 200
"""Longer questions are hardly asked twice in slightly other words; their near twins are found anyway."""


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
