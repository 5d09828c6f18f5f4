"""The conversations that ship with Theta are clean, and their README counts them correctly."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.support.corpora import Built, built_from

FOLDER = Path(__file__).parents[2] / "Datasets/conversations"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return built_from(tmp_path_factory.mktemp("shipped"), FOLDER)


def test_nothing_is_rejected_mended_or_unused(corpus: Built) -> None:
    assert corpus.rejected == []
    assert [corpus.figures[name] for name in ("mended", "unused_keys", "unfilled_templates")] == [{}, {}, {}]


def test_nothing_held_out_stands_in_train(corpus: Built) -> None:
    assert all(not any(counts.values()) for counts in corpus.facts.leaks.values())
    assert corpus.facts.loosened == ""


def test_no_question_has_two_answers(corpus: Built) -> None:
    assert corpus.facts.repeated.conflicts == 0


def test_the_readme_counts_each_file_correctly(corpus: Built) -> None:
    rows = re.findall(r"^\| `(\w+)\.jsonl?` \| (\d+) \| (\d+) \|", (FOLDER / "README.md").read_text("utf-8"), re.M)
    kept = [row for split in ("train", "validation", "test") for row in corpus.rows[split]]
    counts = Counter(row["domain"] for row in kept)
    chats = Counter(row["domain"] for row in kept if sum(m["role"] == "assistant" for m in row["messages"]) > 1)
    assert {name: (int(all_), int(several)) for name, all_, several in rows} == {
        name: (counts[name], chats[name]) for name in counts
    }
