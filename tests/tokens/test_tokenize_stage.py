"""The stage run alone on damaged inputs: one line that names the file and the command that recreates it."""

import json
from pathlib import Path
from typing import Any

import pytest

from stages.tokenize import tokenize
from theta.bases.descriptors import resolve
from theta.conversation.messages import Conversation, Message
from theta.errors import DataError
from theta.files import read_json, read_json_lines, sha256, write_json, write_json_lines
from theta.tokens import build
from theta.tokens.store import IGNORED, Store

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


def chat(question_words: int, number: int) -> dict[str, Any]:
    """A conversation whose question has so many words, and tokens."""
    messages = Message("user", "why" + " why" * (question_words - 1)), Message("assistant", "Because.")
    return Conversation(messages, "why", f"why.json#{number}").to_json()


def test_a_large_loss_is_said_with_the_length_that_would_keep_more(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [chat(300 if number <= 180 else 600 if number <= 185 else 10, number) for number in range(1, 199)]
    write_json_lines(PREPARED / "train.jsonl", rows)
    tokenize()
    assert (
        "Warning: 185 of 200 conversations lost a reply, or the end of one, to tokenizer.max_length 64; "
        "512 would keep 195; see Datasets/tokens/cut.jsonl."
    ) in capsys.readouterr().out
    listed = list(read_json_lines(Path("Datasets/tokens/cut.jsonl")))
    assert [row["source"] for row in listed] == [f"why.json#{number}" for number in range(1, 186)]
    assert listed[0] == {
        "split": "train", "source": "why.json#1", "exchange": 1, "reason": "question_too_long", "tokens": 306,
        "kept_tokens": 0,
    }  # fmt: skip
    assert read_json(Path("metrics/tokenize.json"))["train"]["conversations_cut"] == 185


def test_what_no_length_can_keep_is_said(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json_lines(PREPARED / "train.jsonl", [CONVERSATION, chat(5000, 2)])
    tokenize()
    assert (
        "1 of 4 conversations lost a reply, or the end of one, to tokenizer.max_length 64, and the base's 1,024 "
        in (capsys.readouterr().out)
    )


UNLEARNED = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So.", "learned": False}]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([chat(300, 1), chat(300, 2)], r"No conversation of \S+n\.jsonl is left: 2 of 2 .+; 512 would keep 2\."),
        ([{**CONVERSATION, "messages": UNLEARNED}], "holds no reply that is to be learned"),
    ],
)
def test_an_empty_split_fails_here_and_the_last_tokens_stay(
    project: Path, rows: list[dict[str, Any]], message: str
) -> None:
    tokenize()
    before = {path: path.read_bytes() for path in Path("Datasets/tokens").rglob("*") if path.is_file()}
    metrics = Path("metrics/tokenize.json").read_bytes()
    write_json_lines(PREPARED / "validation.jsonl", rows)
    with pytest.raises(DataError, match=message):
        tokenize()
    assert before == {path: path.read_bytes() for path in Path("Datasets/tokens").rglob("*") if path.is_file()}
    assert Path("metrics/tokenize.json").read_bytes() == metrics
    assert sorted(path.name for path in Path("Datasets").iterdir()) == ["prepared", "tokens"]


def test_nothing_may_be_held_back_but_train_needs_conversations(project: Path) -> None:
    for name in ("validation", "test"):
        write_json_lines(PREPARED / f"{name}.jsonl", [])
    tokenize()
    assert read_json(Path("metrics/tokenize.json"))["test"]["documents"] == 0
    assert Store.if_any(Path("Datasets/tokens/validation.arrow")) is None
    write_json_lines(PREPARED / "train.jsonl", [])
    with pytest.raises(DataError, match=r"prepared/train\.jsonl holds no conversations; add some"):
        tokenize()


def test_a_chat_out_of_turn_is_named(project: Path) -> None:
    messages = [{"role": role, "content": "Why?"} for role in ("user", "user", "assistant")]
    write_json_lines(PREPARED / "test.jsonl", [CONVERSATION, {**CONVERSATION, "messages": messages}])
    with pytest.raises(DataError, match=r"test\.jsonl, line 2, is not what Theta wrote \(.+ in turn\)"):
        tokenize()


def test_bytes_that_are_no_utf8_are_named(project: Path) -> None:
    (PREPARED / "test.jsonl").write_bytes(b'{"domain": "\xe9"}\n')
    with pytest.raises(DataError, match=r"test\.jsonl, line 1, is not UTF-8 text \(.+\); run `dvc repro`"):
        tokenize()


@pytest.mark.slow
def test_the_bytes_do_not_depend_on_the_number_of_processes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "BATCH_BYTES", 5000)
    write_json_lines(PREPARED / "train.jsonl", [chat(10 + number % 70, number) for number in range(500)])
    digests = []
    for bytes_per_process in (1 << 30, 1):
        monkeypatch.setattr(build, "BYTES_PER_PROCESS", bytes_per_process)
        monkeypatch.setattr("stages.tokenize.available_cores", lambda: 2)
        tokenize()
        digests.append([sha256(Path("Datasets/tokens", name)) for name in ("train.arrow", "cut.jsonl")])
    assert digests[0] == digests[1]
    store = Store(Path("Datasets/tokens/train.arrow"), Path("Datasets/tokens/rehearsal.arrow"))
    assert len(store._batches) > 5  # documents of several record batches, and of two files
    assert [len(store[place][0]) for place in range(len(store))] == store.lengths.tolist()
    assert store.sources[0] == "why.json#0"
    assert store.sources[-1] == "why.json#1"
    assert [int((store[place][1] != IGNORED).sum()) for place in range(len(store))] == store.learned_counts.tolist()
