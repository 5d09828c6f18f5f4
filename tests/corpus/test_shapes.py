"""How text is cleaned, where domains come from, and that the quick reading of common shapes is the complete one."""

import json
import random
from typing import Any

import pytest

from theta.conversation.messages import Conversation
from theta.corpus.items import Item, Notes, Number, Reject, Rules
from theta.corpus.shapes import plain
from theta.corpus.shapes.cleaning import clean
from theta.corpus.shapes.shape import is_message, shape

COMPLETE = Rules(roles={"nobody": "user"})
"""Any setting of this kind turns the quick reading off."""


def results(value: Any, rules: Rules, notes: Notes | None = None) -> list[Conversation | Reject]:
    return list(shape(Item(value, "x.json#1", "x"), rules, notes if notes is not None else Notes()))


@pytest.mark.parametrize(
    ("raw", "cleaned"),
    [
        ("  a\r\nb\rc\n ", "a\nb\nc"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("a\x00b\x07c\x1b[0m\x7f\td", "abc\td"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\c", "abc"),
        ("half \ud83d a pair", "half  a pair"),
        ("a whole one \U0001f600", "a whole one \U0001f600"),
        ("one\vtwo\ffour\u2028five\u2029six", "one\ntwo\nfour\nfive\nsix"),
        ("one\x0ctwo\x85three\x0bfour", "one\ntwo\nthree\nfour"),
        ("it\x92s \x93ok\x94 \x97 \x80 5\x85", "it’s “ok” — € 5…"),
        ("undefined \x81\x8d there", "undefined  there"),
        ("    return x\n    # done\n", "    return x\n    # done"),
        ("  if x:\n    y()", "  if x:\n    y()"),
        ("    return x\n", "    return x"),
        ("\treturn x", "\treturn x"),
        (" an answer", "an answer"),
        ("\n\n    x = 1\n    y = 2\n\n", "    x = 1\n    y = 2"),
        ("   First line\nsecond", "First line\nsecond"),
        ("\ufeffText", "Text"),
        ("\u200b", ""),
        ("\u00ad\ufeff \u2066\u3164", ""),
        ("a\u200db", "a\u200db"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("", ""),
        (" \n\t", ""),
    ],
)
def test_cleaning_keeps_what_was_written(raw: str, cleaned: str) -> None:
    assert clean(raw) == cleaned


def test_cleaning_twice_changes_nothing() -> None:
    chance = random.Random(0)
    letters = "ab \n\t\r\x0b\x0c\x85\x92\x00\u200b\u00a0\u2028e\u0301é\ud83d\ufeff"
    for _ in range(3000):
        once = clean("".join(chance.choices(letters, k=chance.randint(0, 9))))
        assert clean(once) == once


def test_wrongly_decoded_text_is_repaired_on_request() -> None:
    pytest.importorskip("ftfy")
    assert clean("caf\u00c3\u00a9") == "caf\u00c3\u00a9"
    assert clean("caf\u00c3\u00a9", repair_encoding=True) == "café"
    assert clean("café & 'quotes'", repair_encoding=True) == "café & 'quotes'"


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
    for rules in (Rules(), COMPLETE):
        (made,) = results({"question": "Why?", "answer": "So.", **item}, rules)
        assert isinstance(made, Conversation)
        assert made.domain == domain


TEXTS = (
    "Why?",
    "",
    " ",
    "é",
    "a\r\nb",
    "User: a\nBot: b",
    "Human: x",
    "# Title: x",
    "## Heading\ntext",
    "<b>x</b>",
    "<image>x",
    "<|user|>",
    "1. One: two",
    "12/31/23, 10:00 - A: b",
    "A:",
    "x:",
    "[1]",
    "Q: a\nA: b",
    "\u200b",
    "    x\n    y",
    "Answer: yes",
    "USER: a ASSISTANT: b",
    "Note: this",
    "### Human: a### Assistant: b",
    '[{"role": "user"}]',
    "</s>",
)


BESIDE: tuple[dict[str, Any], ...] = (
    *({},) * 6, {"weight": 1}, {"weight": 0}, {"train": True}, {"loss_weight": 0.5},
    {"content": [{"type": "text", "text": "a"}]},
    {"content": [{"type": "text", "value": " a\r\n"}]}, {"weight": Number("1.0")}, {"weight": Number("0.0")},
    {"name": "x"},
)  # fmt: skip


def common(chance: random.Random) -> dict[str, Any]:
    """An item of a common shape, with texts that are not always common."""

    def text() -> str:
        return chance.choice(TEXTS) if chance.random() < 0.4 else "Plain text."

    kind = chance.random()
    if kind < 0.4:
        names = [chance.choice(["question", "instruction", "prompt"]), chance.choice(["answer", "output", "response"])]
        names += chance.choice([[], ["input"], ["context"]])
        value: dict[str, Any] = {name: text() for name in names}
    elif kind < 0.5:
        value = {"text": text()}
    else:
        role, content, user, assistant = chance.choice(
            [("role", "content", "user", "assistant"), ("from", "value", "human", "gpt")]
        )
        roles = [user, assistant] * chance.randint(1, 3)
        if chance.random() < 0.3:
            roles.insert(chance.choice([0, 0, 1]), "system")
        if chance.random() < 0.2:
            roles.pop()
        chat = [{role: each, content: text(), **chance.choice(BESIDE)} for each in roles]
        value = {chance.choice(["messages", "conversations"]): chat}
    return value | chance.choice([{}, {"id": "7"}, {"topic": "t", "url": "u"}, {"label": True}, {"rating": "5"}])


def test_the_quick_reading_gives_what_the_complete_reading_gives() -> None:
    chance, quick = random.Random(3), 0
    for _ in range(10_000):
        value = common(chance)
        notes, complete_notes = Notes(), Notes()
        made, complete = results(value, Rules(), notes), results(value, COMPLETE, complete_notes)
        assert made == complete, value
        assert notes == complete_notes, value
        quick += plain.read(Item(value, "x", "x"), Rules(), Notes()) is not None
    assert quick > 1500


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"role": "user", "content": "x"}, True),
        ({"from": "human", "value": "x"}, True),
        ({"role": "assistant", "content": None, "tool_calls": [1]}, True),
        ({"speaker": "Ann", "utterance": "x"}, True),
        ({"user": "U1", "text": "x", "ts": "1"}, True),
        ({"sender_name": "Ann", "content": "x"}, True),
        ({"type": "human", "data": {"content": "x"}}, True),
        ({"author": {"role": "user"}, "content": {"parts": ["x"]}}, True),
        ({"type": "user", "message": {"role": "user", "content": "x"}}, True),
        ({"human": "x"}, True),
        ({"question": "x", "answer": "y"}, False),
        ({"human": "x", "bot": "y"}, False),
        ({"text": "x"}, False),
        ({"text": "x", "author": "Jane"}, False),
        ({"text": "x", "type": "article", "name": "n"}, False),
        ({"from": "a", "to": "b"}, False),
        ({"messages": [{"role": "user", "content": "x"}]}, False),
        ({"role": "user"}, False),
        ("x", False),
        (None, False),
        ([{"role": "user", "content": "x"}], False),
    ],
)
def test_what_is_a_message(value: Any, expected: bool) -> None:
    assert is_message(value) is expected


def test_any_reject_can_be_written() -> None:
    (made,) = results({"half \ud83d": "half \ud83d", **{f"key{n}": n for n in range(500)}}, Rules())
    assert isinstance(made, Reject)
    row = made.to_json()
    assert json.dumps(row, ensure_ascii=False).encode("utf-8")
    assert len(row["reason"]) < 150
    assert row["item"]["key7"] == 7
