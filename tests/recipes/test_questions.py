"""Headings, terms, dictionaries, articles and small talk become questions and answers."""

import json

import pytest

from recipes.starter import dictionaries, encyclopaedia, headings, smalltalk
from recipes.starter.blocks import Block, Kind

VERBS = frozenset(("create", "list", "commit", "use"))
ANSWER = "A table is made by one command, which names the table and all of its columns with their types."


def questions(
    text: str, subject: str = "SQLite", kind: Kind = "heading", title: str = "Manual"
) -> list[tuple[str, str]]:
    page = [Block("heading", title), Block("gap", ""), Block(kind, text), Block("paragraph", ANSWER)]
    return [(kind, exchange.question) for kind, exchange in headings.exchanges(page, subject, VERBS)]


@pytest.mark.parametrize(
    ("heading", "question"),
    [
        ("2.1. Creating a New Table", "create a new table in SQLite"),
        ("How to create a Table", "create a table in SQLite"),
        ("Creating SQLite Tables", "create SQLite tables"),
        ("Temporary Tables and Views", "temporary tables and views in SQLite"),
        ("SHARED CACHE MODE", "shared cache mode in SQLite"),
        ("`bisect` - Array bisection", "`bisect`"),
    ],
)
def test_headings_become_questions(heading: str, question: str) -> None:
    [(kind, found)] = questions(heading)
    assert kind == "documentation"
    assert question in found
    assert questions(heading) == questions(heading)


def test_questions_stay_unchanged() -> None:
    assert questions("(1) How do I create a table?") == [("faq", "How do I create a table?")]


@pytest.mark.parametrize(
    "heading",
    ["Introduction", "See Also", "Notes and Examples", "Commit your changes", "Tables: the details", "first steps",
     "The server has moved", "Who should read it"],
)  # fmt: skip
def test_other_headings_become_no_question(heading: str) -> None:
    assert questions(heading) == []


def test_terms_are_functions_settings_or_words_of_a_glossary() -> None:
    assert questions("class sqlite.Row(name)", kind="term")[0][1].startswith("What ")
    assert "`sqlite.Row()`" in questions("class sqlite.Row(name)", kind="term")[0][1]
    assert "`cache_size`" in questions("cache_size (integer)", kind="term")[0][1]
    assert questions("word", kind="term") == []
    assert '"word" ' in questions("word", kind="term", title="Glossary")[0][1]
    assert questions("pub fn push(&mut self)", "Rust", title="Struct std::vec::Vec") == [
        ("documentation", "What does `Vec::push` do in Rust?")
    ]


def test_manual_pages_give_the_purpose_of_a_command() -> None:
    page = [
        Block("heading", "NAME"), Block("paragraph", "git-ls-tree - List the contents of a tree object"),
        Block("heading", "DESCRIPTION"),
        Block("paragraph", "It shows the paths that a tree holds, one of them on each of the lines."),
    ]  # fmt: skip
    [(kind, exchange)] = headings.exchanges(page, "Git", VERBS)
    assert (kind, "`git ls-tree`" in exchange.question) == ("commands", True)
    assert exchange.answer == (
        "`git ls-tree` is used to list the contents of a tree object.\n\n"
        "It shows the paths that a tree holds, one of them on each of the lines."
    )


def test_wordnet() -> None:
    text = """abeyant
    adj 1: inactive but capable of becoming active; "her feelings are
           dormant" [syn: {abeyant}, {dormant}]
abet
    v 1: assist or encourage, usually in some wrongdoing of a friend
genus Abies
    n 1: type genus of firs of the family that is called Pinaceae
abbey
    n 1: a church that belongs to a convent or a monastery and its lands
    2: a convent ruled by an abbess
"""
    answers = dict(dictionaries.wordnet(text))
    assert answers["abeyant"].answer == (
        'Abeyant means inactive but capable of becoming active. For example: "Her feelings are dormant." '
        "It is close in meaning to dormant."
    )
    assert answers["abet"].answer == "To abet is to assist or encourage, usually in some wrongdoing of a friend."
    assert answers["abbey"].answer.startswith("An abbey is a church that belongs to a convent")
    assert "a convent ruled by an abbess" in answers["abbey"].answer
    assert set(answers) == {"abeyant", "abet", "abbey"}
    assert dictionaries.verbs(text) == {"abet"}


def test_foldoc() -> None:
    text = """abstract data type
ADT

   <programming> (ADT) A kind of {data abstraction} where a type's
   internal form is hidden.  It is old.

   (2003-07-03)

child process

   <operating system> A process made by another process, which is
   called its {parent process}.
"""
    answers = {word: exchange.answer for word, exchange in dictionaries.foldoc(text)}
    assert answers == {
        "abstract data type": "Abstract data type is a kind of data abstraction where a type's internal form is "
        "hidden. It is old.",
        "child process": "A child process is a process made by another process, which is called its parent process.",
    }


def test_jargon() -> None:
    text = """wish list
 n.

    [techspeak] A list of desired features that probably never get done by anyone. Compare
    {tick-list features}.
"""
    [(word, exchange)] = dictionaries.jargon(text)
    assert word == "wish list"
    assert exchange.answer == "A wish list is a list of desired features that probably never get done by anyone."


def test_encyclopaedia() -> None:
    opening = (
        "An engraving is a picture that is cut into a plate. " + "It is printed on paper with ink and a press. " * 6
    )
    content = json.dumps({"a": {"title": "Engraving", "topic": "Arts", "extract": opening.strip()}}).encode()
    [article] = encyclopaedia.articles(content)
    two_turns, alone = encyclopaedia.conversations(*article)
    assert "engraving" in two_turns[0].question
    assert two_turns[0].answer.startswith("An engraving is a picture")
    assert len(two_turns) == 2
    assert two_turns[1].answer.startswith("It is printed")
    assert two_turns[0].question != alone[0].question


def test_small_talk() -> None:
    content = b"conversations:\n- - What is a computer\n  - a machine.\n  - An electronic brain\n"
    assert [(e.question, e.answer) for [e] in smalltalk.conversations("computers", content)] == [
        ("What is a computer?", "A machine."),
        ("What is a computer?", "An electronic brain."),
    ]
    turns = b"conversations:\n- - Hello\n  - Hi there.\n  - i am fine\n  - That is good.\n"
    [talk] = smalltalk.conversations("conversations", turns)
    assert [tuple(exchange) for exchange in talk] == [("Hello.", "Hi there."), ("I am fine.", "That is good.")]
