"""Conversations that repeat another one are dropped, and named."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import built


def pair(question: str, answer: str) -> dict[str, str]:
    return {"question": question, "answer": answer}


def chat(*contents: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[n % 2], "content": content} for n, content in enumerate(contents)]}


OTHERS = [pair(f"Question about {word}?", f"{word} is a word.") for word in ("apples", "bridges", "clouds", "dunes")]


@pytest.mark.parametrize(
    "again",
    [
        pair("What is DNS?", "A directory of names."),
        pair("what  is\nDNS", "a directory of NAMES"),
        pair("“What is ＤＮＳ?”", "A directory of names!"),
        chat("What is DNS?", "A directory of names."),
    ],
)
def test_the_first_is_kept_and_repetitions_name_it(tmp_path: Path, again: dict[str, Any]) -> None:
    made = built(tmp_path, [pair("What is DNS?", "A directory of names."), *OTHERS, again])
    assert made.figures["kept"] == 5
    assert made.figures["duplicates"] == 1
    [reject] = made.rejected
    assert reject["reason"] == f"duplicate: of {tmp_path}/raw/items.jsonl#1"
    assert reject["source"].endswith("#6")
    assert [message["role"] for message in reject["item"]["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    "other",
    [
        pair("What is DNS?", "A phone book."),
        chat("What is DNS?", "Something else.", "And?", "A directory of names."),
        {"system": "Be brief.", **pair("What is DNS?", "A directory of names.")},
        pair("A directory of names.", "What is DNS?"),
    ],
)
def test_another_reply_turn_or_role_is_no_repetition(tmp_path: Path, other: dict[str, Any]) -> None:
    made = built(tmp_path, [pair("What is DNS?", "A directory of names."), other, *OTHERS])
    assert made.figures["duplicates"] == 0


def test_code_that_differs_in_indentation_or_case_is_no_repetition(tmp_path: Path) -> None:
    codes = ["if x:\n  a()\nb()", "if x:\n  a()\n  b()", "if X:\n  a()\nb()", "if x:\n  a()\nb()  \n"]
    made = built(tmp_path, [*(pair("Write it.", code) for code in codes), *OTHERS])
    assert [reject["source"].rpartition("#")[2] for reject in made.rejected] == ["4"]


def test_of_the_beginnings_of_a_chat_the_longest_is_kept(tmp_path: Path) -> None:
    turns = ["Is it far?", "A mile.", "Uphill?", "Yes, all the way.", "Thanks.", "Gladly."]
    made = built(tmp_path, [chat(*turns[:2]), chat(*turns[:4]), chat(*turns), chat(*turns[:2]), *OTHERS])
    assert made.figures["duplicates"] == 3
    assert {reject["reason"] for reject in made.rejected} == {f"duplicate: of {tmp_path}/raw/items.jsonl#3"}


def test_a_beginning_that_the_longer_chat_does_not_learn_is_kept(tmp_path: Path) -> None:
    longer = chat("Is it far?", "A mile.", "Uphill?", "Yes, all the way.")
    longer["messages"][1]["weight"] = 0
    made = built(tmp_path, [chat("Is it far?", "A mile."), longer, *OTHERS])
    assert made.rejected == []
    assert made.figures["kept"] == 6


def test_conflicting_answers_and_fillers_are_counted(tmp_path: Path) -> None:
    filler = [pair(f"Tell me of {n * 7919}.", "I cannot help with that question.") for n in range(12)]
    conflict = [pair("Who won?", "The blue team won it."), pair("who won", "The red team won it.")]
    made = built(tmp_path, [*filler, *conflict, *OTHERS])
    repeated = made.facts.repeated
    assert (repeated.conflicts, repeated.fillers) == (1, 1)
    [(question, one, other)] = repeated.conflict_examples
    assert (question, one.rpartition("#")[2], other.rpartition("#")[2]) == ("Who won?", "13", "14")
    [(reply, _, count)] = repeated.filler_examples
    assert (reply, count) == ("I cannot help with that question.", 12)
