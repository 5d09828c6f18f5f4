"""Rewordings keep the meaning, are the same everywhere, and are for the languages that they are made for."""

import json
import re
from pathlib import Path

import pytest

from theta.corpus.english import NEGATIONS, is_english
from theta.corpus.rewording import LONGEST_CHARACTERS, rewordings

ROOT = Path(__file__).parents[2]
CODE = re.compile(r"`[^`]+`")
NUMBER = re.compile(r"\d+")
SHIPPED = sorted((ROOT / "Datasets/conversations").glob("*.json*"))


def shipped_questions() -> list[tuple[str, list[str], str]]:
    """First question, wordings and reply of each shipped conversation."""
    found = []
    for path in SHIPPED:
        text = path.read_text()
        for item in json.loads(text) if path.suffix == ".json" else map(json.loads, text.splitlines()):
            messages = item.get("messages") or [
                {"role": "user", "content": item["question"], "wordings": item["wordings"]},
                {"role": "assistant", "content": item["answer"]},
            ]
            asked = next(message for message in messages if message["role"] == "user")
            found.append((asked["content"], asked["wordings"], messages[-1]["content"]))
    return found


def negations(text: str) -> int:
    words = re.findall(r"[a-z']+", text.lower().replace("can not", "cannot"))
    return sum(word in NEGATIONS or word.endswith("n't") or word in ("dont", "cant") for word in words)


def test_the_meaning_stays_in_all_rewordings_of_the_shipped_questions() -> None:
    made = 0
    for question, _, _ in shipped_questions():
        for wording in rewordings(question, [], 24):
            made += 1
            assert CODE.findall(wording) == CODE.findall(question), wording
            assert NUMBER.findall(wording) == NUMBER.findall(question), wording
            assert negations(wording) == negations(question), (question, wording)
    assert made > 10_000


def test_names_and_code_are_never_misspelt() -> None:
    question = "Why does Kubernetes restart my_pod when `kubectl get pods` shows OOMKilled?"
    for wording in rewordings(question, [], 100):
        assert {"my_pod", "`kubectl", "pods`"} <= set(wording.split())
        assert "kubernetes" in wording.lower()
        assert "oomkilled" in wording.lower()


def test_a_form_of_question_is_put_into_others() -> None:
    made = " | ".join(rewordings("What is gradient descent?", [], 100)).lower()
    for form in ("explain gradient descent", "what exactly is gradient descent", "tell me about gradient descent"):
        assert form in made
    made = " | ".join(rewordings("How do I rename a branch?", [], 100)).lower()
    assert "how to rename a branch" in made
    made = " | ".join(rewordings("What's the difference between TCP and UDP?", [], 100)).lower()
    assert "tcp vs udp" in made


@pytest.mark.parametrize("question", ["What is wrong with it?", "What are you?", "What is your name?"])
def test_what_cannot_be_explained_is_not(question: str) -> None:
    assert not any("explain" in wording.lower() for wording in rewordings(question, [], 100))


def test_they_are_distinct_and_always_the_same() -> None:
    question, written = "How do I list files?", ["ls, but how", "show me the files here"]
    made = rewordings(question, written, 40)
    assert len(set(made)) == len(made) == 40
    assert question not in made
    assert not set(written) & set(made)
    assert made == rewordings(question, written, 40)
    assert made[:16] == rewordings(question, written, 16)
    assert made[:2] == FIRST


FIRST = ["Show me the files here?", "How can i list files?"]
"""The same on every machine."""


@pytest.mark.parametrize("question", ["x" * (LONGEST_CHARACTERS + 1), "What does this do?\nprint(1)", ""])
def test_long_questions_and_those_of_several_lines_have_none(question: str) -> None:
    assert rewordings(question, [], 10) == []


def test_other_languages_get_case_punctuation_and_typos_alone() -> None:
    for wording in rewordings("Warum ist der Himmel blau?", [], 20, english=False):
        assert len(wording.split()) == 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is DNS? It turns names into addresses and it is the directory that you use.", True),
        ("Was ist DNS? Es macht aus Namen Adressen, in einem Verzeichnis.", False),
        ("¿Qué es DNS? Es un directorio de nombres.", False),
        ("Wat is DNS? Het is een lijst van namen in het net.", False),
        ("Jak działa to? To jest proste i dobre, a my to lubimy.", False),
        ("Hvad er det for en by? Den har ikke noget at have i.", False),
        ("Vad finns i min låda? Det är i den, som du har.", False),
        ("Come funziona e cosa fa? I file sono qui, a me piace.", False),
        ("O que são as letras? As letras são de a ate z.", False),
        ("Qu'est-ce que le DNS ? C'est un annuaire de noms.", False),
        ("", False),
    ],
)
def test_english_is_known_by_its_commonest_words(text: str, expected: bool) -> None:
    assert is_english(text) == expected


def test_the_shipped_questions_are_english_and_have_wordings() -> None:
    questions = shipped_questions()
    assert sum(is_english(f"{question} {reply}") for question, _, reply in questions) > 0.99 * len(questions)
    for question, wordings, _ in questions:
        assert len(wordings) >= 4
        assert len({question, *wordings}) == 1 + len(wordings)


def test_no_question_of_the_measurement_is_in_the_data() -> None:
    """Evaluation questions in new words (benchmarks/answers) are asked nowhere in the data."""

    def normal(text: str) -> str:
        return re.sub(r"[^a-z0-9]", "", text.lower())

    trained = {normal(text) for question, wordings, _ in shipped_questions() for text in (question, *wordings)}
    rows = [json.loads(row) for row in (ROOT / "benchmarks/answers/new_wordings.jsonl").read_text().splitlines()]
    assert len(rows) >= 120
    assert not trained & {normal(row["asked"]) for row in rows}
    assert {normal(row["question"]) for row in rows} <= trained


QUESTIONS = (
    "How can you help me?", "How do you feel?", "What are you looking for?", "What is Edison known for?",
    "Should I use tabs or spaces?", "Why do you care?",
)  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_of_another_kind_gets_no_other_form(question: str) -> None:
    for wording in rewordings(question, [], 60):
        assert not re.search("explain|steps|way to|good idea|reason|purpose|describe|define", wording.lower())


def test_names_in_capitals_stay_and_code_of_several_words_is_left_alone() -> None:
    made = rewordings("What does IT mean?", [], 60)
    assert all("it" not in wording.split() for wording in made)
    assert all(
        "vitamin a" in wording.lower() for wording in rewordings("What is vitamin A?", [], 60) if "vitamin" in wording
    )
    assert rewordings("Why does `git commit --amend please` fail?", [], 10) == []


def test_no_typo_makes_a_rude_word() -> None:
    for question in ("How do I count my public shifts?", "Is the clock public?", "Which shift counts the clocks?"):
        for wording in rewordings(question, [], 200):
            assert not {"pubic", "shit", "cunt", "cunts", "cock", "shits"} & set(re.findall(r"[a-z]+", wording.lower()))


def test_questions_about_self_harm_are_left_as_they_are() -> None:
    assert rewordings("Should I kill myself?", [], 10) == []
