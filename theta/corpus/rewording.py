"""Other ways to ask a question, made by rules: the way people who have not seen the question would type it.

    How do I list files?  ->  how to list files · Best way to list files? · hi, how do i lsit files · list files, how

A form of question ("What is X?") is put into other forms ("explain X", "X?"), a word may be contracted, left out or
misspelt, a polite opening may stand in front, and case and punctuation may be missing. The meaning stays: negations,
numbers, names and code are in every rewording. The rules are for English; those of `surfaces` that need no English
serve other languages too.

The rewordings of a question are always the same, on every machine: they are drawn by the bytes of a hash.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import NamedTuple, TypeVar

T = TypeVar("T")

LONGEST_CHARACTERS = 200
"""Longer questions, and those of several lines, are left as they are: people copy them more than they retype them."""
TRIES_PER_REWORDING = 6
ENGLISH_SHARE = 0.06
"""Of the words of a question and its reply, at least this share are among the commonest that only English has."""
SHOUTED_CHARACTERS = 40
"""Longer questions are hardly typed in capitals."""
TYPO_LETTERS = 5
"""Shorter words are hardly recognised with a typo."""


class Form(NamedTuple):
    """A form of question and other forms of the same meaning."""

    pattern: re.Pattern[str]
    others: tuple[str, ...]


def _form(pattern: str, *others: str) -> Form:
    return Form(re.compile(pattern, re.IGNORECASE), others)


_NO_THING = (
    r"(?!(?:you|your|i|my|we|our|it|this|that|they|there|he|she|his|her|their|wrong|new|happening|going|up|better|best|like"
    r"|next|left|possible|some|any|one|so|the (?:best|way|simplest|easiest|point|matter|problem|deal))\b)"
    r"(?!.*[?]|.* (?:for|about|like|with|from|of)$|.*\b(?:and|or) (?:where|how|which|what|why|when|who)\b)"
)
"""What "explain" and "define" cannot be followed by, and no second question."""
_NO_CHOICE = r"(?!.*\bor\b|.*,)"
"""What is asked to be done is one thing: "tabs or spaces" is another kind of question."""
_TO_DO = (
    "how to {x}", "how can i {x}", "how do i {x}", "how do you {x}", "how would i {x}", "what is the way to {x}",
    "what is the best way to {x}", "best way to {x}", "i want to {x}, how", "i need to {x}, what do i do",
    "show me how to {x}", "tell me how to {x}", "help me {x}", "steps to {x}", "is there a way to {x}",
    "what do i do to {x}", "{x}, how",
)  # fmt: skip
_ABOUT = (
    "what {v} {x}", "explain {x}", "explain {x} to me", "{x}", "tell me about {x}", "define {x}", "describe {x}",
    "can you explain {x}", "can you explain what {x} {v}", "what exactly {v} {x}", "i want to know what {x} {v}",
    "do you know what {x} {v}", "{x}, what {v} that", "{x} explained", "{x} meaning", "tell me what {x} {v}",
    "what do you know about {x}", "what do people mean by {x}",
)  # fmt: skip

FORMS = (
    _form(
        r"(?:what(?: is|'s| are)|explain) (?:the )?differences? between (?P<x>[^,?]+?) and "
        r"(?P<y>(?!which|what|how|when|why)[^,?]+)",
        "{x} vs {y}", "{x} or {y}, what is the difference", "how do {x} and {y} differ", "compare {x} and {y}",
        "difference between {x} and {y}", "explain the difference between {x} and {y}", "{x} and {y} difference",
        "how is {x} different from {y}", "what makes {x} different from {y}", "{x} versus {y}",
    ),
    _form(
        r"how (?:is|are) (?P<x>.+?) different from (?P<y>.+)",
        "what is the difference between {x} and {y}", "{x} vs {y}", "difference between {x} and {y}",
        "how do {x} and {y} differ", "compare {x} and {y}",
    ),
    _form(
        rf"what (?:is|are) (?P<x>{_NO_THING}.+?(?<!known)(?<!famous)(?<!responsible)(?<!ing)) "
        r"(?:used |good |useful )?for",
        "what do people use {x} for", "what is the use of {x}", "what is the purpose of {x}", "purpose of {x}",
        "why use {x}", "what do i need {x} for", "{x}, what for", "when do i need {x}",
    ),
    _form(
        rf"what does (?P<x>{_NO_THING}.+?) mean",
        "what is {x}", "what is meant by {x}", "meaning of {x}", "explain {x}", "define {x}", "{x} meaning", "{x}",
        "what do people mean by {x}", "can you explain {x}", "what does it mean, {x}",
    ),
    _form(
        rf"what does (?P<x>{_NO_THING}.+?) do",
        "explain what {x} does", "tell me what {x} does", "what is {x} for", "what is the purpose of {x}",
        "{x}, what does it do", "what {x} does", "can you explain {x}", "explain {x}",
    ),
    _form(rf"what(?: |')(?P<v>is|s|are) (?P<x>{_NO_THING}.+)", *_ABOUT),
    _form(rf"how (?:do|can|could|would|should|must) (?:i|we|one) {_NO_CHOICE}(?P<x>[^?]+)", *_TO_DO),
    _form(rf"(?:how to|(?:what is|what's) the (?:best )?way to) {_NO_CHOICE}(?P<x>[^?]+)", *_TO_DO),
    _form(
        rf"(?:how does|explain how) (?P<x>{_NO_THING}.+?) works?",
        "how does {x} work", "explain how {x} works", "how {x} works", "tell me how {x} works", "{x}, how does it work",
        "what is the idea behind {x}", "can you explain how {x} works", "{x} how it works",
    ),
    _form(
        rf"how do (?P<x>{_NO_THING}.+?) work",
        "explain how {x} work", "how {x} work", "tell me how {x} work", "{x}, how do they work",
        "what is the idea behind {x}", "can you explain how {x} work",
    ),
    _form(
        rf"when (?:should|do|would|must) (?:i|we|one) (?!need|have)(?P<x>{_NO_CHOICE}[^?]+)",
        "when do i {x}", "when should i {x}", "when to {x}", "when is it right to {x}", "in which case do i {x}",
        "tell me when to {x}", "when do people {x}",
    ),
    _form(
        rf"why (?:should|would|must) (?:i|we|one) (?P<x>{_NO_CHOICE}[^?]+)",
        "why should i {x}", "why do people {x}", "what is the reason to {x}", "is there a reason to {x}",
        "reasons to {x}", "tell me why i should {x}",
    ),
    _form(
        rf"should i (?P<x>{_NO_CHOICE}[^?]+)",
        "is it a good idea to {x}", "is it good to {x}", "do you think i should {x}", "would it be wise to {x}",
        "tell me if i should {x}",
    ),
    _form(
        r"(?:can|may|could) i (?P<x>.+)",
        "is it possible to {x}", "is there a way to {x}", "could i {x}", "can i {x}", "am i able to {x}",
        "tell me if i can {x}",
    ),
    _form(r"can you (?P<x>.+)", "could you {x}", "are you able to {x}", "is it possible for you to {x}", "can u {x}"),
    _form(
        rf"(?:tell me about|explain|describe|define) (?P<x>{_NO_THING}(?!how|why|what|when|where|to )\b.+)",
        "what is {x}", "{x}", "tell me about {x}", "explain {x}", "can you explain {x}", "i want to know about {x}",
        "describe {x}", "what do you know about {x}",
    ),
)  # fmt: skip

OPENINGS = (
    "hi, ", "hey, ", "hello, ", "please, ", "quick question: ", "question: ", "one question, ", "ok, ", "so ", "well, ",
    "excuse me, ", "sorry, ", "i have a question: ", "please tell me, ", "can you tell me, ", "i was wondering, ",
)  # fmt: skip
ENDINGS = (" please", ", please", " pls", " thanks", ", thanks", ", can you help", ", any idea", ", do you know")
CONTRACTIONS = (
    ("what is", "what's"), ("how is", "how's"), ("where is", "where's"), ("who is", "who's"), ("that is", "that's"),
    ("it is", "it's"), ("i am", "i'm"), ("you are", "you're"), ("do not", "don't"),
    ("does not", "doesn't"), ("did not", "didn't"), ("is not", "isn't"), ("are not", "aren't"), ("cannot", "can't"),
    ("can not", "can't"), ("should not", "shouldn't"), ("will not", "won't"), ("what is", "whats"),
    ("do not", "dont"), ("cannot", "cant"), ("you", "u"), ("are", "r"), ("please", "pls"),
)  # fmt: skip
LEFT_OUT = frozenset(("a", "an", "the", "is", "are", "do", "does", "my", "me"))
"""Words that people leave out when they type keywords. In small letters, none of them changes the meaning: "A" may be a
name, and "IS" code."""
WRITTEN_LARGE = frozenset((
    "IT", "WHO", "US", "IS", "AS", "OR", "AND", "NOT", "NULL", "AT", "IN", "ON", "NO", "SO", "HE", "ME", "WE", "BE",
    "DO", "IF", "AN", "BY", "TO", "UP", "AM", "GO", "ALL", "ANY",
))  # fmt: skip
"""Names and code that would be other words in small letters."""
NO_TYPO = frozenset((
    "pubic", "cunt", "cunts", "shit", "shits", "cock", "cocks", "tit", "tits", "ass", "asses", "dick", "fuck",
    "slut", "whore", "piss", "rape", "raped", "turd", "dyke", "homo", "crap", "anal", "anus", "arse", "bitch",
    "damn", "hell", "killer", "casual", "causal", "untied", "united", "angel", "angle", "trail", "trial", "diary",
    "dairy", "quite", "quiet",
))  # fmt: skip
"""Words that no typo may make: rude ones, and ones of another meaning."""
SENSITIVE = re.compile(r"\b(?:suicid\w*|kill (?:my|your|him|her)\w*|self-harm|overdose)\b", re.IGNORECASE)
"""Questions that are left as they are."""
ENGLISH = frozenset((
    "the", "and", "you", "your", "with", "from", "this", "that", "these", "those", "it", "its", "are", "what",
    "how", "why", "when", "where", "which", "does", "should", "would", "could", "they", "there", "then", "because",
    "what's", "it's", "don't", "i'm", "hello", "thanks", "thank", "good", "name",
))  # fmt: skip

_WORD = re.compile(r"[A-Za-z]+(?:'[a-z]+)?")
_OUTER = ',.?!:;"()'


def is_english(text: str) -> bool:
    """Whether a text is English, by its commonest words."""
    words = [word.strip(_OUTER) for word in text.lower().split()]
    return sum(word in ENGLISH for word in words) >= max(ENGLISH_SHARE * len(words), 1)


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
    fitting = [(one, other) for one, other in pairs if _has(text, one) and not _ends_with(text, f"{one} it")]
    if not fitting:
        return text
    one, other = draw.one(fitting)
    return re.sub(_bounded(one), other, text, count=1, flags=re.IGNORECASE)


def _ends_with(text: str, words: str) -> bool:
    return text.lower().endswith(words)


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
    letter = 1 + draw.below(len(word.rstrip(_OUTER)) - 2)  # the first letter is hardly ever wrong
    kinds = (
        word[:letter] + word[letter + 1] + word[letter] + word[letter + 2 :],
        word[:letter] + word[letter + 1 :],
        word[:letter] + word[letter] + word[letter:],
    )
    made = draw.one(kinds)
    words[at] = made if made.strip(_OUTER) not in NO_TYPO else word
    return " ".join(words)


def _may_be_misspelt(word: str) -> bool:
    bare = word.strip(_OUTER)
    return (
        len(bare) >= TYPO_LETTERS and bare.isalpha() and bare.islower() and bare not in NEGATIONS and word[0] == bare[0]
    )


NEGATIONS = frozenset((
    "not", "no", "never", "without", "none", "nothing", "cannot", "nobody", "neither", "except", "instead", "unless",
))  # fmt: skip
"""Words that turn a meaning around; they stay, spelt rightly."""


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
        return " ".join(word.upper() if _WORD.fullmatch(word.strip(_OUTER)) else word for word in text.split(" "))
    if style in (0, 1):
        text = text[:1].upper() + text[1:] if _WORD.fullmatch(text.split(" ", 1)[0]) else text
        return text + ("?" if is_question else ".")
    if style in (2, 3) and is_question:
        return text + "?"
    return " ".join(map(_in_small_letters, text.split(" ")))


def _in_small_letters(word: str) -> str:
    bare = word.strip(_OUTER)
    return word.lower() if _WORD.fullmatch(bare) and bare not in WRITTEN_LARGE else word
