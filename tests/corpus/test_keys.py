"""The quick ways to compare texts and to group conversations give what the plain definitions give."""

import random
import re
from pathlib import Path

import numpy as np
import pytest

from theta.corpus.english import ENGLISH, ENGLISH_SHARE, JUDGED_CHARACTERS, OUTER, is_english
from theta.corpus.evidence import united
from theta.corpus.keys import Records, count_words, key, question_key
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


@pytest.mark.parametrize("seed", range(5))
def test_records_of_one_key_come_together_in_order(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    keys = rng.integers(0, 40, 60, dtype=np.uint64) << np.uint64(58)
    owners, texts = rng.integers(0, 20, 60, dtype=np.uint32), rng.permutation(60).astype(np.uint64)
    members = rng.random(20) < 0.8
    records = Records(tmp_path, "keys", partition_bits=2)
    records.append(keys[:25], owners[:25], texts[:25])
    records.append(keys[25:], owners[25:], texts[25:])
    records.close()
    found = []
    for run_owners, extra, sizes in records.runs(members):
        pairs = list(zip(run_owners.tolist(), extra.tolist(), strict=True))
        found += [pairs[end - size : end] for size, end in zip(sizes, np.cumsum(sizes), strict=True)]
    rows = sorted(row for row in zip(keys.tolist(), owners.tolist(), texts.tolist(), strict=True) if members[row[1]])
    runs = [[row[1:] for row in rows if row[0] == each] for each in sorted({row[0] for row in rows})]
    assert found == [run for run in runs if len(run) > 1]


@pytest.mark.parametrize("seed", range(20))
def test_groups_are_united_as_one_pair_after_the_other_unites_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 60))
    ones, others = rng.integers(0, count, (2, int(rng.integers(0, 60)))).astype(np.uint32)
    group_of = np.unique(rng.integers(0, count, count), return_inverse=True)[1].astype(np.int32)
    slowly = group_of.tolist()
    for one, other in zip(ones, others, strict=True):
        low, high = sorted((slowly[one], slowly[other]))
        slowly = [low if group == high else group for group in slowly]
    assert united(group_of, ones, others).tolist() == np.unique(slowly, return_inverse=True)[1].tolist()


def test_long_chains_of_pairs_are_one_group() -> None:
    order = np.random.default_rng(0).permutation(20_000)
    assert not united(np.arange(20_000, dtype=np.int32), order[:-1], order[1:]).any()
