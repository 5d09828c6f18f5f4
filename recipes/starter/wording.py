"""English on a small scale: articles, sentences from fragments, verbs, and which of several wordings is taken."""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from recipes.starter.prose import sentences

FEWEST_WORDS, MOST_WORDS = 10, 120
"""Of an answer."""
_ENDS = (".", "!", "?", '."', ".)", '?"', '!"')


class Exchange(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


def pick(options: Sequence[str], key: str) -> str:
    """One of the options, always the same for a key."""
    return options[int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % len(options)]


def with_article(noun: str) -> str:
    """`a` or `an` before a noun, by its first sound as far as spelling shows it."""
    if re.match(r"[A-Z]{2,}\b|[A-Z]\d|[A-Z]-", noun):  # spelt out
        return f"{'an' if noun[0] in 'AEFHILMNORSX' else 'a'} {noun}"
    vowel = re.match(r"[aeio]|u(?!ni|se|sa|ra|ri|ro|to|ti|b[iq]|k)|hones|hour|honor|heir", noun, re.I)
    return f"{'an' if vowel and not re.match(r'eu|ewe|one|once', noun, re.I) else 'a'} {noun}"


def lowered(text: str) -> str:
    """The text as it stands inside a sentence: a first word like `The` in lower case, `DNS` or `I` as it is."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or first in ("A",) else text


def raised(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """A capital letter at the beginning, a full stop at the end."""
    text = raised(text.strip().rstrip(",;:"))
    return text if text.endswith((".", "!", "?", '."', ".)")) else f"{text}."


_POINTING = re.compile(
    r"\b(?:[Ss]ee (?:also|the|Section|section|above|below|[A-Z\[`])|(?:as|are) follow|follows?:|below|above|"
    r"the following|"
    r"next section|this (?:section|chapter|document|guide|manual|tutorial|appendix|page)|[Ss]ection \d|[Cc]hapter|"
    r"Figure|Table \d|for (?:more|further) (?:info|details))\b|^(?:See|Compare|Contrast|Note that|For details)\b"
)
_ASIDE = re.compile(r" \((?:see|See|cf\.|compare)\b[^()]*(?:\([^()]*\)[^()]*)*\)")
"""What an answer cannot point at, as it stands alone."""


def answer(paragraphs: Sequence[str], most_words: int = MOST_WORDS) -> str:
    """Whole sentences from the beginning of some paragraphs, up to one that points elsewhere, and as many as fit.

    Empty if they make no answer.
    """
    kept: list[str] = []
    room = most_words
    for number, paragraph in enumerate(paragraphs):
        fitting: list[str] = []
        whole = sentences(_ASIDE.sub("", paragraph))
        for each in whole:
            room -= len(each.split())
            if room < 0 or not each.endswith(_ENDS) or _POINTING.search(each):
                break
            fitting.append(each)
        kept += [" ".join(fitting)] if fitting else []
        if room < most_words // 4 or len(fitting) < len(whole) or number:
            break
    text = "\n\n".join(kept)
    return text if is_answer(text) else ""


def is_answer(text: str) -> bool:
    """Whether a text has the length and the ending of an answer."""
    return FEWEST_WORDS <= len(text.split()) <= MOST_WORDS and text.endswith(_ENDS)


def base_verb(gerund: str, verbs: frozenset[str]) -> str | None:
    """`create` for `creating`, if it is a verb."""
    stem = gerund.lower().removesuffix("ing")
    if stem == gerund.lower() or len(stem) < 2:
        return None
    candidates = (f"{stem}e", stem, stem[:-1] if stem[-1:] == stem[-2:-1] else "")
    return next((each for each in candidates if each in verbs), None)
