"""Whatever an item is: nothing raises, nothing vanishes, and what is kept is a conversation that can be learned."""

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from theta.conversation.messages import Conversation
from theta.corpus.items import Item, Notes, Number, Reject, Rules
from theta.corpus.shapes import fields
from theta.corpus.shapes.shape import is_message, shape

RULES = (
    Rules(),
    Rules(
        {"frage": "question", "wer": "role"},
        {"bing": "assistant"},
        {"Ann": "user", "Bob": "assistant"},
        "assistant",
        True,
    ),
)
NAMES = (
    *fields.INSTRUCTIONS,
    *fields.QUESTIONS,
    *fields.CONTEXTS,
    *fields.REPLIES,
    *fields.SEVERAL_REPLIES,
    *fields.SYSTEMS,
    *fields.MESSAGE_LISTS,
    *fields.CHOSEN,
    *fields.REJECTED,
    *fields.PATTERNS,
    *fields.DOMAINS,
    *fields.ROLE_KEYS,
    *fields.CONTENT_KEYS,
    *fields.MEDIA,
    *fields.LABELS,
    *fields.USERS,
    *fields.ASSISTANTS,
    "mapping",
    "current_node",
    "parent_id",
    "message_id",
    "replies",
    "prompt",
    "rows",
    "row",
    "columns",
    "index",
    "features",
    "nlu",
    "qas",
    "paragraphs",
    "instances",
    "weight",
    "train",
    "loss_mask",
    "rating",
    "label",
    "weights",
    "tool_calls",
    "images",
    "winner",
    "response_a",
    "response_b",
    "conversation_a",
    "conversation_b",
    "ts",
    "timestamp",
    "frage",
    "wer",
    "",
    " ",
    "?",
    "What is it?",
    "how are you?",
    "1",
    "2",
    "\u200b",
    "\x00",
    "reference",
    "question_id",
    "choices",
    "parts",
)
TEXTS = (
    "",
    " ",
    "\n",
    "a",
    "Hello there",
    "user",
    "assistant",
    "system",
    "human",
    "gpt",
    "tool",
    "Ann",
    "Bob",
    "bing",
    "{}",
    "[]",
    '[{"role": "user", "content": "x"}]',
    "[1",
    "### Human: a### Assistant: b",
    "### Human:### Assistant:",
    "<|im_start|>user\nx<|im_end|>",
    "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\ny",
    "[INST] a [/INST] b",
    "[INST][/INST]",
    "[INST] a [/INST]",
    "User: a\nBot: b",
    "Q: a\nA:",
    "USER: ASSISTANT:",
    "\x00\x1b[0m\x85\x93",
    "\u200b\u00ad",
    "e\u0301",
    "\U0001f600",
    "<image>",
    "false",
    "0",
    "1e999",
    "Human: a\n\nAssistant:",
    "- a\n- b",
    "- ",
    "12/31/23, 10:00 - Ann: hi\n12/31/23, 10:01 - Bob: yo",
    "12/31/23, 10:00 - X: hi\n12/31/23, 10:01 - Y: yo",
    "\ud800",
    "caf\u00c3\u00a9",
    "thumbs_down",
    "message",
    "text",
    "thinking",
    "image",
    "a" * 300,
    ":",
    "User:",
    "::",
)
SCALARS = (
    None,
    True,
    False,
    0,
    -1,
    7,
    1.5,
    float("nan"),
    float("inf"),
    10**400,
    Number("1.10"),
    Number("1e999"),
    Number("0"),
    Number("9" * 5000),
    (("a", 1), ("a", 2)),
    (("question", "x"), ("question", "y")),
)


def value(chance: random.Random, depth: int) -> Any:
    """A value of any type; names and texts are those that mean something."""
    kind = chance.random()
    if depth <= 0 or kind < 0.3:
        return chance.choice(TEXTS) if chance.random() < 0.75 else chance.choice(SCALARS)
    if kind < 0.75:
        return {chance.choice(NAMES): value(chance, depth - 1) for _ in range(chance.randint(0, 5))}
    return (
        alike(chance, depth)
        if chance.random() < 0.5
        else [value(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    )


def alike(chance: random.Random, depth: int) -> list[Any]:
    """A list whose entries have the same keys, as the messages of a chat have."""
    names = [chance.choice(NAMES) for _ in range(chance.randint(1, 3))]
    names += chance.choice([["role", "content"], ["from", "value"], ["question", "answer"], ["speaker", "text"], []])
    return [{name: value(chance, depth - 2) for name in names} for _ in range(chance.randint(0, 5))]


def results(raw: Any, rules: Rules = RULES[0]) -> list[Conversation | Reject]:
    return list(shape(Item(raw, "a.json#1", "a"), rules, Notes()))


def check(raw: Any, made: Sequence[Conversation | Reject]) -> None:
    assert made, f"nothing came of {raw!r}"
    for each in made:
        assert each.source.startswith("a.json#1")
        if isinstance(each, Reject):
            assert each.reason
            assert len(each.detail) <= 120
        else:
            check_conversation(each)


def check_conversation(made: Conversation) -> None:
    roles = [message.role for message in made.messages]
    assert all(message.content.strip() for message in made.messages), made
    assert all("\r" not in m.content and "\x00" not in m.content for m in made.messages)
    assert all(message.learned for message in made.messages if message.role != "assistant")
    if roles == ["text"]:
        return
    turns = roles[1:] if roles[0] == "system" else roles
    assert turns
    assert turns[0] == "user"
    assert turns[-1] == "assistant"
    assert all({one, other} == {"user", "assistant"} for one, other in pairwise(turns)), roles
    assert any(message.learned for message in made.messages if message.role == "assistant")
    json.dumps(made.to_json()).encode()


@pytest.mark.parametrize("seed", range(8))
def test_any_value_gives_conversations_or_rejects(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(1500):
        raw = value(chance, chance.randint(1, 5))
        for rules in RULES:
            check(raw, results(raw, rules))


@pytest.mark.parametrize("seed", range(4))
def test_any_change_of_a_good_item_gives_conversations_or_rejects(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(400):
        raw = json.loads(json.dumps(chance.choice(GOOD)))
        for _ in range(chance.randint(1, 3)):
            change(raw, chance)
        check(raw, results(raw, chance.choice(RULES)))


GOOD: tuple[Any, ...] = (
    {"question": "Why?", "answer": "Because."},
    {"system": "S", "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}] * 2},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b", "weight": 0}] * 2},
    {
        "mapping": {
            "r": {"message": None, "parent": None, "children": ["a"]},
            "a": {
                "message": {"author": {"role": "user"}, "content": {"parts": ["q"]}},
                "parent": "r",
                "children": ["b"],
            },
            "b": {"message": {"author": {"role": "assistant"}, "content": {"parts": ["x"]}}, "parent": "a"},
        },
        "current_node": "b",
    },
    {"prompt": {"text": "q", "role": "prompter", "replies": [{"text": "a", "role": "assistant", "replies": []}]}},
    {
        "messages": [
            {"id": 1, "from": "Ann", "text": ["see ", {"type": "link", "text": "it"}]},
            {"id": 2, "from": "Bob", "text": "y"},
        ]
    },
    {"intents": [{"patterns": ["a", "b"], "responses": ["c"]}]},
    {
        "prompt": "q",
        "chosen": [{"role": "assistant", "content": "g"}],
        "rejected": [{"role": "assistant", "content": "b"}],
    },
    {"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": [{"text": "a"}]}]}]}]},
    {"question": {"0": "q", "1": "r"}, "answer": {"0": "a", "1": "b"}},
    {"text": "User: a\nBot: b"},
    {
        "loss_mask": [0, 1],
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        ],
    },
)


def change(raw: Any, chance: random.Random) -> None:
    """Replace, remove or rename something somewhere."""
    while isinstance(raw, dict | list) and raw:
        key = chance.choice(list(raw) if isinstance(raw, dict) else range(len(raw)))
        if isinstance(raw[key], dict | list) and raw[key] and chance.random() < 0.7:
            raw = raw[key]
            continue
        if chance.random() < 0.3:
            del raw[key]
        elif isinstance(raw, dict) and chance.random() < 0.3:
            raw[chance.choice(NAMES)] = raw[key]
        else:
            raw[key] = value(chance, 2)
        return


def test_deep_and_long_values_end() -> None:
    deep: Any = "x"
    for _ in range(95):
        deep = {"data": [deep]} if isinstance(deep, dict) else {"question": deep}
    check(deep, results(deep))
    chain = [
        {"id": str(n), "parent_id": str(n - 1), "role": ("user", "assistant")[n % 2], "content": "x"}
        for n in range(3000)
    ]
    check(chain, results(chain))
    circle = [{"id": str(n), "parent_id": str((n + 1) % 9), "role": "user", "content": "x"} for n in range(9)]
    check(circle, results(circle))
    star = [
        {"id": str(n), "parent_id": "0", "role": "assistant" if n else "user", "content": str(n)} for n in range(3000)
    ]
    check(star, results(star))
    many = {"text": "User: a\nBot: b\n" * 20_000}
    check(many, results(many))


def test_is_message_takes_any_value() -> None:
    chance = random.Random(1)
    assert all(isinstance(is_message(value(chance, 3)), bool) for _ in range(2000))
