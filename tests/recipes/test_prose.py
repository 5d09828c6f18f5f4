"""The selection of paragraphs, and the texts and answers that they become."""

import pytest

from recipes.starter import prose
from recipes.starter.blocks import Block
from recipes.starter.duplicates import Seen
from recipes.starter.wording import answer, base_verb, lowered, sentence, with_article

GOOD = "A join reads the rows of two tables and returns those that belong together."
VERBS = frozenset(("create", "use", "run", "test", "set", "be"))


def test_prose_is_kept() -> None:
    assert prose.is_prose(GOOD)
    assert prose.paragraphs([Block("heading", GOOD), Block("paragraph", GOOD), Block("gap", "")]) == [GOOD]


@pytest.mark.parametrize(
    "paragraph",
    [
        "Previous Up Next Home Contents Index About Help Search Login",  # a menu: no end
        "See this.",  # too short
        "and so it goes on with what the paragraph before it did not finish.",  # a fragment
        "0x00 0x01 0x02 0x03 0x04 is 0x05 0x06 0x07 0x08 the 0x09 0x0a.",  # few letters
        "Zeta Eta Theta Iota Kappa Lambda Mu Nu Xi Omicron Pi.",  # no small words
        "You can read more about all of this at https://example.org if you want.",  # a link
        "Changed in version 3.6: It is now possible to give a name to all of the parameters.",  # history
    ],
)
def test_other_paragraphs_are_not(paragraph: str) -> None:
    assert not prose.is_prose(paragraph)


def test_texts_consist_of_complete_paragraphs_up_to_a_length() -> None:
    page = ["a" * 900, "b" * 900, "c" * 900, "d" * 3000]
    assert [text.replace("\n", " ")[:1] + str(len(text)) for text in prose.texts(page)] == ["a1801", "c900", "d3000"]
    assert list(prose.texts([])) == []


def test_text_is_divided_into_sentences() -> None:
    text = 'Use e.g. Debian, by Dr. Who. It is "free." (So it is.) `ls` lists version 2.0 files!'
    assert prose.sentences(text) == [
        "Use e.g. Debian, by Dr. Who.",
        'It is "free."',
        "(So it is.)",
        "`ls` lists version 2.0 files!",
    ]


def test_duplicates_are_exact_or_near() -> None:
    seen = Seen()
    words = [f"word{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(200)]
    assert seen.is_new(" ".join(words))
    assert not seen.is_new("  ".join(words).upper() + " 42.")  # the same letters
    assert not seen.is_new(" ".join(["another", "beginning", *words[:190]]))  # mostly the same words
    assert seen.is_new(" ".join(words[::-1]))


def test_an_answer_consists_of_complete_and_independent_sentences() -> None:
    assert answer([GOOD]) == GOOD
    assert answer(["Too short."]) == ""
    assert answer([f"{GOOD} See the next section for more."]) == GOOD
    assert answer([f"{GOOD[:-1]} (see Section 5.1)."]) == GOOD
    assert answer([GOOD, "And this is how the second paragraph goes on."]).count("\n\n") == 1
    assert answer([" ".join([GOOD] * 20)]) == " ".join([GOOD] * 8)
    assert answer([f"{GOOD} It is done so:"]) == GOOD


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("hour", "an hour"), ("unit", "a unit"), ("umbrella", "an umbrella"), ("eulogy", "a eulogy"),
        ("stock", "a stock"), ("SQL query", "an SQL query"), ("URL", "a URL"), ("X-ray", "an X-ray"),
        ("one-way street", "a one-way street"),
    ],
)  # fmt: skip
def test_articles(noun: str, expected: str) -> None:
    assert with_article(noun) == expected


@pytest.mark.parametrize(
    ("gerund", "verb"),
    [
        ("Creating", "create"),
        ("running", "run"),
        ("Testing", "test"),
        ("setting", "set"),
        ("String", None),
        ("Up", None),
    ],
)
def test_verbs_of_gerunds(gerund: str, verb: str | None) -> None:
    assert base_verb(gerund, VERBS) == verb


def test_capitals() -> None:
    assert lowered("The thing") == "the thing"
    assert lowered("DNS names") == "DNS names"
    assert lowered("A thing") == "a thing"
    assert sentence("names become addresses;") == "Names become addresses."
