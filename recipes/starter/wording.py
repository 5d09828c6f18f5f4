"""Small tools for English: articles, sentences from fragments, verbs, and the choice among wordings."""

import hashlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from recipes.starter.prose import sentences

MIN_WORDS, MAX_WORDS = 10, 120
"""Length of an answer."""
_ENDS = (".", "!", "?", '."', ".)", '?"', '!"')


class Exchange(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


def pick(options: Sequence[str], key: str) -> str:
    """Return one of the options, always the same for a key."""
    return options[int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) % len(options)]


def with_article(noun: str) -> str:
    """Return the noun with `a` or `an`, by its first sound as far as the spelling shows it."""
    if re.match(r"[A-Z]{2,}\b|[A-Z]\d|[A-Z]-", noun):  # spelt out
        return f"{'an' if noun[0] in 'AEFHILMNORSX' else 'a'} {noun}"
    vowel = re.match(r"[aeio]|u(?!ni|se|sa|ra|ri|ro|to|ti|b[iq]|k)|hones|hour|honor|heir", noun, re.I)
    return f"{'an' if vowel and not re.match(r'eu|ewe|one|once', noun, re.I) else 'a'} {noun}"


def lowered(text: str) -> str:
    """Return the text as inside a sentence: a first word like `The` in lower case, `DNS` or `I` unchanged."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:].islower() or first in ("A",) else text


def raised(text: str) -> str:
    """Return the text with a capital first letter."""
    return text[:1].upper() + text[1:]


def sentence(text: str) -> str:
    """Return the text with a capital first letter and a full stop."""
    text = raised(text.strip().rstrip(",;:"))
    return text if text.endswith((".", "!", "?", '."', ".)")) else f"{text}."


_POINTING = re.compile(
    r"\b(?:[Ss]ee (?:also|the|Section|section|above|below|[A-Z\[`])|(?:as|are) follow|follows?:|below|above|"
    r"the following|"
    r"next section|this (?:section|chapter|document|guide|manual|tutorial|appendix|page)|[Ss]ection \d|[Cc]hapter|"
    r"Figure|Table \d|for (?:more|further) (?:info|details))\b|^(?:See|Compare|Contrast|Note that|For details)\b"
)
_ASIDE = re.compile(r" \((?:see|See|cf\.|compare)\b[^()]*(?:\([^()]*\)[^()]*)*\)")
"""References that an answer must not have, because it is read alone."""


def answer(paragraphs: Sequence[str], max_words: int = MAX_WORDS) -> str:
    """Return as many complete sentences from the start of some paragraphs as fit, up to one that refers elsewhere.

    The result is empty if the sentences do not form an answer.
    """
    kept: list[str] = []
    room = max_words
    for number, paragraph in enumerate(paragraphs):
        fitting: list[str] = []
        whole = sentences(_ASIDE.sub("", paragraph))
        for each in whole:
            room -= len(each.split())
            if room < 0 or not each.endswith(_ENDS) or _POINTING.search(each):
                break
            fitting.append(each)
        kept += [" ".join(fitting)] if fitting else []
        if room < max_words // 4 or len(fitting) < len(whole) or number:
            break
    text = "\n\n".join(kept)
    return text if is_answer(text) else ""


def is_answer(text: str) -> bool:
    """Whether a text has the length and the ending of an answer."""
    return MIN_WORDS <= len(text.split()) <= MAX_WORDS and text.endswith(_ENDS)


def base_verb(gerund: str, verbs: frozenset[str]) -> str | None:
    """Return the verb of a gerund, such as `create` for `creating`; None if it is not one of `verbs`."""
    stem = gerund.lower().removesuffix("ing")
    if stem == gerund.lower() or len(stem) < 2:
        return None
    candidates = (f"{stem}e", stem, stem[:-1] if stem[-1:] == stem[-2:-1] else "")
    return next((each for each in candidates if each in verbs), None)
