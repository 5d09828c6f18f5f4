"""Other ways to ask a question, made by rules: the way people who have not seen the question would type it.

    How do I list files?  ->  how to list files · Best way to list files? · hi, how do i lsit files · list files, how

A form of question ("What is X?") is put into other forms ("explain X", "X?"), a word may be contracted, left out or
misspelt, a polite opening may stand in front, and case and punctuation may be missing. The meaning stays: negations,
numbers, names and code are in every rewording. The rules are for English (`theta.corpus.english` has its words and
forms); typos, case and punctuation serve other languages too.

The rewordings of a question are always the same, on every machine: they are drawn by the bytes of a hash.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import TypeVar

from theta.corpus.english import (
    CONTRACTIONS,
    ENDINGS,
    FORMS,
    LEFT_OUT,
    NEGATIONS,
    NO_TYPO,
    OPENINGS,
    OUTER,
    SENSITIVE,
    WRITTEN_LARGE,
)

T = TypeVar("T")

LONGEST_CHARACTERS = 200
"""Longer questions, and those of several lines, are left as they are: people copy them more than they retype them."""
TRIES_PER_REWORDING = 6
SHOUTED_CHARACTERS = 40
"""Longer questions are hardly typed in capitals."""
TYPO_LETTERS = 5
"""Shorter words are hardly recognised with a typo."""


_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")


def rewordings(question: str, written: Sequence[str], amount: int, *, english: bool = True) -> list[str]:
    """Return up to `amount` rewordings of a question, each once; fewer if the rules give fewer.

    Args:
        question: as a person wrote it. One that is long or has several lines has no rewordings.
        written: other ways to ask it, which are reworded too.
        english: whether the rules for English apply.
    """
    if amount < 1 or not _can_be_reworded(question):
        return []
    draw = _Draws(question)
    bases = [question, *written]
    if english:
        bases += draw.shuffled([form for text in (question, *written[:1]) for form in _in_other_forms(text)])
    found: dict[str, None] = {}
    for turn in range(amount * TRIES_PER_REWORDING):
        if len(found) == amount:
            break
        made = _retyped(bases[turn % len(bases)], draw, english=english)
        if made and made != question and made not in written:
            found[made] = None
    return list(found)


def _can_be_reworded(question: str) -> bool:
    is_short = bool(question.strip()) and "\n" not in question and len(question) <= LONGEST_CHARACTERS
    return is_short and not _SPAN_OF_WORDS.search(question) and not SENSITIVE.search(question)


_SPAN_OF_WORDS = re.compile(r"`[^`]*\s[^`]*`")
"""Code of several words, none of which may change."""


class _Draws:
    """Numbers and choices that depend on a text alone."""

    def __init__(self, text: str) -> None:
        self._numbers = _numbers(text)

    def below(self, limit: int) -> int:
        return next(self._numbers) % limit

    def one(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def shuffled(self, values: Sequence[T]) -> list[T]:
        return sorted(values, key=lambda _: next(self._numbers))


def _numbers(text: str) -> Iterator[int]:
    for block in count():
        digest = hashlib.sha256(f"{block}\0{text}".encode("utf-8", "surrogatepass")).digest()
        yield from (int.from_bytes(digest[at : at + 4]) for at in range(0, len(digest), 4))


def _in_other_forms(question: str) -> list[str]:
    """The question in all other forms of the first form that it has."""
    bare = question.strip().rstrip("?.! ")
    for form in FORMS:
        if found := form.pattern.fullmatch(bare):
            parts = {name: part.strip(" ,") for name, part in found.groupdict().items() if part is not None}
            if parts.get("v") == "s":
                parts["v"] = "is"
            return [other.format(**parts) for other in form.others]
    return []


def _retyped(text: str, draw: _Draws, *, english: bool) -> str:
    """The text as one person might type it: none to two changes of its words, then case and punctuation."""
    bare = text.strip().rstrip("?.! ")
    is_question = text.rstrip().endswith("?") or text[:1].islower()
    changes: list[Change] = [_misspelt]
    if english:
        changes = [_shortened, _contracted, _misspelt]
        # A greeting or a mood is no question that could be asked politely.
        changes += [draw.one((_opened, _ended))] if is_question and bare.count(" ") > 1 else []
    drawn = draw.shuffled(changes)[: draw.below(3)]
    for change in changes:  # words are left out before others come
        if change in drawn:
            bare = change(bare, draw)
    return _punctuated(bare, draw, is_question=is_question)


Change = Callable[[str, _Draws], str]


def _contracted(text: str, draw: _Draws) -> str:
    """A contraction in place of its words, or the words in place of a contraction."""
    written_out = [(short, long) for long, short in CONTRACTIONS if "'" in short]
    pairs = (*CONTRACTIONS, *written_out)
    fitting = [(one, other) for one, other in pairs if _has(text, one) and not text.lower().endswith(f"{one} it")]
    if not fitting:
        return text
    one, other = draw.one(fitting)
    return re.sub(_bounded(one), other, text, count=1, flags=re.IGNORECASE)


def _has(text: str, words: str) -> bool:
    return re.search(_bounded(words), text, re.IGNORECASE) is not None


def _bounded(words: str) -> str:
    return rf"(?<![\w'`./-]){re.escape(words)}(?![\w'`./-])"


def _shortened(text: str, _draw: _Draws) -> str:
    """The text without the words that say little; unchanged where too little would be left, or where it has code."""
    words = text.split()
    first, rest = words[:1], words[1:]
    kept = [*(word for word in first if word.lower() not in LEFT_OUT), *(word for word in rest if word not in LEFT_OUT)]
    return " ".join(kept) if len(kept) >= 2 and "`" not in text else text


def _misspelt(text: str, draw: _Draws) -> str:
    """The text with one typo: two letters exchanged, one left out, or one doubled."""
    words = text.split(" ")
    places = [at for at, word in enumerate(words) if _may_be_misspelt(word)]
    if not places:
        return text
    at = draw.one(places)
    word = words[at]
    letter = 1 + draw.below(len(word.rstrip(OUTER)) - 2)  # the first letter is hardly ever wrong
    kinds = (
        word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :],
        word[:letter] + word[letter + 1 :],
        word[:letter] + word[letter] + word[letter:],
    )
    made = draw.one(kinds)
    words[at] = made if made.strip(OUTER) not in NO_TYPO else word
    return " ".join(words)


def _may_be_misspelt(word: str) -> bool:
    bare = word.strip(OUTER)
    return (
        len(bare) >= TYPO_LETTERS and bare.isalpha() and bare.islower() and bare not in NEGATIONS and word[0] == bare[0]
    )


def _opened(text: str, draw: _Draws) -> str:
    opening = draw.one(OPENINGS)
    return text if _asks_to_tell(text) and opening.endswith("tell me, ") else opening + _without_capital(text)


def _asks_to_tell(text: str) -> bool:
    return "tell me" in text.lower() or text.lower().startswith(("can you", "could you"))


def _ended(text: str, draw: _Draws) -> str:
    ending = draw.one(ENDINGS)
    return text if "help" in text.lower() and "help" in ending else text + ending


def _without_capital(text: str) -> str:
    """The text with its first letter small, unless its first word is a name or code."""
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if _WORD.fullmatch(first) and first[1:].islower() else text


def _punctuated(text: str, draw: _Draws, *, is_question: bool) -> str:
    """The text with one of the usual mixtures of case and punctuation."""
    style = draw.below(8)
    if style == 7 and len(text) <= SHOUTED_CHARACTERS:
        return " ".join(word.upper() if _WORD.fullmatch(word.strip(OUTER)) else word for word in text.split(" "))
    if style in (0, 1):
        text = text[:1].upper() + text[1:] if _WORD.fullmatch(text.split(" ", 1)[0]) else text
        return text + ("?" if is_question else ".")
    if style in (2, 3) and is_question:
        return text + "?"
    return " ".join(map(_in_small_letters, text.split(" ")))


def _in_small_letters(word: str) -> str:
    bare = word.strip(OUTER)
    return word.lower() if _WORD.fullmatch(bare) and bare not in WRITTEN_LARGE else word
