"""Samples: every document once an epoch, its questions in the data's wordings, some behind others in a chat."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.tiny import conversation, save_tokens
from theta.conversation.messages import Conversation, Message
from theta.tokens.store import IGNORED, Store
from theta.tokens.vocabulary import Vocabulary
from theta.train.chats import SHOWN_AGAIN, chats_of, parts_shown_again
from theta.train.samples import Samples, conversation_tokens

WORDINGS = ("dns?", "explain dns please", "what does DNS mean")
REPLY = "DNS turns names into addresses."


def asked(question: str, wordings: tuple[str, ...] = (), system: str = "") -> Conversation:
    messages = (Message("user", question, wordings=wordings), Message("assistant", REPLY))
    opening = (Message("system", system),) if system else ()
    return Conversation((*opening, *messages), "linux", "x#1")


CONVERSATIONS = (
    asked("What is DNS?", WORDINGS),
    asked("Why?", ("how come?",), system="Be short."),
    asked("When?"),
    conversation("git", "What is Git?", "A tool."),
    Conversation((Message("text", "A plain text of some words."),), "texts", "x#5"),
)
TURNS = (
    Message("user", "First?", wordings=("first, please",)),
    Message("assistant", "One."),
    Message("user", "Second?", wordings=("second, please", "and then?")),
    Message("assistant", "Two."),
)


@pytest.fixture
def store(tmp_path: Path, vocabulary: Vocabulary) -> Store:
    chat = Conversation(TURNS, "linux", "x#6")
    return save_tokens(tmp_path / "train.arrow", (*CONVERSATIONS, chat), vocabulary)


def texts(samples: Samples, vocabulary: Vocabulary, epoch: int) -> list[str]:
    return [shown(samples, vocabulary, index) for index in samples.epochs[epoch]]


def shown(samples: Samples, vocabulary: Vocabulary, index: int) -> str:
    return str(vocabulary.tokenizer.decode(samples[index][0].tolist(), skip_special_tokens=False))


def with_chats(store: Store, vocabulary: Vocabulary, seed: int) -> Samples:
    return Samples(
        store,
        epochs=4,
        seed=seed,
        wording_share=0.7,
        follow_up_share=0.5,
        most_tokens=64,
        chat_ids=vocabulary.chat_ids,
    )


def check(samples: Samples) -> None:
    """Lengths and counts are those of what is read, and labels are ids or IGNORED."""
    for index in range(len(samples)):
        ids, labels = samples[index]
        assert len(ids) == len(labels) == samples.lengths[index]
        assert int((labels[1:] != IGNORED).sum()) == samples.learned_counts[index]
        assert ((labels == ids) | (labels == IGNORED)).all()


def test_without_wordings_and_chats_an_epoch_is_the_documents(store: Store) -> None:
    samples = Samples(store, epochs=3, seed=0)
    check(samples)
    for epoch in samples.epochs:
        found = sorted(tuple(samples[index][0]) for index in epoch)
        assert found == sorted(tuple(store[index][0]) for index in range(len(store)))


def test_all_wordings_are_asked_before_any_recurs(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(store, epochs=6, seed=0, wording_share=1.0)
    check(samples)
    found = []
    for epoch in range(6):
        (one,) = [
            text
            for text in texts(samples, vocabulary, epoch)
            if text.endswith(f"{REPLY}<|end|>") and "dns" in text.lower()[:30]
        ]
        found.append(one.removeprefix("<|user|>").partition("<|end|>")[0])
    assert set(found[:3]) == set(found[3:]) == set(WORDINGS)


def test_each_question_of_a_chat_has_its_own_wordings(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(store, epochs=40, seed=0, wording_share=0.5)
    chats = {text for epoch in range(40) for text in texts(samples, vocabulary, epoch) if "Two." in text}
    first, second = {"First?", "first, please"}, {"Second?", "second, please", "and then?"}
    assert chats == {
        f"<|user|>{one}<|end|><|assistant|>One.<|end|><|user|>{two}<|end|><|assistant|>Two.<|end|>"
        for one in first
        for two in second
    }


def test_the_share_of_other_wordings_is_that_of_the_setting(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(store, epochs=400, seed=3, wording_share=0.25)
    as_written = sum("What is DNS?" in text for epoch in range(400) for text in texts(samples, vocabulary, epoch))
    assert 270 < as_written < 330


def test_openings_end_after_the_first_words_of_the_reply(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(store, epochs=2, seed=0, wording_share=1.0, wordings_per_opening=1, opening_tokens=3)
    check(samples)
    for epoch in range(2):
        found = texts(samples, vocabulary, epoch)
        # The documents, three openings of the one with three wordings, and one of each with one.
        assert len(found) == 6 + 3 + 1 + 1
        assert sum(text.endswith("<|assistant|>DNS turns") for text in found) == 4
        assert sum(text.endswith("<|assistant|>One.<|end|>") for text in found) == 1  # a whole reply of three tokens


def test_chats_join_what_can_be_joined(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(store, epochs=60, seed=1, follow_up_share=0.8, most_tokens=64, chat_ids=vocabulary.chat_ids)
    check(samples)
    assert samples.lengths.max() <= max(64, store.lengths.max())
    joined = 0
    for epoch in range(60):
        found = texts(samples, vocabulary, epoch)
        assert sum(text.count("Why?") for text in found) == sum(text.count("When?") for text in found) == 1
        for text in found:
            assert "<|system|>" not in text[1:]  # a system message only opens a chat
            assert text.count("plain text") == 0 or text.startswith("A plain text")
            joined += text.count("<|user|>") > 2
    assert joined > 30


def test_nineteen_of_twenty_learned_tokens_stand_within_the_tokens_of_a_conversation(
    store: Store, vocabulary: Vocabulary
) -> None:
    for share in (0.0, 1.0):
        samples = Samples(store, epochs=20, seed=1, follow_up_share=share, most_tokens=90, chat_ids=vocabulary.chat_ids)
        found = conversation_tokens(samples)
        learned = [samples[index][1] != IGNORED for index in range(samples.split_size)]
        learned = [one for one in learned if not one[1:].all()]  # without the plain text
        within = sum(int(one[:found].sum()) for one in learned) / sum(int(one.sum()) for one in learned)
        shorter = sum(int(one[: found - 1].sum()) for one in learned) / sum(int(one.sum()) for one in learned)
        assert shorter < 0.95 <= within
        assert found < samples.lengths.max()


def test_long_chats_count_where_there_are_many_though_most_tokens_stand_nearer(
    tmp_path: Path, vocabulary: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = Conversation(tuple(each for number in range(12) for each in TURNS), "chats", "x#1")
    rows = (*(conversation("git", f"What is {number}?", "A tool.") for number in range(400)), chat)
    plain = (Conversation((Message("text", "A plain text of some words. " * 20),), "texts", "x#2"),) * 50
    samples = [
        Samples(save_tokens(tmp_path / name, kept, vocabulary), epochs=1, seed=0)
        for name, kept in (("chats", rows), ("both", (*rows, *plain)), ("texts", plain))
    ]
    assert conversation_tokens(samples[0]) == conversation_tokens(samples[1]) < 20
    assert conversation_tokens(samples[2]) > 0.8 * samples[2].lengths.max()
    monkeypatch.setattr("theta.train.samples.FURTHER_TOKENS", 10)
    assert 0.8 * samples[0].lengths.max() < conversation_tokens(samples[0]) < samples[0].lengths.max()


def test_the_rehearsal_follows_as_it_is(tmp_path: Path, store: Store, vocabulary: Vocabulary) -> None:
    rehearsal = save_tokens(tmp_path / "rehearsal.arrow", CONVERSATIONS[:2], vocabulary)
    both = Store(tmp_path / "train.arrow", tmp_path / "rehearsal.arrow")
    samples = Samples(
        both, epochs=2, seed=0, wording_share=1.0, follow_up_share=0.5, most_tokens=64, chat_ids=vocabulary.chat_ids
    )
    check(samples)
    assert len(samples) - samples.split_size == 2
    for place in range(2):
        assert np.array_equal(samples[samples.split_size + place][0], rehearsal[place][0])
    assert samples.source(samples.split_size) == rehearsal.sources[0]


def test_the_same_seed_gives_the_same_samples(store: Store, vocabulary: Vocabulary) -> None:
    def made(seed: int) -> list[str]:
        samples = with_chats(store, vocabulary, seed)
        return [shown(samples, vocabulary, index) for index in range(len(samples))]

    assert made(1) == made(1) != made(2)


def test_a_later_epoch_does_not_depend_on_the_number_of_epochs(store: Store, vocabulary: Vocabulary) -> None:
    short, long = (Samples(store, epochs=epochs, seed=0, wording_share=0.7) for epochs in (2, 5))
    assert texts(short, vocabulary, 1) == texts(long, vocabulary, 1)


@pytest.mark.parametrize(("count", "wordings_per_opening"), [(3, 0), (3, 2), (6, 3), (7, 7)])
def test_whole_documents_and_openings_each_use_all_wordings(
    tmp_path: Path, vocabulary: Vocabulary, count: int, wordings_per_opening: int
) -> None:
    wordings = tuple(f"way {number} to ask" for number in range(count))
    one = save_tokens(tmp_path / "one.arrow", (asked("What is DNS?", wordings),), vocabulary)
    for share in (1.0, 0.6):
        options: dict[str, Any] = {"wordings_per_opening": wordings_per_opening, "opening_tokens": 3}
        samples = Samples(one, epochs=6 * count, seed=0, wording_share=share, **options)
        whole, cut = list[str](), list[str]()
        for epoch in range(6 * count):
            for text in texts(samples, vocabulary, epoch):
                (whole if text.endswith("<|end|>") else cut).append(text.partition("<|end|>")[0][8:])
        for found in (whole, cut) if wordings_per_opening else (whole,):
            taken = [text for text in found if text != "What is DNS?"]
            assert set(taken) == set(wordings)
            if found is whole:
                assert all(len(set(taken[at : at + count])) == count for at in range(len(taken) - count + 1))


def test_nothing_follows_a_system_message_or_itself(store: Store, vocabulary: Vocabulary) -> None:
    samples = Samples(
        store,
        epochs=80,
        seed=0,
        wordings_per_opening=2,
        follow_up_share=1.0,
        most_tokens=90,
        chat_ids=vocabulary.chat_ids,
    )
    for epoch in range(80):
        for text in texts(samples, vocabulary, epoch):
            assert text.count("<|user|>") == 1 or "<|system|>" not in text
            assert text.count("<|user|>What is DNS?") <= 1


def test_one_long_opening_does_not_keep_others_from_following() -> None:
    lengths = np.array([20] * 10 + [90] + [20] * 9)
    found = chats_of(range(10), range(10, 20), set(range(10, 20)), set(range(10)), {}, lengths, 60, 20)
    assert sum(len(chat) > 1 for chat in found) == 9


def test_once_no_chat_is_left_an_opening_follows_a_part_that_is_shown_again() -> None:
    # Openings of document 0 are even, those of 1 odd; the first two find their own document at the end of their chat.
    again = {4: 1, 5: 0, 6: 1, 7: 1, 8: 1}
    found = chats_of([0, 1], range(2, 10), {*range(2, 10)} - {5}, {0, 1}, again, np.full(10, 20), 60, 2)
    assert found == [[0], [1], [2], [3], [1, 4], [5], [1, 6], [7], [1, 8], [9]]


def test_short_documents_are_shown_again_for_a_share_of_the_openings() -> None:
    lengths, openings = np.arange(3_000), np.arange(1_000, 3_000)
    again = parts_shown_again(openings, np.arange(900), lengths, 600, np.random.default_rng(0))
    assert set(again) <= set(openings.tolist())
    assert 0.9 * SHOWN_AGAIN < len(again) / len(openings) < 1.1 * SHOWN_AGAIN
    assert 250 < max(again.values()) <= 300  # half of a chat
    assert parts_shown_again(openings, np.arange(900), lengths + 301, 600, np.random.default_rng(0)) == {}


@pytest.mark.parametrize(("wordings_per_opening", "follow_up_share"), [(1, 1.0), (1, 0.0), (0, 1.0)])
def test_openings_follow_whole_documents_of_their_epoch(
    store: Store, vocabulary: Vocabulary, wordings_per_opening: int, follow_up_share: float
) -> None:
    options: dict[str, Any] = {"wordings_per_opening": wordings_per_opening, "follow_up_share": follow_up_share}
    samples = Samples(
        store, epochs=60, seed=0, opening_tokens=3, most_tokens=64, chat_ids=vocabulary.chat_ids, **options
    )
    check(samples)
    assert samples.lengths.max() <= max(64, store.lengths.max())
    replies = 0
    for epoch in range(60):
        found = texts(samples, vocabulary, epoch)
        assert not any("<|system|>" in text and text.count("<|user|>") > 1 for text in found)
        replies += sum(text.count(f"{REPLY}<|end|>") for text in found) - 3  # of three documents with this reply
    documents = samples.shown_again * 60 * len(store)
    assert (documents > 0) == (wordings_per_opening > 0 and follow_up_share > 0)
    assert 0 <= replies <= round(documents)
