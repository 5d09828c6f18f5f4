"""Conversations that repeat an earlier one."""

from theta.conversation.messages import Conversation, Message
from theta.corpus.duplicates import Seen


def conversation(source: str, *contents: str) -> Conversation:
    messages = [Message("assistant" if place % 2 else "user", content) for place, content in enumerate(contents)]
    return Conversation(tuple(messages), "x", source)


def test_the_first_is_kept_and_repetitions_name_it() -> None:
    seen = Seen()
    assert seen.earlier(conversation("a#1", "What is DNS?", "Names.")) is None
    assert seen.earlier(conversation("a#2", "what  is\nDNS?", "NAMES. ")) == "a#1"
    assert seen.earlier(conversation("b#9", "What is DNS?", "Names.")) == "a#1"


def test_another_reply_or_another_turn_is_not_a_repetition() -> None:
    seen = Seen()
    assert seen.earlier(conversation("a#1", "What is DNS?", "Names.")) is None
    assert seen.earlier(conversation("a#2", "What is DNS?", "Addresses.")) is None
    assert seen.earlier(conversation("a#3", "What is DNS?", "Names.", "And?", "Addresses.")) is None


def test_the_same_words_of_another_role_are_not_a_repetition() -> None:
    seen = Seen()
    messages = (Message("system", "a"), Message("user", "b"), Message("assistant", "c"))
    assert seen.earlier(Conversation(messages, "x", "a#1")) is None
    assert seen.earlier(conversation("a#2", "a", "b", "c")) is None
