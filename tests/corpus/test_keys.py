"""The quick ways to compare texts give what the plain definitions give."""

import random
import re

from theta.corpus.english import ENGLISH, ENGLISH_SHARE, JUDGED_CHARACTERS, OUTER, is_english
from theta.corpus.keys import count_words, key, question_key
from theta.corpus.shapes.cleaning import clean

PARTS = (
    "the",
    "The",
    "what's",
    "DNS",
    "a",
    "C#",
    "c++",
    "x_1",
    "don't",
    "it's",
    "is",
    "é",
    "ﬁ",
    "你好",
    "!",
    "(b)",
    "...",
    "-",
)
SPACES = (" ", " ", " ", "  ", "\n", "\n\n", "\t", " \n ", "\u00a0", "")


def texts(count: int) -> list[str]:
    rng = random.Random(0)
    made = []
    for _ in range(count):
        ascii_only = rng.random() < 0.7
        parts = [part for part in PARTS if part.isascii() or not ascii_only]
        spaces = [space for space in SPACES if space.isascii() or not ascii_only]
        words = [part for _ in range(rng.randrange(1, 12)) for part in (rng.choice(parts), rng.choice(spaces))]
        made.append(clean("".join(words)))
    return [text for text in made if text]


def test_keys_ignore_case_white_space_and_outer_punctuation() -> None:
    for text in texts(3000):
        if text.isascii():
            words = " ".join(text.lower().split())
            assert key(text) == (words.strip(" !\"%&'()*,-./:;?@[\\]_{}") or words)


def test_words_are_counted_as_white_space_divides_them() -> None:
    for text in texts(3000):
        assert count_words(text) == len(text.split())


def test_questions_are_compared_by_their_words_without_articles() -> None:
    for text in texts(3000):
        normal = key(text)
        if "what's" not in normal and "it's" not in normal:
            words = [word for word in re.findall(r"[\w+#]+", normal) if word not in ("a", "an", "the")]
            assert question_key(normal) == (" ".join(words) or normal)


def test_english_is_told_by_all_words() -> None:
    for text in texts(3000):
        words = text[:JUDGED_CHARACTERS].lower().split()
        found = sum(word.strip(OUTER) in ENGLISH for word in words)
        assert is_english(text) == (found >= max(ENGLISH_SHARE * len(words), 1))
