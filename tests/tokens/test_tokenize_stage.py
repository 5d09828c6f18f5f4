"""The stage run alone on damaged inputs: one line that names the file and the command that recreates it."""

import json
from pathlib import Path

import pytest

from stages.tokenize import tokenize
from theta.bases.descriptors import resolve
from theta.conversation.messages import Conversation, Message
from theta.errors import DataError
from theta.files import write_json, write_json_lines

PREPARED, BASE = Path("Datasets/prepared"), Path("models/base/tokenizer.json")
CONVERSATION = Conversation((Message("user", "Why?"), Message("assistant", "Because.")), "why", "why.json#1").to_json()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The inputs of the stage: a conversation for each split."""
    monkeypatch.chdir(tmp_path)
    write_json(Path("params.yaml"), {"tokenizer": {"max_length": 64}})
    write_json(BASE, resolve("scratch:nano", None, 0, ())[1])
    for split in ("train", "validation", "test", "rehearsal"):
        write_json_lines(PREPARED / f"{split}.jsonl", [CONVERSATION])
    return tmp_path


def test_complete_inputs_are_encoded(project: Path) -> None:
    write_json_lines(PREPARED / "rehearsal.jsonl", [])
    tokenize()
    assert sorted(path.name for path in Path("Datasets/tokens").glob("*.arrow")) == [
        "rehearsal.arrow", "test.arrow", "train.arrow", "validation.arrow",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "line",
    [
        json.dumps(CONVERSATION)[:40],
        "[]",
        "{}",
        "null",
        json.dumps({**CONVERSATION, "messages": []}),
        json.dumps({**CONVERSATION, "messages": [{"role": "user", "content": 3}]}),
        json.dumps({**CONVERSATION, "messages": "Why?"}),
        json.dumps({**CONVERSATION, "domain": None}),
    ],
)
def test_a_damaged_line_is_named(project: Path, line: str) -> None:
    with (PREPARED / "test.jsonl").open("a") as out:
        out.write(line + "\n")
    with pytest.raises(
        DataError, match=r"prepared/test\.jsonl, line 2, is not what Theta wrote \(.+\); run `dvc repro` to recreate"
    ):
        tokenize()


def test_a_missing_split_is_named(project: Path) -> None:
    (PREPARED / "validation.jsonl").unlink()
    with pytest.raises(DataError, match=r"prepared/validation\.jsonl does not exist; run `dvc repro` to create it"):
        tokenize()


@pytest.mark.parametrize("content", ["[]", "{}", '"gpt2"', '{"kind": "local"}', "", "{"])
def test_a_damaged_description_of_the_base_is_named(project: Path, content: str) -> None:
    BASE.write_text(content)
    with pytest.raises(
        DataError, match=r"models/base/tokenizer\.json (has no|is not valid JSON).*; run `dvc repro` to recreate it"
    ):
        tokenize()
