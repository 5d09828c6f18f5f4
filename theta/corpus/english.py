"""What the rules for rewordings know about English: its words, its forms of questions, and how to recognise it."""

import re
from itertools import filterfalse
from typing import NamedTuple

ENGLISH_SHARE = 0.06
"""Of the words of a question and its reply, at least this share are among the commonest that only English has."""
JUDGED_CHARACTERS = 400
OUTER = ',.?!:;"()'
"""Marks that stand at the ends of words."""


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
NEGATIONS = frozenset((
    "not", "no", "never", "without", "none", "nothing", "cannot", "nobody", "neither", "except", "instead", "unless",
))  # fmt: skip
"""Words that turn a meaning around; they stay, spelt rightly."""


def is_english(text: str) -> bool:
    """Whether a text is English, by the commonest words of its beginning."""
    words = text[:JUDGED_CHARACTERS].lower().split()
    least = max(ENGLISH_SHARE * len(words), 1)
    found = sum(map(ENGLISH.__contains__, words))
    if found < least:
        marked = filterfalse(str.isalpha, words)
        found += sum([word.strip(OUTER) in ENGLISH for word in marked if word not in ENGLISH])
    return found >= least
