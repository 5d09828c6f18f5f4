"""Marked replies are conversations that the pipeline reads; a mark can be changed and taken back."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.corpora import read_as
from tests.support.serving import Served
from theta.conversation.messages import Conversation
from theta.errors import GenerationError
from theta.serve.feedback import record

TURNS = [{"role": "user", "content": "é?"}, {"role": "assistant", "content": "Yes."}]


def rows(file: Path) -> list[Any]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_mark_is_written_changed_and_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "Datasets" / "feedback.jsonl"
    record(file, "a", TURNS, True)
    record(file, "b", [{"role": "system", "content": "Be brief."}, *TURNS], False)
    record(file, "a", TURNS, False)
    assert [(row["id"], row["label"], len(row["messages"])) for row in rows(file)] == [("b", False, 3), ("a", False, 2)]
    # The pipeline reads them, and learns none that is marked as bad.
    assert [getattr(read_as(row)[0], "reason", "") for row in rows(file)] == ["marked_bad", "marked_bad"]
    record(file, "c", TURNS, True)
    assert isinstance(read_as(rows(file)[-1])[0], Conversation)
    record(file, "c", TURNS, None)
    record(file, "b", TURNS, None)
    assert [row["id"] for row in rows(file)] == ["a"]


def test_lines_of_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "feedback.jsonl"
    before = b'not json\n{"question": "a", "answer": "b"}\ncaf\xe9\n[1]\n' + b"[" * 100_000
    file.write_bytes(before)
    record(file, "a", TURNS, True)
    assert file.read_bytes().startswith(before + b"\n{")


@pytest.mark.parametrize(
    "messages", [TURNS[:1], TURNS[1:], TURNS * 1 + TURNS[:1], [*TURNS[:1], {**TURNS[1], "content": " "}]]
)
def test_what_is_no_conversation_is_refused(tmp_path: Path, messages: list[dict[str, str]]) -> None:
    with pytest.raises(GenerationError):
        record(tmp_path / "feedback.jsonl", "a", messages, True)
    assert not (tmp_path / "feedback.jsonl").exists()


def test_many_marks_at_once_are_all_kept(served: Served) -> None:
    def mark(number: int) -> int:
        body = {"id": str(number), "messages": TURNS, "label": number % 2 == 0}
        return served.http.post("/feedback", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(mark, range(40))) == {200}
    assert {row["id"] for row in rows(served.service.feedback)} == {str(number) for number in range(40)}
