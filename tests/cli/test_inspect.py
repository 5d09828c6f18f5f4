"""theta inspect: what would be read, dropped and learned, with an exit code for CI."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from theta import files
from theta.cli.main import app

ROOT = Path(__file__).parents[2]
WORDS = ("amber", "basil", "cedar", "delta", "ember", "fjord", "grove", "haven", "islet", "jetty")


def pairs(count: int) -> list[dict[str, str]]:
    return [
        {"question": f"{WORDS[n % 10]} {n * 7919}?", "answer": f"{WORDS[n // 10]} {n * 104729}"} for n in range(count)
    ]


def inspect(path: Path, *options: str) -> Any:
    return CliRunner().invoke(app, ["inspect", str(path), "--params", str(ROOT / "params.yaml"), *options])


def test_it_shows_files_the_first_conversation_and_lengths(tmp_path: Path) -> None:
    files.write_json(tmp_path / "data/a.json", pairs(30))
    done = inspect(tmp_path / "data")
    assert done.exit_code == 0, done.output
    assert "a.json" in done.output
    assert "Kept 30 of 30 conversations" in done.output
    assert "<|user|>amber 0?<|end|>" in done.output
    assert "|<|assistant|>|" in done.output
    assert "None is longer than tokenizer.max_length 512" in done.output


def test_a_file_that_cannot_be_read_gives_exit_code_1(tmp_path: Path) -> None:
    files.write_json(tmp_path / "data/a.json", pairs(30))
    (tmp_path / "data/b.json").write_text('[{"question": "Is')
    done = inspect(tmp_path / "data")
    assert done.exit_code == 1
    assert "b.json" in done.output


def test_rejects_give_exit_code_1_if_strict(tmp_path: Path) -> None:
    files.write_json(tmp_path / "data/a.json", [*pairs(30), {"question": "Why?", "answer": ""}])
    done = inspect(tmp_path / "data")
    assert done.exit_code == 0
    assert "empty_reply" in done.output
    assert inspect(tmp_path / "data", "--strict").exit_code == 1


def test_long_conversations_are_counted(tmp_path: Path) -> None:
    long = {"question": "How?", "answer": " ".join(WORDS * 60)}
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*pairs(10), long])))
    assert "1 of 11 are longer than tokenizer.max_length 512" in inspect(tmp_path / "a.jsonl").output


def test_too_few_conversations_are_shown_before_the_error(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", [*pairs(1), {"question": "Why?", "answer": ""}])
    done = inspect(tmp_path / "a.json")
    assert done.exit_code == 1
    assert "question and reply" in done.output
    assert "empty_reply" in done.output


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    files.write_json(tmp_path / "a.json", pairs(10))
    inspect(tmp_path / "a.json")
    assert list((tmp_path / "tmp").iterdir()) == []
