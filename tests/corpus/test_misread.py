"""What looks like a conversation and is none: it must never be learned as one."""

from typing import Any

import pytest

from theta.conversation.messages import Conversation
from theta.corpus.items import Item, Notes, Reject, Rules
from theta.corpus.shapes.shape import shape


def results(value: Any, rules: Rules, notes: Notes | None = None) -> list[Conversation | Reject]:
    return list(shape(Item(value, "x.json#1", "x"), rules, notes if notes is not None else Notes()))


def said(value: Any) -> list[list[str]]:
    return [[m.content for m in made.messages] for made in results(value, Rules()) if isinstance(made, Conversation)]


@pytest.mark.parametrize("name", ["question_variants", "keywords", "ingredients", "steps", "options", "categories"])
def test_a_list_of_texts_is_a_chat_only_under_the_name_of_one(name: str) -> None:
    made = results({name: ["How do I moor?", "What is the way to moor?"], "answer": "With ropes."}, Rules())

    assert [each.reason for each in made if isinstance(each, Reject)] == ["unknown_shape"]
    assert said({name: ["one thing", "another"], "faq": [{"question": "Is it far?", "answer": "No."}]}) == [
        ["Is it far?", "No."]
    ]


def test_pairs_under_a_name_are_conversations_of_their_own_as_in_a_file() -> None:
    pairs = [["Is it far?", "A mile."], ["Is it late?", "Past nine."]]

    assert said({"train": pairs}) == said({"dialogs": pairs}) == pairs


def test_a_pair_that_names_its_speaker_is_a_message() -> None:
    told = [["human", "Is it far?"], ["assistant", "A mile."]]

    assert said({"messages": told}) == [["Is it far?", "A mile."]]
    assert said({"messages": [["user", "Hi"], ["bye", "See you"]]}) == [["user", "Hi", "bye", "See you"]]


def test_the_response_of_a_function_is_no_part_of_a_reply() -> None:
    chat = (
        "USER: What is new?\n\n\nASSISTANT: <functioncall> {} <|endoftext|>\n\n\nFUNCTION RESPONSE: {'n': 1}\n\n\n"
        "ASSISTANT: Much. <|endoftext|>\n\n\nUSER: Thank you.\n\n\nASSISTANT: Welcome. <|endoftext|>"
    )

    assert said({"chat": chat}) == [["Thank you.", "Welcome."]]


@pytest.mark.parametrize("thumb", ["👎", "👎🏽", ":thumbsdown:"])
def test_a_thumb_down_is_bad_in_any_spelling(thumb: str) -> None:
    (made,) = results({"question": "Is it far?", "answer": "No.", "feedback": thumb}, Rules())

    assert isinstance(made, Reject)
    assert made.reason == "marked_bad"


def test_a_key_without_end_is_named_by_its_beginning() -> None:
    notes = Notes()
    results({"k" * 100_000: "words that are not used", "question": "Is it far?", "answer": "No."}, Rules(), notes)

    assert [name for name, _, _ in notes.of("unused_key")] == ["k" * 60 + "…"]
