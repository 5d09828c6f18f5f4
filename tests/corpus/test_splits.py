"""The split depends on the first question alone."""

import itertools
from collections.abc import Sequence

import pytest

from theta.conversation.messages import Conversation, Message
from theta.corpus import splits
from theta.errors import DataError


def conversation(question: str, reply: str = "Yes.", source: str = "x.json#1") -> Conversation:
    return Conversation((Message("user", question), Message("assistant", reply)), "x", source)


def questions(count: int, start: int = 0) -> list[Conversation]:
    return [conversation(f"What is thing number {number}?") for number in range(start, start + count)]


def side(conversations: list[Conversation], validation: float = 0.1, test: float = 0.1) -> dict[str, str]:
    divided = splits.divide(conversations, validation, test)
    return {each.opening: name for name in splits.SPLITS for each in divided[name]}


def test_the_fractions_are_about_right() -> None:
    divided = splits.divide(questions(2000), 0.1, 0.2)
    sizes = {name: len(conversations) for name, conversations in divided.items()}
    # Three standard deviations of a fraction of 0.2 in 2,000 draws are 54.
    assert sizes == {
        "train": pytest.approx(1400, abs=62),
        "validation": pytest.approx(200, abs=41),
        "test": pytest.approx(400, abs=54),
    }


def test_adding_conversations_moves_none() -> None:
    before = side(questions(300))
    after = side(questions(500, start=300) + questions(300))
    assert {question: after[question] for question in before} == before


def test_changing_one_fraction_moves_rows_of_that_split_and_train_only() -> None:
    before, after = side(questions(500)), side(questions(500), validation=0.3)
    moves = {(before[question], after[question]) for question in before if before[question] != after[question]}
    assert moves == {("train", "validation")}


@pytest.mark.parametrize(
    "variant",
    ["what is dns", "  What is\nDNS ?!", "“What is DNS?”", "WHAT IS DNS...", "What is ＤＮＳ？", "¿What is DNS?"],
)
def test_one_question_is_in_one_split(variant: str) -> None:
    assert splits.key(variant) == splits.key("What is DNS?")
    asked = [conversation("What is DNS?", "a"), conversation(variant, "b"), *questions(20)]
    for share in (0.05, 0.2, 0.4):
        sides = side(asked, share, share)
        assert sides[variant] == sides["What is DNS?"]


def test_a_question_of_punctuation_alone_keeps_it() -> None:
    assert splits.key("???") == "???"
    assert splits.key("C++") == "c++"


def test_points_are_pinned() -> None:
    # Another hash would move rows of every user.
    assert splits.point("what is dns") == pytest.approx(0.384628, abs=1e-6)
    assert all(0 <= splits.point(str(number)) < 1 for number in range(1000))


@pytest.mark.parametrize("count", [3, 4, 5, 10])
@pytest.mark.parametrize("start", range(0, 100, 10))
def test_no_split_is_empty_even_with_few_questions(count: int, start: int) -> None:
    conversations = questions(count, start)
    divided = splits.divide(conversations, 0.01, 0.01)
    assert all(divided.values())
    assert sum(map(len, divided.values())) == count
    assert divided == splits.divide(conversations, 0.01, 0.01)


def test_the_nearest_train_question_fills_an_empty_split_with_all_its_conversations() -> None:
    conversations = [each for each in questions(5) for _ in range(2)]
    divided = splits.divide(conversations, 1e-9, 1e-9)
    ordered = sorted({splits.key(each.opening) for each in conversations}, key=splits.point)
    keys = {name: [splits.key(each.opening) for each in divided[name]] for name in splits.SPLITS}
    assert keys["validation"] == [ordered[0]] * 2
    assert keys["test"] == [ordered[-1]] * 2
    assert len(keys["train"]) == 6


def sizes_at(points: Sequence[float]) -> tuple[int, int, int]:
    """Count the questions near these points in train, validation and test, with both fractions 0.4."""
    numbers = itertools.count()
    asked = []
    for point in points:
        found = (number for number in numbers if abs(splits.point(splits.key(f"Is it {number}?")) - point) < 0.02)
        asked.append(conversation(f"Is it {next(found)}?"))
    divided = splits.divide(asked, 0.4, 0.4)
    return len(divided["train"]), len(divided["validation"]), len(divided["test"])


def test_every_placing_of_three_questions_leaves_one_in_each_split() -> None:
    for points in itertools.combinations_with_replacement([0.1, 0.5, 0.9], 3):
        assert sizes_at(points) == (1, 1, 1)


@pytest.mark.parametrize(
    ("points", "sizes"),
    [
        ([0.1, 0.1, 0.1, 0.9], (1, 2, 1)),  # train takes from validation, because test has only one
        ([0.1, 0.8, 0.9, 0.9], (1, 1, 2)),  # train takes from test
        ([0.1, 0.5, 0.5, 0.9], (2, 1, 1)),  # nothing moves
        ([0.5, 0.5, 0.5, 0.5], (2, 1, 1)),  # both ends are filled from train
    ],
)
def test_which_question_moves(points: list[float], sizes: tuple[int, int, int]) -> None:
    assert sizes_at(points) == sizes


def test_order_is_kept_within_a_split() -> None:
    conversations = questions(200)
    for chosen in splits.divide(conversations, 0.2, 0.2).values():
        assert chosen == [each for each in conversations if each in chosen]


def test_texts_are_divided_by_their_opening() -> None:
    def text(content: str) -> Conversation:
        return Conversation((Message("text", content),), "x", "x.json#1")

    opening = "The domain name system turns names into addresses. " * 5
    assert text(opening + "a").opening == text(opening + "b").opening == opening[:200]
    texts = [text(f"Chapter {number}. {'It rains. ' * 30}{end}") for number in range(50) for end in "ab"]
    divided = splits.divide([*texts, *questions(50)], 0.2, 0.2)
    openings = [{each.opening for each in divided[name]} for name in splits.SPLITS]
    assert not openings[0] & openings[1] | openings[0] & openings[2] | openings[1] & openings[2]
    assert sum(map(len, divided.values())) == 150


def test_fewer_than_three_questions_are_an_error() -> None:
    conversations = [conversation("What is DNS?"), conversation("what is dns", "No."), conversation("Why?")]
    with pytest.raises(DataError, match="number of distinct first questions is 2; at least 3 are needed"):
        splits.divide(conversations, 0.1, 0.1)
