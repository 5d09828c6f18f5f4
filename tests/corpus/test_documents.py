"""Text files: questions with answers are a conversation each, logs and chats are read, and prose stays one text."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.shaping import A2, ONE, Q2, TWO, A, Q, read_text, said
from theta.corpus.items import Rules

PAIRS = [ONE, [Q2, A2]]
SPEAKERS = Rules(speakers={"Ann": "user", "Bob": "assistant"})

SEVERAL: list[tuple[str, list[list[Any]]]] = [
    # Questions with answers.
    (f"Q: {Q}\nA: {A}\n\nQ: {Q2}\nA: {A2}\n", PAIRS),
    (f"Q. {Q}\nA. {A}\nQ. {Q2}\nA. {A2}\n", PAIRS),
    (f"Q1) {Q}\nA1) {A}\n\nQ2) {Q2}\nA2) {A2}\n", PAIRS),
    (f"Frage: {Q}\nAntwort: {A}\n\nFrage: {Q2}\nAntwort: {A2}\n", PAIRS),
    # Dialogues.
    (f"{Q} __eou__ {A} __eou__ {Q2} __eou__ {A2} __eou__\n{Q2} __eou__ {A2} __eou__\n", [TWO, [Q2, A2]]),
    (f"1 your persona: i walk.\n2 your persona: i ski.\n3 {Q}\t{A}\t\tNo.|{A}\n4 {Q2}\t{A2}\n1 {Q2}\t{A2}\n",
     [["S: your persona: i walk.\nyour persona: i ski.", *TWO], [Q2, A2]]),
    # Documents.
    (f"<|startoftext|>User: {Q}\nBot: {A}<|endoftext|>\n<|startoftext|>A page.<|endoftext|>\n", [ONE, ["T: A page."]]),
    ("A page.\n<|endoftext|>\nA leaf.\n", [["T: A page."], ["T: A leaf."]]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SEVERAL)
def test_a_text_file_of_several_conversations(tmp_path: Path, text: str, expected: list[list[Any]]) -> None:
    made = read_text(tmp_path, text, "a.md")
    assert said(made) == expected
    assert made.rejects == []


CHATS: list[tuple[str, list[list[Any]]]] = [
    (f"# Hill\n\n## Prompt:\n{Q}\n\n## Response:\n{A}\n", [ONE]),
    (f"# User\n\n{Q}\n\n# Assistant\n\n{A}\n", [ONE]),
    (f"# Chat\n_Exported today_\n\n---\n\n**User**\n\n{Q}\n\n---\n\n**Cursor**\n\n{A}\n\n---\n", [ONE]),
    (f"User: {Q}\nAssistant: {A}\n\n---\n\nUser: {Q2}\nAssistant: {A2}\n", [TWO]),
    (f"Human 1: {Q}\nHuman 2: {A}\n", [ONE]),
    (f"<|Human|>: {Q}<eoh>\n<|MOSS|>: {A}<eom>\n", [ONE]),
    (f"The conversation between human and AI assistant.\n[|Human|] {Q}\n[|AI|] {A}\n[|Human|] ", [ONE]),
    (f"<｜begin▁of▁sentence｜>Be kind.<｜User｜>{Q}<｜Assistant｜>{A}<｜end▁of▁sentence｜>", [["S: Be kind.", *ONE]]),
]


@pytest.mark.parametrize(("text", "expected"), CHATS)
def test_a_chat_is_read_without_what_its_program_writes(tmp_path: Path, text: str, expected: list[list[Any]]) -> None:
    assert said(read_text(tmp_path, text, "a.txt")) == expected


LOGS = [
    f"31/12/23 10:01 p. m. - Ann: {Q}\n31/12/23 10:02 p. m. - Bob: {A}\n"
    "31/12/23 10:03 p. m. - Bob: <Multimedia omitido>",
    f"31/12/2023 à 10:01 - Ann: {Q}\n31/12/2023 à 10:02 - Bob: {A}\n31/12/2023 à 10:03 - Bob: <Médias omis>",
    f"[31.12.23, 10:01:02] Ann: \u200eMessages are encrypted.\n"
    f"[31.12.23, 10:01:02] Ann: {Q}\n[31.12.23, 10:02:02] Bob: {A}",
    f"31/12/23, 10:01 - Ann: {Q}\n31/12/23, 10:02 - Bob: This message was deleted\n"
    f"31/12/23, 10:03 - Bob: {A} <This message was edited>\n31/12/23, 10:04 - Ann: Missed voice call",
    f"[10:00] <Ann> {Q}\n[10:01] <Bob> {A}",
    f"--- Log opened Mon Jan 01 2024\n10:00 < Ann> {Q}\n10:01 <@Bob> {A}",
    f"{'=' * 60}\nGuild: G\nChannel: c\n{'=' * 60}\n\n"
    f"[01-Jan-24 10:00 AM] Ann\n{Q}\n\n[01-Jan-24 10:01 AM] Bob\n{A}\n\n"
    f"{'=' * 60}\nExported 2 message(s)\n{'=' * 60}\n",
    f"[Ann] [오전 10:00] {Q}\n[Bob] [오전 10:01] {A}",
]


@pytest.mark.parametrize("text", LOGS)
def test_a_log_is_a_chat_if_its_speakers_are_known(tmp_path: Path, text: str) -> None:
    assert said(read_text(tmp_path, text, "a.txt", SPEAKERS)) == [ONE]
    made = read_text(tmp_path, text, "a.txt")
    assert made.kept == []
    assert [(each.reason, "Ann" in each.detail) for each in made.rejects] == [("unknown_speakers", True)]


def test_a_link_in_a_log_is_what_was_said(tmp_path: Path) -> None:
    text = f"31/12/23, 10:01 - Ann: {Q}\n31/12/23, 10:02 - Bob: <https://example.org/hill>"
    assert said(read_text(tmp_path, text, "a.txt", SPEAKERS)) == [[Q, "<https://example.org/hill>"]]


@pytest.mark.parametrize(
    "text",
    [
        f"# A walk\n\nWe went up.\n\n## {Q}\n\n{A}\n\n## The way back\n\nIt rained.",
        f"# A walk\n\n{'We went up, and up. ' * 20}\n\n## {Q}\n\n{A}\n\n## {Q2}\n\n{A2}",
        f"# FAQ\n\n## Way\n\nRead this first.\n\n### {Q}\n\n{A}\n\n## Hill\n\nAnd this.\n\n### {Q2}\n\n{A2}",
        f"## {Q}\n\n## {Q2}",
        f"1. {Q}\n2. {Q2}",
        "int main()\n{\n\treturn 0;\n}",
        "Ann\t12\nBob\t13",
        "Q. Which is far?\nA. the hill\nB. the sea",
        "Person 1: Hello.",
        "User 1: Hello.\nThe user went on.",
        f"A text.\n{Q}\t{A}",
        f"# FAQ\n\n## {Q}\n\n{A}\n\n## {Q2}\n\n{A2}\n",
        "User\tIs it far?\nAssistant\tA mile.\nUser\tAnd back?\nAssistant\tTwo.",
        "1 Introduction\t1\n2 Related work\t4\n1 Ann\tParis\tTeacher",
        "A mark such as <|endoftext|> ends a text.\nMore of <|startoftext|> later.",
        "2024-01-01 10:00:00\tINFO\tThe service\n2024-01-01 10:00:01\tERROR\tstops",
    ],
)
def test_prose_stays_one_text(tmp_path: Path, text: str) -> None:
    assert said(read_text(tmp_path, text, "a.md")) == [[f"T: {text.strip()}"]]


@pytest.mark.parametrize(
    "text",
    [
        "Q: Take it?\nA: Yes, vitamin A. It helps.\nQ: Why?\nA: So.\n",
        "User: Is it?\nBot: See\n\n---\n\nmore\n",
    ],
)
def test_an_answer_keeps_what_looks_like_a_mark(tmp_path: Path, text: str) -> None:
    assert said(read_text(tmp_path, text, "a.md"))[0][1] in ("Yes, vitamin A. It helps.", "See\n\n---\n\nmore")


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "## a?" + " " * LONG + "x",
        "# x\n" * (LONG // 10),
        "User: a\nBot: b" + "\n---" * LONG + "x",
        "31/12/23, 10:01 - Ann: a" + " " * LONG + "b\n31/12/23, 10:02 - Bob: x >",
        "=" * LONG + "\nGuild: " + "=" * LONG,
        "**a?**\nx\n" * (LONG // 10),
        "Person 1: a\nPerson 2: b\n" * (LONG // 10),
    ],
    ids=range(7),
)
def test_long_texts_of_one_thing_do_not_hang(tmp_path: Path, text: str) -> None:
    made = read_text(tmp_path, text, "a.txt", SPEAKERS)
    assert made.kept or made.rejects


NESTED = [
    f"User: {Q}\nAssistant: Ask yourself:\n\n1. What is your goal?\n   It shows ambition.\n2. Why us?\n   Fit.\n\n"
    f"User: {Q2}\nAssistant: {A2}\n",
    f"<|user|>\n{Q}<|endoftext|>\n<|assistant|>\n{A}<|endoftext|>\n<|user|>\n{Q2}<|endoftext|>\n<|assistant|>\n{A2}",
    f"31/12/23, 10:01 - Ann: {Q}\n31/12/23, 10:02 - Bob: <no comment>\n31/12/23, 10:03 - Bob: {A}",
]


@pytest.mark.parametrize("text", NESTED)
def test_a_chat_is_not_torn_by_what_is_said_in_it(tmp_path: Path, text: str) -> None:
    made = said(read_text(tmp_path, text, "a.txt", SPEAKERS))
    assert len(made) == 1
    assert made[0][0] == Q


def test_lines_of_fields_are_refused(tmp_path: Path) -> None:
    made = read_text(tmp_path, "L1 +++$+++ u0 +++$+++ m0 +++$+++ ANN +++$+++ They do not!\n", "a.txt")
    assert made.kept == []
    assert "+++$+++" in made.rejects[0].detail


def test_what_is_left_out_is_noted(tmp_path: Path) -> None:
    log = f"31/12/23, 10:01 - Ann: {Q}\n31/12/23, 10:02 - Bob: {A}\n31/12/23, 10:03 - Carl: Me too."
    assert read_text(tmp_path, log, "a.txt", SPEAKERS).noted("mended") == {"messages of others left out": 1}
    made = read_text(tmp_path, f"# Hill\n\n## User\n{Q}\n## Assistant\n{A}\n", "a.txt")
    assert made.noted("mended") == {"title left out": 1}


def test_within_json_a_text_with_questions_is_one_chat(tmp_path: Path) -> None:
    assert said(read_text(tmp_path, '{"text": "Q: Is it?\\nA: Yes.\\nQ: Why?\\nA: So."}')) == [
        ["Is it?", "Yes.", "Why?", "So."]
    ]


@pytest.mark.parametrize(
    "text", [f"question,answer\n{Q},{A}\n", f"Prompt;Response\n{Q};{A}\n", f"Input|Output\n{Q}|{A}\n"]
)
def test_a_table_may_be_named_txt(tmp_path: Path, text: str) -> None:
    assert said(read_text(tmp_path, text, "a.txt")) == [ONE]
