"""Texts with the names of two sides in front of lines, in any language, become turns; prose does not."""

from typing import Any

import pytest

from tests.support.corpora import read_as
from theta.conversation.messages import Conversation


def turns(text: str, name: str = "text") -> list[list[str]]:
    (found,) = read_as({name: text})
    assert isinstance(found, Conversation)
    return [[message.role, message.content] for message in found.messages]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Q", "A"),
        ("Question", "Answer"),
        ("Input", "Output"),
        ("Frage", "Antwort"),
        ("Benutzer", "Assistent"),
        ("Pregunta", "Respuesta"),
        ("Question", "Réponse"),
        ("Domanda", "Risposta"),
        ("Pergunta", "Resposta"),
        ("Вопрос", "Ответ"),
        ("Pytanie", "Odpowiedź"),
        ("Soru", "Cevap"),
        ("Câu hỏi", "Trả lời"),
        ("问题", "答案"),
        ("問題", "回答"),
        ("質問", "回答"),
        ("질문", "답변"),
        ("سؤال", "جواب"),
        ("F", "A"),
    ],
)
@pytest.mark.parametrize(
    "layout",
    [
        "{one}: {q1}?\n{other}: {a1}\n\n{one}: {q2}?\n{other}: {a2}",
        "{one} 1: {q1}?\n{other} 1: {a1}\n{one} 2: {q2}?\n{other} 2: {a2}",
        "**{one}:** {q1}?\n\n**{other}:** {a1}\n\n**{one}:** {q2}?\n\n**{other}:** {a2}",
        "[Round 1]\n\n{one}：{q1}?\n\n{other}：{a1}\n\n[Round 2]\n\n{one}：{q2}?\n\n{other}：{a2}",
    ],
)
def test_pairs_of_names_become_turns(one: str, other: str, layout: str) -> None:
    words = {"q1": "alder birch", "a1": "cedar\nis a tree", "q2": "elm", "a2": "fir: a tree"}
    text = layout.format(one=one, other=other, **words)
    expected = [
        ["user", "alder birch?"],
        ["assistant", "cedar\nis a tree"],
        ["user", "elm?"],
        ["assistant", "fir: a tree"],
    ]
    assert turns(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Frage: Was ist das?\nDas weiß niemand.",
        "Antwort: Ja, das ist so.",
        "Antwort: Ja.\nFrage: Ist das so?",
        "Die Frage: Was ist das?\nDie Antwort: nichts.",
        "Frage: eins\nFrage: zwei\nAntwort: drei",
        "Frage: eins\nAntwort: zwei\nFrage: drei",
        "Frage:\nAntwort: Ja",
        "Ein Text.\nFrage: eins\nAntwort: zwei",
        "Frage: eins\nRespuesta: dos",
        "F: 440 Hz\nA: 220 Hz",
        "Input: the letter.\nThe program reads it.",
        "[Round 1]\nThe boxers came in.\n[Round 2]\nOne fell.",
        "Round 1\nThe boxers came in.",
        "问：他走了。",
    ],
)
def test_prose_that_holds_such_a_word_is_a_text(text: str) -> None:
    assert turns(text) == [["text", text]]


@pytest.mark.parametrize("name", ["messages", "conversation", "dialogue", "chat", "transcript"])
def test_under_the_names_of_chats(name: str) -> None:
    assert turns("Frage: Was ist das?\nAntwort: Ein Baum.", name) == [
        ["user", "Was ist das?"],
        ["assistant", "Ein Baum."],
    ]


MESSAGES: list[dict[str, Any]] = [
    {"role": "user", "content": 'What\'s "DNS"?'},
    {"role": "assistant", "content": "It turns 'names'\ninto 1.10 addresses, C:\\new {x} [y]."},
]
SAID = [[each["role"], each["content"]] for each in MESSAGES]
NUMPY = f"[{MESSAGES[0]}\n {MESSAGES[1]}]"


@pytest.mark.parametrize("written", [str(MESSAGES), NUMPY])
@pytest.mark.parametrize("name", ["messages", "conversations"])
def test_lists_as_python_writes_them(written: str, name: str) -> None:
    assert turns(written, name) == SAID


def test_a_prompt_and_a_completion_as_python_writes_them() -> None:
    (found,) = read_as({"prompt": str(MESSAGES[:1]), "completion": str(MESSAGES[1:])})
    assert isinstance(found, Conversation)
    assert [[message.role, message.content] for message in found.messages] == SAID


@pytest.mark.parametrize(
    "code", ["['a', 'b']", "[x for x in y]", "[f(), 'a']", "['\\d']", "[" * 300 + "'a'" + "]" * 300]
)
def test_code_in_a_reply_stays_as_it_is(code: str) -> None:
    (found,) = read_as({"question": "What does it give?", "answer": code})
    assert isinstance(found, Conversation)
    assert found.messages[1].content == code
