"""Several ways to ask: read from the data, held back in part, and joined by what rules make."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import Built, built, read_as
from theta.conversation.messages import Conversation
from theta.corpus import build, outcome
from theta.corpus.items import Item, Notes, Number, Rules
from theta.corpus.keys import key
from theta.corpus.shapes.shape import shape

A = "It turns names into addresses."


def items(count: int, wordings: int) -> list[dict[str, Any]]:
    """Questions that are unlike each other, each with wordings of its own."""
    words = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ivy", "juniper", "kapok", "larch")
    made = []
    for number in range(count):
        tree = f"{words[number % 12]}{chr(97 + number // 12) * 3} {words[(number * 5 + 1) % 12]}{number}"
        made.append(
            {
                "question": f"Where does the {tree} grow?",
                "wordings": [f"{tree}, which place number {each}" for each in range(wordings)],
                "answer": f"The {tree} grows by the brook, {number} miles away from {tree[::-1]}.",
            }
        )
    return made


def held_back(made: Built) -> set[str]:
    return {row["messages"][0]["content"] for row in made.rows["new_wordings"]}


def asked(conversation: Conversation) -> list[list[str]]:
    return [[m.content, *m.wordings] for m in conversation.messages if m.role == "user"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"question": "Q?", "wordings": ["one", "two"], "answer": A}, [["Q?", "one", "two"]]),
        ({"question": "Q?", "paraphrases": "one\ntwo", "answer": A}, [["Q?", "one", "two"]]),
        ({"question": ["Q?", "one"], "answer": A}, [["Q?", "one"]]),
        ({"prompt": "Q?", "rephrasings": [" one ", "", "one", "Q?"], "completion": A}, [["Q?", "one"]]),
        (
            {
                "messages": [
                    {"role": "system", "content": "S"},
                    {"role": "user", "content": "Q?", "wordings": ["one"]},
                    {"role": "assistant", "content": A},
                    {"role": "user", "content": "More?", "wordings": ["and more"]},
                    {"role": "assistant", "content": A},
                ],
                "wordings": ["two"],
            },
            [["Q?", "one", "two"], ["More?", "and more"]],
        ),
        ({"question": "Q?", "wordings": '["one", "two"]', "answer": A}, [["Q?", "one", "two"]]),
        ({"question": "Q?", "wordings": "['one', \"it's two\"]", "answer": A}, [["Q?", "one", "it's two"]]),
        ({"question": "Q?", "wordings": [["one"], {"text": "two"}], "answer": A}, [["Q?", "one", "two"]]),
        # As people type: the tokens are others.
        (
            {"question": "Is it?", "wordings": ["is it", "IS IT?", "is  it"], "answer": A},
            [["Is it?", "is it", "IS IT?"]],
        ),
        (
            {
                "exchanges": [
                    {"question": "Q?", "wordings": ["one"], "answer": A},
                    {"question": ["More?", "and more"], "answer": A},
                    {"instruction": "Translate.", "input": "cat", "output": "chat", "wordings": ["Put in French."]},
                ]
            },
            [["Q?", "one"], ["More?", "and more"], ["Translate.\n\ncat", "Put in French.\n\ncat"]],
        ),
        ({"turns": [{"user": "Q?", "assistant": A, "paraphrases": "one\ntwo"}]}, [["Q?", "one", "two"]]),
        (
            {"question": "More?", "answer": A, "history": [{"question": "Q?", "answer": A, "wordings": ["one"]}]},
            [["Q?", "one"], ["More?"]],
        ),
        # What is joined to the question is joined to its wordings, too.
        (
            {"instruction": "Translate.", "input": "cat", "output": "chat", "wordings": ["Put in French."]},
            [["Translate.\n\ncat", "Put in French.\n\ncat"]],
        ),
        (
            {
                "instruction": "And in winter?",
                "output": A,
                "history": [["How much?", "A cup."]],
                "wordings": ["winter?"],
            },
            [["How much?"], ["And in winter?", "winter?"]],
        ),
    ],
)
def test_wordings_are_read_beside_any_shape(value: Any, expected: list[list[str]]) -> None:
    (found,) = read_as(value)
    assert isinstance(found, Conversation)
    assert asked(found) == expected


OTHERS = "wordings without their question left out"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"question": "Q?", "answer": A, "wordings": 5}, {"wording left out (a number)": 1}),
        ({"question": "Q?", "answer": A, "wordings": Number("5")}, {"wording left out (a number)": 1}),
        ({"question": "Q?", "answer": A, "wordings": {"a": 1}}, {"wording left out (an object without a text)": 1}),
        (
            {"question": "Q?", "answer": A, "wordings": ["one", 1.5, None, " ", True, {"a": "b"}]},
            {
                "wording left out (a number)": 1,
                "wording left out (empty)": 2,
                "wording left out (true or false)": 1,
                "wording left out (an object without a text)": 1,
            },
        ),
        ({"question": "Q?", "answer": A, "wordings": ["Q?", "one", " one", "one"]}, {"repeated wording left out": 3}),
        ({"patterns": ["a", "b", "a"], "responses": [A]}, {"repeated wording left out": 1}),
        ({"question": "Q?", "answer": A, "wordings": None}, {}),
        ({"question": "Q?", "answer": A, "wordings": ""}, {}),
        ({"question": "Q?", "answer": A, "wordings": []}, {}),
        ({"text": "A text to learn.", "wordings": ["one"]}, {OTHERS: 1}),
        ({"wordings": ["one"], "items": [{"question": "Q?", "answer": A}]}, {OTHERS: 1}),
        (
            {"messages": [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": A, "wordings": ["one"]}]},
            {OTHERS: 1},
        ),
    ],
)
def test_wordings_that_are_left_out_are_counted(value: Any, expected: dict[str, int]) -> None:
    notes = Notes()
    assert all(isinstance(each, Conversation) for each in shape(Item(value, "x#1", "x"), Rules(), notes))
    assert {name: count for name, count, _ in notes.of("mended")} == expected


def test_wordings_beside_an_intent_are_dealt_with_its_patterns() -> None:
    found = read_as({"patterns": ["a", "b"], "wordings": ["c"], "responses": ["One.", "Two."]})
    assert [asked(each) for each in found if isinstance(each, Conversation)] == [[["a", "c"]], [["b"]]]


def test_several_replies_share_the_wordings() -> None:
    found = read_as({"patterns": ["a", "b", "c"], "responses": ["One.", "Two."]})
    assert [asked(each) for each in found if isinstance(each, Conversation)] == [[["a", "c"]], [["b"]]]


def test_wordings_are_no_unused_keys(tmp_path: Path) -> None:
    assert built(tmp_path, items(40, 2)).figures["unused_keys"] == {}


def test_a_share_of_the_wordings_is_held_back_and_learned_nowhere(tmp_path: Path) -> None:
    made = built(tmp_path, items(60, 5), new_wordings_fraction=0.2, rewordings=12)
    rows = made.rows
    held = {key(row["messages"][0]["content"]) for row in rows["new_wordings"]}
    learned = {
        key(text)
        for row in rows["train"]
        for message in row["messages"]
        if message["role"] == "user"
        for text in (message["content"], *message.get("wordings", ()))
    }
    assert 0.12 < len(held) / (5 * len(rows["train"])) < 0.28
    assert not held & learned
    answers = {row["source"]: row["messages"][1]["content"] for row in rows["train"]}
    assert all(row["messages"][1]["content"] == answers[row["source"]] for row in rows["new_wordings"])
    counts = made.figures["wordings"]
    assert counts["new"] == len(rows["new_wordings"])
    assert counts["learned"] + counts["new"] == 5 * len(rows["train"])
    assert counts["made_by_rules"] > 8 * len(rows["train"])


def test_what_is_held_back_stays_so_when_data_is_added(tmp_path: Path) -> None:
    few, more = (
        held_back(built(tmp_path / str(count), items(count, 5), new_wordings_fraction=0.2)) for count in (40, 60)
    )
    assert len(few & more) > 0.7 * len(few)


def test_a_wording_that_is_asked_elsewhere_is_not_held_back(tmp_path: Path) -> None:
    rows = [*items(30, 1)]
    rows[0]["wordings"] = rows[1]["wordings"] = ["both ask this"]
    made = built(tmp_path, rows, new_wordings_fraction=0.5)
    assert "both ask this" not in [row["messages"][0]["content"] for row in made.rows["new_wordings"]]


def test_a_question_that_is_a_wording_elsewhere_is_on_the_same_side(tmp_path: Path) -> None:
    rows = items(60, 1)
    for number in range(0, 60, 2):
        rows[number]["wordings"] = [rows[number + 1]["question"]]
    made = built(tmp_path, rows)
    sides = made.sides()
    for number in range(0, 60, 2):
        assert sides[source(sides, number)] == sides[source(sides, number + 1)]


def source(sides: dict[str, str], number: int) -> str:
    return next(name for name in sides if name.endswith(f"#{number + 1}"))


def test_validation_and_test_are_asked_as_they_were_written(tmp_path: Path) -> None:
    rows = built(tmp_path, items(60, 3), rewordings=8).rows
    held = [message for name in ("validation", "test") for row in rows[name] for message in row["messages"]]
    assert held
    assert all("wordings" not in message for message in held)
    assert all(row["messages"][0]["wordings"] for row in rows["train"])


def test_rewordings_are_for_english_unless_asked(tmp_path: Path) -> None:
    german = [
        {"question": f"Wo wächst Baum{number} im Wald{number}?", "answer": f"Am Bach {number} im Norden."}
        for number in range(30)
    ]
    assert built(tmp_path / "a", german, rewordings=8).figures["wordings"]["made_by_rules"] == 0
    any_language = built(tmp_path / "b", german, rewordings=8, reword_any_language=True)
    assert any_language.figures["wordings"]["made_by_rules"] > 100


def test_texts_and_later_turns_have_no_rewordings(tmp_path: Path) -> None:
    chats = [
        {
            "messages": [
                {"role": "user", "content": f"What is the tree number {number} called?"},
                {"role": "assistant", "content": f"It is called tree{number} by the people that live there."},
                {"role": "user", "content": "What is its height?"},
                {"role": "assistant", "content": f"It has {number} feet, and it is the highest of them."},
            ]
        }
        for number in range(30)
    ]
    made = built(tmp_path, [*chats, *({"text": f"A text about tree {number}."} for number in range(10))], rewordings=4)
    for row in made.rows["train"]:
        assert all("wordings" not in message for message in row["messages"][1:])
        assert (row["messages"][0]["role"] == "user") == ("wordings" in row["messages"][0])


def test_personal_data_is_replaced_in_wordings_too(tmp_path: Path) -> None:
    rows = items(30, 1)
    for number, row in enumerate(rows):
        row["wordings"] = [f"mail bob{number}@mail.org about it"]
    made = built(tmp_path, rows, redact=["emails"])
    assert made.figures["redacted"] == {"emails": 30}
    learned = [wording for row in made.rows["train"] for wording in row["messages"][0]["wordings"]]
    assert set(learned) == {"mail [email] about it"}


def test_no_rule_makes_what_another_conversation_asks(tmp_path: Path) -> None:
    words = ("alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel", "ivy", "juniper", "kapok", "larch")
    rows = [
        {"question": question.format(f"{one} {other}"), "answer": f"{question[:9]} {one} {other}: {other} {one}."}
        for one in words
        for other in words[:3]
        for question in ("What is {} used for?", "What is the purpose of {}?")
    ]
    made = built(tmp_path, rows, rewordings=24)
    questions = {key(row["question"]) for row in rows}
    for row in made.rows["train"]:
        message = row["messages"][0]
        assert not (questions - {key(message["content"])}) & set(map(key, message["wordings"]))


def test_wordings_of_a_reply_that_is_not_learned_are_not_held_back(tmp_path: Path) -> None:
    marked = [
        {
            "messages": [
                {"role": "user", "content": row["question"], "wordings": row["wordings"]},
                {"role": "assistant", "content": row["answer"], "weight": 0},
                {"role": "user", "content": "And then?"},
                {"role": "assistant", "content": f"Then {row['answer']}"},
            ]
        }
        for row in items(30, 2)
    ]
    assert built(tmp_path, marked, new_wordings_fraction=0.5).rows["new_wordings"] == []


def test_processes_do_not_change_the_wordings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "REWORDINGS_FOR_PROCESSES", 0)
    monkeypatch.setattr(outcome, "BATCH_BYTES", 2000)
    rows = [*items(40, 3), *({"text": f"A text about tree number {number}."} for number in range(10))]
    one, two = (
        built(tmp_path, rows, rewordings=6, new_wordings_fraction=0.2, processes=processes) for processes in (1, 2)
    )
    assert one.rows == two.rows
    assert one.figures["wordings"] == two.figures["wordings"]
    assert one.facts.wordings.examples == two.facts.wordings.examples
    assert one.figures["wordings"]["made_by_rules"] > 150


def test_a_language_that_is_not_judged_at_first_is_judged_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = [{"question": f"Wie alt wird Baum {n}?", "answer": f"Baum {n} wird hundert Jahre alt."} for n in range(20)]
    rows = [*items(20, 3), *other, *({"text": f"A text about tree number {number}."} for number in range(10))]
    at_first = built(tmp_path, rows, rewordings=6, new_wordings_fraction=0.2)
    monkeypatch.setattr(build, "_likely_rewordings", lambda *_: 0)
    later = built(tmp_path, rows, rewordings=6, new_wordings_fraction=0.2)
    assert at_first.rows == later.rows
    assert at_first.figures == later.figures
    assert at_first.figures["wordings"]["made_by_rules"] > 50
