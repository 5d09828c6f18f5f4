from typing import Any

import pytest

from theta.conversation.messages import Message
from theta.conversation.template import render_prompt
from theta.errors import GenerationError
from theta.generate.prompt import fit, to_messages
from theta.tokens.vocabulary import Vocabulary


def conversation(*contents: str, system: str | None = None) -> list[Message]:
    turns = [Message("assistant" if place % 2 else "user", content) for place, content in enumerate(contents)]
    return [Message("system", system), *turns] if system else turns


def whole(messages: list[Message], vocabulary: Vocabulary) -> list[int]:
    return vocabulary.encode(list(render_prompt(messages)))[0]


def test_messages_may_be_mappings_or_one_question() -> None:
    expected = [Message("user", "What is DNS?")]
    assert to_messages("What is DNS?") == expected
    assert to_messages([{"role": "user", "content": "What is DNS?"}]) == expected
    assert to_messages(expected) == expected


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "Message 1 (user) has content ''"),
        ("a\ud800", "Message 1 (user) is not valid Unicode text"),
        ([], "does not end with a message from the user"),
        ([{"role": "system", "content": "s"}], "does not end with a message from the user"),
        ([{"role": "bot", "content": "hi"}], "Message 1 has role 'bot', which is not one of system, user, assistant"),
        ([{"role": "user"}], "Message 1 is {'role': 'user'}, expected"),
        (["hello"], "Message 1 is 'hello', expected"),
        ([{"role": "user", "content": 3}], "Message 1 (user) has content 3"),
        ([{"role": "assistant", "content": "hi"}], "Message 1 has role 'assistant', expected 'user'"),
        (conversation("q", "a"), "does not end with a message from the user"),
        ([*conversation("q"), *conversation("q")], "Message 2 has role 'user', expected 'assistant'"),
        ([*conversation("q", system="s"), *conversation("q")], "Message 3 has role 'user', expected 'assistant'"),
        ([*conversation("q", "a"), Message("system", "s")], "Message 3 has role 'system', expected 'user'"),
    ],
)
def test_a_bad_conversation_names_the_message(prompt: Any, words: str) -> None:
    with pytest.raises(GenerationError) as caught:
        to_messages(prompt)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_conversation_that_fits_is_rendered_completely(vocabulary: Vocabulary) -> None:
    messages = conversation("What is DNS?", "Names to addresses.", "Literally <|end|>?", system="Be brief.")
    assert fit(messages, vocabulary, positions=128, max_length=256).ids == whole(messages, vocabulary)


def test_the_oldest_exchanges_are_dropped_and_the_system_message_stays(vocabulary: Vocabulary) -> None:
    messages = conversation("one " * 20, "two " * 20, "three " * 20, "four " * 20, "five", system="Be brief.")
    kept = [messages[0], *messages[3:]]
    size = len(whole(kept, vocabulary))
    assert fit(messages, vocabulary, positions=size + 10, max_length=10) == (whole(kept, vocabulary), 2)
    assert fit(messages, vocabulary, positions=size + 9, max_length=10).ids == whole(
        [messages[0], messages[-1]], vocabulary
    )


def test_the_reserve_is_a_quarter_of_the_positions_at_most(vocabulary: Vocabulary) -> None:
    messages = conversation("one " * 20, "two " * 20, "three")
    size = len(whole(messages, vocabulary))
    positions = -(-size * 4 // 3)  # three quarters of it hold the prompt
    assert fit(messages, vocabulary, positions=positions, max_length=1024).ids == whole(messages, vocabulary)


def test_a_last_question_beyond_the_reserve_is_still_answered(vocabulary: Vocabulary) -> None:
    messages = conversation("old", "reply", "one " * 30, system="Be brief.")
    kept = [messages[0], messages[-1]]
    size = len(whole(kept, vocabulary))
    assert fit(messages, vocabulary, positions=size + 1, max_length=256).ids == whole(kept, vocabulary)


def test_no_room_for_a_single_token_names_the_tokens_the_limit_and_the_remedy(vocabulary: Vocabulary) -> None:
    messages = conversation("one " * 30)
    size = len(whole(messages, vocabulary))
    with pytest.raises(GenerationError) as caught:
        fit(messages, vocabulary, positions=size - 2, max_length=256)
    assert f"has {size} tokens" in str(caught.value)
    assert f"reads {size - 2}" in str(caught.value)
    assert "Shorten the prompt by 3 tokens" in str(caught.value)


def test_no_more_history_is_kept_than_the_model_learned_to_read(vocabulary: Vocabulary) -> None:
    messages = conversation("one " * 20, "two " * 20, "three " * 20, "four " * 20, "five", system="Be brief.")
    kept = [messages[0], *messages[3:]]
    learned = -(-len(whole(kept, vocabulary)) * 4 // 3)
    found = fit(messages, vocabulary, positions=1024, max_length=256, conversation_tokens=learned)
    assert found == (whole(kept, vocabulary), 2)
    assert fit(messages, vocabulary, positions=1024, max_length=256).left_out == 0


def test_a_question_longer_than_what_was_learned_is_still_answered(vocabulary: Vocabulary) -> None:
    messages = conversation("one " * 200)
    found = fit(messages, vocabulary, positions=1024, max_length=256, conversation_tokens=64)
    assert found == (whole(messages, vocabulary), 0)
