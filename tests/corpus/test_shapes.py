"""A raw item becomes a conversation or is rejected with a reason."""

import json
from typing import Any

import pytest

from theta.corpus import shapes
from theta.corpus.shapes import Reject, Shaped

Q, A = "What is DNS?", "It turns names into addresses."
S = "You are brief."
ONE = (("user", Q), ("assistant", A))
TWO = (*ONE, ("user", "And ARP?"), ("assistant", "It finds hardware addresses."))


def turns(role_key: str, content_key: str, user: str = "user", assistant: str = "assistant") -> list[dict[str, str]]:
    return [{role_key: user if role == "user" else assistant, content_key: content} for role, content in TWO]


def shaped(item: Any) -> Shaped:
    result = shapes.read(item, "x.json#1", "x")
    assert isinstance(result, Shaped), result
    return result


def rejected(item: Any) -> Reject:
    result = shapes.read(item, "x.json#1", "x")
    assert isinstance(result, Reject), result
    return result


def said(item: Any) -> tuple[tuple[str, str], ...]:
    return tuple((message.role, message.content) for message in shaped(item).conversation.messages)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"question": Q, "answer": A}, ONE),
        ({"input": Q, "output": A}, ONE),
        ({"prompt": Q, "completion": A}, ONE),
        ({"prompt": Q, "response": A}, ONE),
        ({"query": Q, "response": A}, ONE),
        ({"instruction": Q, "output": A}, ONE),
        ({"instruction": Q, "input": "", "response": A}, ONE),
        ({"instruction": "Sum up.", "input": Q, "output": A}, (("user", f"Sum up.\n\n{Q}"), ("assistant", A))),
        ({"instruction": "Sum up.", "context": Q, "response": A}, (("user", f"Sum up.\n\n{Q}"), ("assistant", A))),
        ({"instruction": None, "input": Q, "output": A}, ONE),
        ({" Question": Q, "ANSWER": A}, ONE),
        ({"system": S, "question": Q, "answer": A}, (("system", S), *ONE)),
        ({"system_prompt": S, "question": Q, "response": A}, (("system", S), *ONE)),
        ({"system": "", "question": Q, "answer": A}, ONE),
        ({"system": S, "messages": turns("role", "content")}, (("system", S), *TWO)),
        ({"messages": turns("role", "content")}, TWO),
        ({"conversation": turns("from", "value", "human", "gpt")}, TWO),
        ({"Conversations": turns("from", "value", "Human", "GPT")}, TWO),
        ({"dialogue": turns("speaker", "text", "prompter", "bot")}, TWO),
        ({"dialog": turns("Speaker", "Text", "question", "answer")}, TWO),
        ({"turns": turns("role", "text", "USER", "Theta")}, TWO),
        ({"messages": turns("role", "content", "user", "model"), "prompt": "seen"}, TWO),
        ({"messages": turns("role", "content", "user", " chatbot ")}, TWO),
        ({"messages": [{"role": "developer", "content": S}, *turns("role", "content")]}, (("system", S), *TWO)),
        ({"messages": [{"role": "system", "content": " "}, *turns("role", "content")]}, TWO),
        ({"exchanges": [{"question": Q, "answer": A}, {"input": TWO[2][1], "output": TWO[3][1]}]}, TWO),
        ({"system": S, "exchanges": [{"prompt": Q, "completion": A}]}, (("system", S), *ONE)),
        ({"question": "2 + 2?", "answer": 4}, (("user", "2 + 2?"), ("assistant", "4"))),
        ({"question": "Pi?", "answer": 3.14}, (("user", "Pi?"), ("assistant", "3.14"))),
        ({"question": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "answer": "c"},
         (("user", "a\nb"), ("assistant", "c"))),
        ({"text": " DNS is a directory.\r\nIt is old. "}, (("text", "DNS is a directory.\nIt is old."),)),
        ({"Text": "DNS.", "url": "a", "meta": {"year": 1983}}, (("text", "DNS."),)),
        ({"text": "seen", "question": Q, "answer": A}, ONE),
        ({"text": "seen", "messages": turns("role", "content")}, TWO),
    ],
)  # fmt: skip
def test_every_shape_is_understood(item: Any, expected: tuple[tuple[str, str], ...]) -> None:
    assert said(item) == expected


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a\r\nb\rc\n ", "a\nb\nc"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("a\x00b\x07c\x1b[0m\x7f\x85\td", "abc[0m\td"),
        ("half \ud83d a pair", "half  a pair"),
        ("a whole one \U0001f600", "a whole one \U0001f600"),
    ],
)
def test_content_is_cleaned(raw: str, cleaned: str) -> None:
    assert said({"question": Q, "answer": raw})[1] == ("assistant", cleaned)


@pytest.mark.parametrize(
    ("item", "domain"),
    [
        ({"domain": "linux"}, "linux"),
        ({"category": " closed\nqa "}, "closed qa"),
        ({"Topic": "cooking"}, "cooking"),
        ({"domain": "", "topic": "cooking"}, "cooking"),
        ({"domain": ["a", "b"]}, "x"),
        ({}, "x"),
    ],
)
def test_the_domain_is_the_items_own_or_the_files(item: Any, domain: str) -> None:
    assert shaped({"question": Q, "answer": A, **item}).conversation.domain == domain


def test_a_last_unanswered_question_is_removed_and_marked() -> None:
    result = shaped({"messages": [*turns("role", "content"), {"role": "user", "content": "And then?"}]})
    assert result.unanswered_question_cut
    assert len(result.conversation.messages) == 4
    assert not shaped({"messages": turns("role", "content")}).unanswered_question_cut


def chat(*messages: tuple[Any, Any]) -> dict[str, Any]:
    names = {"s": "system", "u": "user", "a": "assistant"}
    return {"messages": [{"role": names.get(role, role), "content": content} for role, content in messages]}


@pytest.mark.parametrize(
    ("item", "reason", "detail"),
    [
        ("just text", "not_an_object", "str"),
        ([1, 2], "not_an_object", "list"),
        ({"text": "a", "Label": 1}, "unknown_shape", "keys label, text"),
        ({"text": "a", "question": "b"}, "unknown_shape", "keys question, text"),
        ({"text": " \x00\n"}, "empty_text", ""),
        ({"text": None}, "empty_text", ""),
        ({"text": {"en": "a"}}, "content_not_text", "dict"),
        (chat(("text", "a")), "unknown_role", "'text'"),
        ({"question": "a"}, "unknown_shape", "keys question"),
        ({}, "unknown_shape", "keys none"),
        ({"messages": "Hi"}, "unknown_shape", "keys messages"),
        ({"messages": ["Hi", "Hello"]}, "unknown_shape", "a message is of type str"),
        ({"messages": [{"role": "user", "words": "Hi"}]}, "unknown_shape", "keys role, words"),
        ({"exchanges": [{"question": "Hi"}]}, "unknown_shape", "keys question"),
        (chat(("narrator", "a")), "unknown_role", "'narrator'"),
        (chat((7, "a")), "unknown_role", "7"),
        ({"question": "Is it?", "answer": True}, "content_not_text", "bool"),
        ({"question": {"en": "Hi"}, "answer": "a"}, "content_not_text", "dict"),
        ({"question": [{"type": "image", "url": "a.png"}], "answer": "a"}, "content_not_text", "list"),
        ({"question": " \x00", "answer": "a"}, "empty_question", ""),
        ({"question": "a", "answer": None}, "empty_reply", ""),
        (chat(("u", "a"), ("a", "b"), ("u", "c"), ("a", "\n")), "empty_reply", ""),
        (chat(("u", "a"), ("a", "b"), ("s", "c"), ("u", "d"), ("a", "e")), "misplaced_system_message", ""),
        ({"system": S, **chat(("s", "b"), ("u", "c"), ("a", "d"))}, "misplaced_system_message", ""),
        (chat(("u", "a")), "no_assistant_message", ""),
        (chat(), "no_assistant_message", ""),
        (chat(("a", "Welcome"), ("u", "a"), ("a", "b")), "starts_with_assistant", ""),
        (chat(("u", "a"), ("u", "b"), ("a", "c")), "same_role_twice", "user"),
        (chat(("u", "a"), ("a", "b"), ("a", "c")), "same_role_twice", "assistant"),
    ],
)
def test_every_reason_to_reject(item: Any, reason: str, detail: str) -> None:
    reject = rejected(item)
    assert (reject.reason, reject.detail) == (reason, detail)
    assert (reject.item, reject.source) == (item, "x.json#1")


def test_a_reject_is_written_with_reason_and_raw_item() -> None:
    assert rejected(chat(("narrator", "a"))).to_json() == {
        "source": "x.json#1",
        "reason": "unknown_role: 'narrator'",
        "item": chat(("narrator", "a")),
    }


def test_any_reject_can_be_written() -> None:
    row = rejected({"half \ud83d": "half \ud83d", **{f"key{n}": n for n in range(500)}}).to_json()
    assert json.dumps(row, ensure_ascii=False).encode("utf-8")
    assert len(row["reason"]) < 150
