"""Selection of paragraphs that are prose, and their division into texts."""

import re
from collections.abc import Iterable, Iterator, Sequence

from recipes.starter.blocks import Block

MIN_LETTER_FRACTION = 0.8
"""Minimum fraction of letters among the characters that are not white space."""
MIN_STOP_WORD_FRACTION = 0.2
MIN_WORDS = 9
LONGEST_TEXT = 2000
"""Characters of a text: about 450 tokens, so that most texts fit into a document of 512."""
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
    """Whether a paragraph consists of English sentences, and is not a menu, a table or code."""
    words = text.split()
    if len(words) < MIN_WORDS or not text.endswith(_END) or not (text[0].isupper() or text[0] in "`\"'(1"):
        return False
    if sum(map(str.isalpha, text)) < MIN_LETTER_FRACTION * sum(map(len, words)):
        return False
    stop_words = sum(word.strip("`\"'(),.;:").lower() in STOP_WORDS for word in words)
    return stop_words >= MIN_STOP_WORD_FRACTION * len(words) and not _NOISE.search(text)


def paragraphs(page: Iterable[Block]) -> list[str]:
    """Return the paragraphs of a page that are prose."""
    return [block.text for block in page if block.kind == "paragraph" and is_prose(block.text)]


def texts(page: Sequence[str]) -> Iterator[str]:
    """Join consecutive paragraphs into texts of at most `LONGEST_TEXT` characters; a longer paragraph stays alone."""
    text = ""
    for paragraph in page:
        if text and len(text) + len(paragraph) + 1 > LONGEST_TEXT:
            yield text
            text = ""
        text = f"{text}\n{paragraph}" if text else paragraph
    if text:
        yield text


def sentences(text: str) -> list[str]:
    """Return the sentences of a paragraph; an abbreviation does not end a sentence."""
    found: list[str] = []
    begin = 0
    for end in _SENTENCE_END.finditer(text):
        if not _ABBREVIATION.search(text[begin : end.start() + 1].rstrip("\"') ")):
            found.append(text[begin : end.end()].strip())
            begin = end.end()
    return [sentence for sentence in (*found, text[begin:].strip()) if sentence]
