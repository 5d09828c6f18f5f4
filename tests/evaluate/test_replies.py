import json
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.tiny import CONVERSATIONS, conversation
from theta.conversation.messages import Conversation, Message
from theta.errors import DataError
from theta.evaluate.replies import Answered, answer, by_turns, figures
from theta.evaluate.replies_page import COLUMNS, page
from theta.generate.assistant import Reply, ThetaModel
from theta.generate.settings import GenerationSettings
from theta.model import network
from theta.tokens.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def assistant(vocabulary: Vocabulary) -> ThetaModel:
    model = network.new(1, 2, 16, seed=0, vocabulary_size=vocabulary.size)
    return ThetaModel.of(model, vocabulary, GenerationSettings(max_length=8))


def answered(reply: str, reference: str, *, ended: bool = True) -> Answered:
    return Answered(conversation("linux", "Why?", reference), Reply(reply, tokens=3, ended=ended))


def test_domains_take_turns() -> None:
    assert [each.domain for each in by_turns(CONVERSATIONS)] == ["linux", "networking", "smalltalk", "linux", "linux"]
    assert next(by_turns(CONVERSATIONS)) == CONVERSATIONS[0]


def test_the_model_writes_the_last_reply(assistant: ThetaModel) -> None:
    answers = answer(assistant, CONVERSATIONS, replies=3, batch_size=2, seed=1)
    assert [each.conversation.domain for each in answers] == ["linux", "networking", "smalltalk"]
    assert answers[2].reference == "An assistant | of few words."
    row = answers[2].to_json()
    assert [message["content"] for message in row["messages"]] == ["Hi", "Hello! How can I help?", "Who are you?"]
    assert json.loads(json.dumps(row)) == row
    again = answer(assistant, CONVERSATIONS, replies=3, batch_size=3, seed=1)
    assert [each.reply for each in again] == [each.reply for each in answers]


def test_prompts_without_room_are_skipped(assistant: ThetaModel) -> None:
    too_long = conversation("a first domain", "word " * 1100, "No.")
    answers = answer(assistant, [too_long, *CONVERSATIONS], replies=100, batch_size=8, seed=1)
    assert len(answers) == len(CONVERSATIONS)
    with pytest.raises(DataError, match="short enough"):
        answer(assistant, [too_long], replies=1, batch_size=1, seed=1)


def test_texts_get_no_reply(assistant: ThetaModel) -> None:
    text = Conversation((Message("text", "DNS is a directory."),), "books", "books.json#1")
    answers = answer(assistant, [text, *CONVERSATIONS], replies=100, batch_size=8, seed=1)
    assert [each.conversation for each in answers if each.conversation.is_text] == []
    assert len(answers) == len(CONVERSATIONS)
    alone = answer(assistant, [text], replies=1, batch_size=1, seed=1)
    assert (alone, figures(alone)) == ([], {"replies": 0})
    assert page(alone).startswith("# 0 questions")


def test_figures_of_perfect_and_of_empty_replies() -> None:
    found = figures([answered("Use `ls -a`.", "Use `ls -a`."), answered("It is fine.", "It is fine.", ended=False)])
    assert found == {
        "replies": 2,
        "chrf": pytest.approx(100),
        "repetition_rate": 0,
        "ended_rate": 0.5,
        "length_ratio": 1,
        "empty": 0,
    }
    assert figures([answered(" ", "Something.")]) == {
        "replies": 1,
        "chrf": 0,
        "repetition_rate": 0,
        "ended_rate": 1,
        "length_ratio": 0,
        "empty": 1,
    }


def test_repetition_is_counted_within_a_reply() -> None:
    # Pairs: a-b b-a a-b | a-b; one of the four occurred earlier in the same reply.
    assert figures([answered("a b A B", "x"), answered("a b", "x")])["repetition_rate"] == 1 / 4


def read(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def test_a_page_reads_back_exactly() -> None:
    answers = [
        answered("Me.", "I am."),
        Answered(CONVERSATIONS[2], Reply("Us.", tokens=2, ended=False)),
        answered("", "x"),
    ]
    assert read(page(answers)) == [each.to_json() for each in answers]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " a reply that begins with a space " + "and goes on " * 20,
        "two  spaces and a line far beyond the width " * 5,
        "| a | b |\n```python\nprint(1)\n````\n# Heading <script>\n\n    indented",
        "a line break at the end\n",
        "tab\tbell\x07 escape\x1b[31m return\r\n next\x85 line\u2028 mark\ufeff",
        "yes",
        "1e5",
        "- a: b #c",
        "中文 😀 é",
        "- \t" + "x" * 120 + "\\#- !",
        "=  ``#" + "x" * 120,
        "?&" + "x" * 120 + "!  a!",
        "word " * 20 + " |b",
        "word " * 100 + "\n\n" + "word " * 100 + "end",
    ],
)
def test_a_page_holds_any_text_exactly_and_nothing_that_does_not_print(text: str) -> None:
    written = page([answered(text, "Good.")])
    assert read(written)[0]["reply"] == text
    assert all(line.isprintable() for line in written.splitlines())


def test_paragraphs_are_folded_and_code_stays_as_it_is() -> None:
    paragraph, code = "word " * 100 + "end", "if x:\n    y()\n\nz()"
    lines = page([answered(paragraph, code)]).splitlines()
    assert max(map(len, lines)) <= COLUMNS + len(" word")
    assert lines[lines.index("  reference: |-") :][:5] == ["  reference: |-", "    if x:", "        y()", "", "    z()"]
