"""Marks that say what not to learn: under many names, beside the text or in an object about it."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import built
from theta.conversation.messages import Conversation
from theta.corpus.items import Item, Notes, Reject, Rules
from theta.corpus.report import warnings
from theta.corpus.shapes.shape import shape

EXCHANGE = {"question": "Is it open?", "answer": "Who cares."}
CHAT = {"messages": [{"role": "user", "content": "Is it open?"}, {"role": "assistant", "content": "Who cares."}]}
TEXT = {"text": "Nobody cares about it at all."}


def read(value: Any) -> tuple[list[Conversation | Reject], Notes]:
    notes = Notes()
    return list(shape(Item(value, "x#1", "x"), Rules(), notes)), notes


def noted(notes: Notes, kind: str) -> dict[str, int]:
    return {name: count for name, count, _ in notes.of(kind)}


@pytest.mark.parametrize("item", [EXCHANGE, CHAT, TEXT])
@pytest.mark.parametrize(
    ("mark", "shown"),
    [
        ({"helpful": 0}, "helpful: 0"),
        ({"rejected": True}, "rejected: true"),
        ({"is_good": False}, "isgood: false"),
        ({"was_helpful": False}, "washelpful: false"),
        ({"bad_answer": True}, "badanswer: true"),
        ({"is_rejected": True}, "isrejected: true"),
        ({"review_status": "rejected"}, "reviewstatus: rejected"),
        ({"human_label": "bad"}, "humanlabel: bad"),
        ({"meta": {"label": False}}, "meta.label: false"),
        ({"metadata": {"quality": "bad"}}, "metadata.quality: bad"),
        ({"feedback": {"rating": "thumbsDown"}}, "feedback.rating: thumbsDown"),
        ({"annotations": [{"label": False}]}, "annotations.label: false"),
        ({"meta": {"review": {"approved": False}}}, "meta.review.approved: false"),
        ({"info": {"feedback": -1}}, "info.feedback: -1"),
        ({"labels": {"good": False}}, "labels.good: false"),
        ({"label": "wrong"}, "label: wrong"),
        ({"rating": "negative"}, "rating: negative"),
        ({"quality": "low"}, "quality: low"),
        ({"rating": {"value": -1}}, "rating: dict"),
    ],
)
def test_what_is_marked_bad_is_rejected(item: dict[str, Any], mark: dict[str, Any], shown: str) -> None:
    (found,), _ = read({**item, **mark})
    assert isinstance(found, Reject)
    # A text with labels is an example for a classifier.
    assert (found.reason, found.detail) == ("marked_bad", shown) or found.reason == "unknown_shape"
    assert found.reason == "marked_bad" or (item is TEXT and "labels" in mark)


@pytest.mark.parametrize("item", [EXCHANGE, CHAT, TEXT])
@pytest.mark.parametrize(
    "mark", [{"meta": {"train": False}}, {"use_for_training": False}, {"do_not_use": True}, {"meta": {"weight": 0}}]
)
def test_what_is_not_to_be_learned_is_rejected(item: dict[str, Any], mark: dict[str, Any]) -> None:
    (found,), _ = read({**item, **mark})
    assert isinstance(found, Reject)
    assert found.reason == "marked_not_to_learn"


@pytest.mark.parametrize("item", [EXCHANGE, CHAT, TEXT])
@pytest.mark.parametrize(
    "mark",
    [
        {"helpful": 1},
        {"rejected": False},
        {"is_bad": False},
        {"meta": {"label": True, "source": "bad.example", "tags": ["bad"]}},
        {"feedback": {"rating": "thumbsUp"}},
        {"is_edited": False},
        {"has_answer": False},
        {"accepted": None},
        {"exclude_from_search": True},
        {"meta": {"review": None}},
    ],
)
def test_good_marks_and_other_facts_change_nothing(item: dict[str, Any], mark: dict[str, Any]) -> None:
    (found,), _ = read({**item, **mark})
    assert isinstance(found, Conversation)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({**EXCHANGE, "feedback": {"rating": 1}}, {"feedback.rating": 1}),
        ({**CHAT, "meta": {"quality_score": 0.2}}, {"meta.qualityscore": 1}),
        ({**CHAT, "meta": {"weight": 0.5}}, {"meta.weight": 1}),
        ({**CHAT, "moderation": {"scores": {"spam": 0.001, "toxic": 0}}}, {"moderation.scores.spam": 1}),
        ({**EXCHANGE, "toxic": 0.02}, {"toxic": 1}),
        ({**EXCHANGE, "annotations": [{"label": False}, {"label": True}]}, {"annotations": 1}),
        ({**EXCHANGE, "has_toxic_words": True}, {"hastoxicwords": 1}),
        ({**EXCHANGE, "label": "negative"}, {"label": 1}),  # a sentiment
        ({**EXCHANGE, "status": "low"}, {"status": 1}),  # a priority
        ({**EXCHANGE, "label": 3}, {"label": 1}),  # a class
        ({**EXCHANGE, "accepted": False, "votes": 7}, {"accepted": 1, "votes": 1}),  # one of several good answers
        ({**EXCHANGE, "meta": {"is_accepted": False}}, {"meta.isaccepted": 1}),
        ({**EXCHANGE, "rating": 0}, {"rating": 1}),  # of 5, or between -1 and 1, or of nobody
        ({**EXCHANGE, "rating": {"value": 0}}, {}),
        ({**CHAT, "feedback": {"reaction": "0"}}, {"feedback.reaction": 1}),
        ({"patterns": ["a b", "c"], "responses": ["x"], "label": False}, {"label: false": 1}),
        ({"items": [EXCHANGE], "meta": {"label": False}}, {"meta.label: false": 1}),
        (
            {"messages": [{**CHAT["messages"][0], "flagged": True}, CHAT["messages"][1]]},
            {"flagged: true (of a question)": 1},
        ),
        ({"prompt": "Is it?", "chosen": "No", "rejected": "Yes"}, {}),
        (EXCHANGE, {}),
    ],
)
def test_a_mark_that_is_not_used_is_named(value: Any, expected: dict[str, int]) -> None:
    (found,), notes = read(value)
    assert isinstance(found, Conversation)
    assert noted(notes, "unused_mark") == expected


def test_a_mark_that_is_not_used_is_named_on_the_console(tmp_path: Path) -> None:
    rows = [{"question": f"What is {n * 977}?", "answer": f"{n * 31} of {n}", "user_stars": n} for n in range(1, 30)]
    made = built(tmp_path, rows)
    assert made.figures["unused_marks"] == {"userstars": 29}
    assert any("the mark 'userstars' is not used (29 items, first " in line for line in warnings(made.facts))


@pytest.mark.parametrize(
    ("replies", "expected"),
    [
        ([("Bad.", 0), ("Good.", 1)], [("Good.", True)]),
        ([("Good.", 1), ("Bad.", 0)], [("Good.", True)]),
        ([("Good.", 1), ("Bad.", 0), ("Better.", 1)], [("Good.\nBetter.", True)]),
        ([("Same.", 0), ("Same.", 1)], [("Same.", True)]),
        ([("Bad.", 0), ("Worse.", 0)], [("Bad.\nWorse.", False)]),
        ([("Good.", 1), ("Better.", 1)], [("Good.\nBetter.", True)]),
    ],
)
def test_joined_messages_neither_lose_nor_spread_a_mark(
    replies: list[tuple[str, int]], expected: list[tuple[str, bool]]
) -> None:
    joined = [{"role": "assistant", "content": text, "weight": weight} for text, weight in replies]
    rest = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Closed."}]
    (found,), notes = read({"messages": [{"role": "user", "content": "Open?"}, *joined, *rest]})
    assert isinstance(found, Conversation)
    assert [(found.messages[1].content, found.messages[1].learned)] == expected
    assert found.messages[3].learned
    left_out = noted(notes, "mended").get("message not to learn left out beside one to learn", 0)
    assert left_out == (len({weight for _, weight in replies}) > 1)


def test_marks_within_exchanges_mask_their_replies() -> None:
    rows = [{**EXCHANGE, "meta": {"label": False}}, {**EXCHANGE, "helpful": 0}, {**EXCHANGE, "answer": "At nine."}]
    (found,), notes = read({"exchanges": rows})
    assert isinstance(found, Conversation)
    assert [m.learned for m in found.messages if m.role == "assistant"] == [False, False, True]
    assert noted(notes, "not_learned") == {"meta.label: false": 1, "helpful: 0": 1}


def test_lists_of_marks_in_an_object_about_the_chat() -> None:
    chat = {
        "messages": [*CHAT["messages"], {"role": "user", "content": "When?"}, {"role": "assistant", "content": "9"}]
    }
    (found,), _ = read({**chat, "meta": {"loss_mask": [0, 0, 0, 1]}})
    assert isinstance(found, Conversation)
    assert [m.learned for m in found.messages if m.role == "assistant"] == [False, True]
