"""The conversations that ship with Theta are clean, and their README counts them correctly."""

import re
from collections import Counter
from pathlib import Path

import pytest

from theta.corpus import splits
from theta.corpus.build import Corpus, build
from theta.corpus.readers.finding import find

FOLDER = Path(__file__).parents[2] / "Datasets/conversations"


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return build(str(FOLDER), find(FOLDER), 0.1, 0.1)


def test_nothing_is_rejected_or_cut(corpus: Corpus) -> None:
    assert corpus.rejects == []
    assert corpus.report["unanswered_questions_cut"] == 0


def test_no_first_question_repeats(corpus: Corpus) -> None:
    asked = Counter(splits.key(each.opening) for split in corpus.splits.values() for each in split)
    assert [question for question, count in asked.items() if count > 1] == []


def test_the_readme_counts_each_file_correctly(corpus: Corpus) -> None:
    rows = re.findall(r"^\| `(\w+)\.jsonl?` \| (\d+) \| (\d+) \|", (FOLDER / "README.md").read_text("utf-8"), re.M)
    kept = [each for split in corpus.splits.values() for each in split]
    counts = Counter(each.domain for each in kept)
    several = Counter(each.domain for each in kept if sum(m.role == "assistant" for m in each.messages) > 1)
    assert {name: (int(all_), int(chats)) for name, all_, chats in rows} == {
        name: (counts[name], several[name]) for name in counts
    }
