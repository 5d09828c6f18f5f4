"""Encoding in batches gives what the plain rules give, document by document and token by token."""

import json
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from theta.conversation.messages import Conversation, Message
from theta.conversation.template import render
from theta.tokens.encode import ConversationEncoder
from theta.tokens.vocabulary import Vocabulary

SHIPPED = Path(__file__).parents[2] / "Datasets" / "conversations"

Plain = tuple[list[int], list[bool]]


def plain_documents(conversation: Conversation, vocabulary: Vocabulary, max_length: int) -> Iterator[Plain]:
    """The rules of `theta.tokens.encode`, one conversation at a time and without arrays."""
    encoded = [vocabulary.encode(list(render([message]))) for message in conversation.messages]
    if conversation.is_text:
        yield from plain_pieces(encoded[0][0], vocabulary.break_ids, max_length)
        return
    has_system = conversation.messages[0].role == "system"
    system = encoded[0] if has_system else ([], [])
    rest = encoded[has_system:]
    part = system
    for question, reply in zip(rest[::2], rest[1::2], strict=True):
        exchange = question[0] + reply[0], question[1] + reply[1]
        if len(part[0]) + len(exchange[0]) > max_length and part != system:
            if any(part[1]):
                yield part
            part = system
        room = max_length - len(part[0])
        if len(exchange[0]) > room:
            exchange = exchange[0][: max(room, 0)], exchange[1][: max(room, 0)]
            if not any(exchange[1]) or not all(exchange[1][len(question[0]) + 1 :]):
                continue
        part = part[0] + exchange[0], part[1] + exchange[1]
    if any(part[1]):
        yield part


def plain_pieces(ids: list[int], break_ids: frozenset[int], max_length: int) -> Iterator[Plain]:
    while ids:
        length = len(ids)
        if length > max_length:
            length = -(-len(ids) // -(-len(ids) // max_length))
            lengths = range(length - length // 4, min(length + length // 4, max_length) + 1)
            breaks = [each for each in lengths if ids[each - 1] in break_ids]
            length = min(breaks, key=lambda each: abs(each - length), default=length)
        yield ids[:length], [False] + [True] * (length - 1)
        ids = ids[length:]


def assert_equal(conversations: list[Conversation], vocabulary: Vocabulary, max_length: int) -> None:
    found = ConversationEncoder(vocabulary).encode(conversations, max_length).documents
    expected = [
        (document, conversation)
        for conversation in conversations
        for document in plain_documents(conversation, vocabulary, max_length)
    ]
    assert len(found) == len(expected)
    for document, ((ids, learned), conversation) in zip(found, expected, strict=True):
        assert (document.ids, document.learned) == (ids, learned)
        assert (document.domain, document.source) == (conversation.domain, conversation.source)
        learned_ids = [i for i, is_learned in zip(ids, learned, strict=True) if is_learned]
        text = vocabulary.decode(learned_ids)
        if "\ufffd" not in text:  # a character that was cut in two has fewer bytes than its replacement
            assert document.learned_bytes == len(text.encode())


def shipped() -> list[Conversation]:
    rows = [row for file in sorted(SHIPPED.glob("*.json")) for row in json.loads(file.read_text(encoding="utf-8"))]
    pairs = [(row["question"], row["answer"]) for row in rows if {"question", "answer"} <= set(row)]
    assert len(pairs) > 100
    return [
        Conversation((Message("user", question), Message("assistant", answer)), "shipped", f"#{number}")
        for number, (question, answer) in enumerate(pairs, start=1)
    ]


@pytest.mark.parametrize("max_length", [40, 512])
def test_the_shipped_conversations(vocabulary: Vocabulary, max_length: int) -> None:
    assert_equal(shipped(), vocabulary, max_length)


@pytest.mark.parametrize("seed", range(4))
def test_random_conversations(vocabulary: Vocabulary, seed: int) -> None:
    rng = random.Random(seed)
    words = ["so", "Zeit", "你好", "👩‍💻", "\n", "3.5", "end.", "<|end|>", "why?", "naïve", "internationalization"]

    def text() -> str:
        return " ".join(rng.choices(words, k=rng.choice([0, 1, 3, 10, 40])))

    def chat() -> tuple[Message, ...]:
        system = [Message("system", text())] if rng.random() < 0.4 else []
        exchanges = (
            (Message("user", text()), Message("assistant", text(), learned=rng.random() < 0.8))
            for _ in range(rng.randrange(1, 6))
        )
        return (*system, *(message for exchange in exchanges for message in exchange))

    conversations = [
        Conversation((Message("text", text() * 5),) if rng.random() < 0.2 else chat(), f"d{number % 3}", f"x#{number}")
        for number in range(150)
    ]
    for max_length in (16, 48, 200):
        assert_equal(conversations, vocabulary, max_length)
