"""Which paragraphs are prose, and how they become texts."""

import re
from collections.abc import Iterable, Iterator, Sequence

from recipes.starter.blocks import Block

LEAST_LETTERS = 0.8
"""Share of letters among the characters that are not white space."""
LEAST_STOP_WORDS = 0.2
LEAST_WORDS = 9
LONGEST_TEXT = 2000
"""Characters of a text: about 450 tokens, so that most texts are one document of 512."""
SHORTEST_TEXT = 200

STOP_WORDS = frozenset(
    "a about after all also an and any are as at be because been before being but by can could did do does each for "
    "from had has have he her his how i if in into is it its may more most must no not of on one only or other our out "
    "over same she should so some such than that the their them then there these they this those through to under up "
    "use used using was we were what when where which while who will with without would you your".split()
)
_END = (".", "!", "?", ":", '."', '?"', '!"', ".)", ".'", "?)", "!)")
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[A-Z\"'`(0-9])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|vs|cf|Dr|Mr|Mrs|St|No|Jr|Sr|ca|c|approx|resp|viz|lit|pron|Inc|Ltd|Fig|al|ed|\w)\.)$"
)
_NOISE = re.compile(
    r"https?://|www\.|\bSee also\b|[|{}<>\\_=]{2,}|\\[(\[]|\b[Tt]his page\b|Copyright|\bISBN\b|\(C\)"
    r"|^(?:Changed|Deprecated|New|Added|Removed)(?: in| since)? [Vv]ersion"
)


def is_prose(text: str) -> bool:
    """Whether a paragraph is whole sentences of English rather than a menu, a table or code."""
    words = text.split()
    if len(words) < LEAST_WORDS or not text.endswith(_END) or not (text[0].isupper() or text[0] in "`\"'(1"):
        return False
    if sum(map(str.isalpha, text)) < LEAST_LETTERS * sum(map(len, words)):
        return False
    stop_words = sum(word.strip("`\"'(),.;:").lower() in STOP_WORDS for word in words)
    return stop_words >= LEAST_STOP_WORDS * len(words) and not _NOISE.search(text)


def paragraphs(page: Iterable[Block]) -> list[str]:
    """The prose of a page."""
    return [block.text for block in page if block.kind == "paragraph" and is_prose(block.text)]


def texts(page: Sequence[str]) -> Iterator[str]:
    """Consecutive paragraphs as texts of at most `LONGEST_TEXT` characters, unless one paragraph alone is longer."""
    text = ""
    for paragraph in page:
        if text and len(text) + len(paragraph) + 1 > LONGEST_TEXT:
            yield text
            text = ""
        text = f"{text}\n{paragraph}" if text else paragraph
    if text:
        yield text


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph; abbreviations end none."""
    found: list[str] = []
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[begin : end.start() + 1].rstrip("\"') ")):
            found.append(text[begin : end.end()].strip())
            begin = end.end()
    return [sentence for sentence in (*found, text[begin:].strip()) if sentence]
