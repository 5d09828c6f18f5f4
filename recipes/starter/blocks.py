"""The common form of all documentation formats: pages of blocks of clean text, in order."""

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal

Kind = Literal["heading", "term", "paragraph", "gap"]

# Punctuation with an ASCII equivalent, so that a small model need not learn three apostrophes.
_ASCII = str.maketrans({
    "\u2018": "'", "\u2019": "'", "\u201a": "'", "\u2032": "'", "\u00b4": "'",
    "\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"',
    "\u2010": "-", "\u2011": "-", "\u2012": "-", "\u2013": "-", "\u2212": "-", "\u2014": " - ",
    "\u2026": "...", "\u2022": "-", "\u00b6": "", "\u00ad": "", "\u200b": "", "\ufeff": "", "\u2044": "/",
})  # fmt: skip
_LIGATURES = re.compile("[\ufb00-\ufb06\u00a0\u2000-\u200a\u202f\uff01-\uff5e]")
_SPACE_BEFORE = re.compile(r" +([,;:!?)]|\.(?![\w.]))")


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of a page. Paragraphs after a term describe it; a gap marks code or a table that was left out."""

    kind: Kind
    text: str


def tidy(text: str) -> str:
    """Return the text as one line with single spaces and ASCII punctuation."""
    text = _LIGATURES.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text).translate(_ASCII)
    return _SPACE_BEFORE.sub(r"\1", " ".join(unicodedata.normalize("NFC", text).split()))
