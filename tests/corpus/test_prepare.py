"""From a folder of files to the stage's outputs."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.prepare import prepare
from theta import files
from theta.conversation.messages import Conversation
from theta.corpus import sources
from theta.corpus.build import build
from theta.corpus.readers.finding import find
from theta.corpus.settings import DataSettings
from theta.errors import DataError, SettingsError
from theta.settings import load

ROOT = Path(__file__).resolve().parents[2]


def name_of(number: int, about: str) -> str:
    return hashlib.sha256(f"{about} {number}".encode()).hexdigest()[:20]


def pairs(count: int, about: str = "thing") -> list[dict[str, str]]:
    """Questions that are not alike."""
    return [{"question": f"{name_of(n, about)}?", "answer": f"It is {name_of(n, about)[::-1]}."} for n in range(count)]


def write_params(folder: Path, **values: Any) -> Path:
    usual = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")["data"]
    data = {**usual, "path": str(folder / "raw"), "validation_fraction": 0.1, "test_fraction": 0.1, **values}
    files.write_json(folder / "params.yaml", {"data": data})  # JSON is YAML
    return folder / "params.yaml"


def run(folder: Path, out: str = "out", **values: Any) -> Path:
    base = folder / "base/rehearsal.jsonl"
    if not base.exists():
        files.write_text(base, "")
    params = write_params(folder, **values)
    described = describe(folder, params)
    prepare(described, base, folder / out / "prepared", folder / out / "metrics.json", params)
    return folder / out


def describe(folder: Path, params: Path) -> Path:
    data = load(params, "data", DataSettings)
    described = sources.describe(data.path, data.include, data.exclude, digest=files.sha256, known=None)
    files.write_json(folder / "base/data.json", described)
    return folder / "base/data.json"


def digests(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): files.sha256(path) for path in found}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    files.write_json(tmp_path / "raw/a.json", {"conversations": pairs(60, "a")})
    mixed = [
        {"instruction": "Greet.", "output": "Hello."},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
        {"conversations": [{"from": "human", "value": "Bye"}, {"from": "gpt", "value": "Bye."}], "topic": "parting"},
        {"exchanges": [{"input": "Yes?", "output": "Yes."}, {"input": "No?", "output": "No."}]},
        {"question": f"  {name_of(3, 'a').upper()}", "answer": f"it is  {name_of(3, 'a')[::-1]}."},
        {"question": "Empty?", "answer": ""},
    ]
    lines = [json.dumps(item) for item in mixed] + ['{"question": "cut']
    files.write_text(tmp_path / "raw/deep/b.jsonl", "\n".join(lines) + "\n")
    files.write_text(tmp_path / "raw/README.md", "Not a conversation.")
    return tmp_path


def test_the_stage_writes_splits_rejects_and_metrics(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = run(raw)
    rows = {
        name: list(files.read_json_lines(out / f"prepared/{name}.jsonl")) for name in ("train", "validation", "test")
    }
    metrics = files.read_json(out / "metrics.json")
    assert metrics["conversations"] == {name: len(split) for name, split in rows.items()}
    assert sum(map(len, rows.values())) == metrics["kept"] == 64
    assert metrics["domains"] == {"a": 60, "b": 3, "parting": 1}
    assert [Conversation.from_json(row).to_json() for row in rows["train"]] == rows["train"]
    rejected = list(files.read_json_lines(out / "prepared/rejected.jsonl"))
    source = f"{raw}/raw/deep/b.jsonl"
    assert [(row["source"], row["reason"]) for row in rejected] == [
        (f"{source}#6", "empty_reply"),
        (f"{source}#7", "not_json: line 7, column 14: Unterminated string starting at"),
        (f"{source}#5", f"duplicate: of {raw}/raw/a.json#1.conversations.4"),
    ]
    assert rejected[1]["item"] == '{"question": "cut'
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert printed.startswith("kept 64 of 67 conversations: ")
    assert "rejected: empty_reply x1, not_json x1, duplicate x1; see " in printed
    page = (out / "prepared/report.md").read_text(encoding="utf-8")
    assert "| empty\\_reply | 1 |" in page.replace("_", "\\_").replace("\\\\_", "\\_")
    assert "README.md | a text about the data |" in page


def test_rows_keep_the_order_of_files_and_items(raw: Path) -> None:
    out = run(raw)
    for name in ("train", "validation", "test"):
        places = [row["source"].split("#") for row in files.read_json_lines(out / f"prepared/{name}.jsonl")]
        assert places == sorted(places, key=lambda place: (place[0], int(place[1].rpartition(".")[2])))


def test_two_runs_write_the_same_bytes(raw: Path) -> None:
    first = digests(run(raw, "first"))
    assert sorted(first) == [
        "metrics.json",
        "prepared/files.jsonl",
        "prepared/mended.jsonl",
        *(f"prepared/{n}.jsonl" for n in ("new_wordings", "rehearsal", "rejected")),
        "prepared/report.md",
        *(f"prepared/{n}.jsonl" for n in ("test", "train", "validation")),
    ]
    assert digests(run(raw, "second")) == first


def test_rehearsal_is_that_of_the_base_without_questions_of_the_data(
    raw: Path,
) -> None:
    questions = {}
    for name in ("train", "validation", "test"):
        row = next(files.read_json_lines(run(raw) / f"prepared/{name}.jsonl"))
        questions[name] = row["messages"][0]["content"]
    own = [
        {"domain": "talk", "exchanges": [{"question": "How are you?", "answer": "Well."}]},
        {"question": "How  are you?", "answer": "well."},
        *({"question": question.upper(), "answer": "Something else."} for question in questions.values()),
        {"question": "No answer?", "answer": ""},
        {"words": "of no shape"},
        {"question": "And a walk?", "answer": "Later."},
    ]
    files.write_json_lines(raw / "base/rehearsal.jsonl", own)
    out = run(raw, "with")
    rows = list(files.read_json_lines(out / "prepared/rehearsal.jsonl"))
    assert [(row["domain"], row["messages"][0]["content"]) for row in rows] == [
        ("talk", "How are you?"),
        ("rehearsal", "And a walk?"),
    ]
    assert [Conversation.from_json(row).to_json() for row in rows] == rows
    before, after = digests(raw / "out"), digests(out)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"metrics.json", "prepared/rehearsal.jsonl"}
    metrics = files.read_json(out / "metrics.json")
    assert metrics == {**files.read_json(raw / "out/metrics.json"), "rehearsal_conversations": 2}


def test_without_rehearsal_its_file_is_empty(raw: Path) -> None:
    out = run(raw)
    assert (out / "prepared/rehearsal.jsonl").read_bytes() == b""
    assert files.read_json(out / "metrics.json")["rehearsal_conversations"] == 0


def test_a_missing_file_of_rehearsal_names_the_stage_that_writes_it(raw: Path) -> None:
    described = describe(raw, write_params(raw))
    with pytest.raises(DataError, match=r"none\.jsonl does not exist; run `dvc repro fetch` to create it"):
        prepare(described, raw / "none.jsonl", raw / "out", raw / "metrics.json", raw / "params.yaml")


def test_include_chooses_files(raw: Path) -> None:
    metrics = files.read_json(run(raw, include=["a.json"]) / "metrics.json")
    assert (metrics["files"], metrics["items"]) == (1, 60)


def test_three_conversations_are_enough(tmp_path: Path) -> None:
    files.write_json(tmp_path / "raw/small.json", pairs(3))
    metrics = files.read_json(run(tmp_path) / "metrics.json")
    assert metrics["conversations"] == {"train": 1, "validation": 1, "test": 1}


def test_removed_questions_are_counted_and_not_rejected(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "And?")]
    chat = {"messages": [{"role": role, "content": content} for role, content in said]}
    files.write_json(tmp_path / "raw/small.json", [*pairs(3), chat])
    metrics = files.read_json(run(tmp_path) / "metrics.json")
    assert (metrics["kept"], metrics["rejected"], sum(metrics["mended"].values())) == (4, 0, 1)
    assert "; mended: " in capsys.readouterr().out
    [repair] = files.read_json_lines(tmp_path / "out/prepared/mended.jsonl")
    assert repair["source"].endswith("small.json#4")


def test_processes_do_not_change_the_result(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("theta.corpus.readers.content.CHUNK_BYTES", 1000)
    found, settings = find(raw / "raw"), DataSettings(**YAML(typ="safe").load(ROOT / "params.yaml")["data"])
    monkeypatch.setattr("theta.corpus.build.BYTES_FOR_PROCESSES", 0)
    for processes in (1, 2):
        folder = raw / f"with{processes}"
        folder.mkdir()
        build(found, None, settings, folder, processes, lambda _: None)
    assert digests(raw / "with1") == digests(raw / "with2")


def test_all_bad_files_are_named_in_one_run(raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (raw / "raw/cut.json").write_text('[{"question": "Is it?", "answer": "Yes."}, {"question": "Is')
    (raw / "raw/none.json").write_text("")
    (raw / "raw/picture.json").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    metrics = files.read_json(run(raw) / "metrics.json")
    assert [Path(name).name for name in metrics["files_unreadable"]] == ["cut.json", "none.json", "picture.json"]
    assert metrics["kept"] == 65
    printed = capsys.readouterr().out
    assert all(f"/raw/raw/{name}" in printed.replace(str(raw), "/raw") for name in ("cut", "none", "picture"))
    with pytest.raises(DataError, match=r"cut\.json"):
        run(raw, "strict", strict=True)


def test_a_run_that_fails_leaves_the_previous_result_whole(raw: Path) -> None:
    before = digests(run(raw))
    (raw / "raw/cut.json").write_text('[{"question": "Is')
    with pytest.raises(DataError):
        run(raw, strict=True)
    assert digests(raw / "out") == before


def test_too_few_questions_stop_the_stage_and_keep_the_rejects(tmp_path: Path) -> None:
    files.write_json(tmp_path / "raw/small.json", [*pairs(2), {"question": "Why?", "answer": ""}])
    with pytest.raises(DataError, match=r"data\.path: the number of distinct conversations is 2; .*rejected\.jsonl\.$"):
        run(tmp_path)
    assert len(list(files.read_json_lines(tmp_path / "out/prepared/rejected.jsonl"))) == 1


def test_nothing_kept_names_the_most_common_reason_and_the_file_of_rejects(tmp_path: Path) -> None:
    files.write_json(tmp_path / "raw/notes.json", [{"words": "a"}, {"words": "b"}, {"question": "a", "answer": ""}])
    message = (
        r"data\.path: none of 3 items is a usable conversation, most often because of unknown_shape \(2\), such as "
        r".*notes\.json#1 \(keys words\)\. The rejected items are in .*out/prepared/rejected\.jsonl\.$"
    )
    with pytest.raises(DataError, match=message):
        run(tmp_path)
    assert len(list(files.read_json_lines(tmp_path / "out/prepared/rejected.jsonl"))) == 3
    assert not (tmp_path / "out/prepared/train.jsonl").exists()


def test_files_without_items_are_an_error(tmp_path: Path) -> None:
    files.write_json(tmp_path / "raw/none.json", [])
    with pytest.raises(DataError, match="its files contain no conversations; add some"):
        run(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"path": ""}, "data.path is ''"),
        ({"validation_fraction": -0.1}, "data.validation_fraction is -0.1"),
        ({"test_fraction": 0.5}, "data.test_fraction is 0.5"),
        ({"fraction": 0.1}, "unknown key data.fraction"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(write_params(tmp_path, **values), "data", DataSettings)


LOCALES = {
    "UTF-8": {"LC_ALL": "C.UTF-8"},
    "C": {"LC_ALL": "C"},
    "POSIX without coercion": {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "C without coercion": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
}


@pytest.mark.slow
def test_file_names_give_the_same_bytes_under_every_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in UTF-8, in Latin-1, and with characters that UTF-8 and UTF-16 sort differently; they are domains too."""
    folder = os.fsencode(tmp_path) + "/Gespräche".encode()
    os.mkdir(folder)  # noqa: PTH102
    names = [
        "é.json".encode(),
        b"caf\xe9.json",
        "家.json".encode(),
        "\ufffd.json".encode(),
        "🚀.json".encode(),
        b"z.json",
    ]
    for name in names:
        with open(folder + b"/" + name, "w") as out:  # noqa: PTH123
            json.dump(pairs(10, name.hex()), out)
    (tmp_path / "base.jsonl").write_text("\n")
    monkeypatch.chdir(tmp_path)
    describe(tmp_path, write_params(tmp_path, path="Gespräche", include=["é.json", "*"]))
    outs = []
    for number, environment in enumerate(LOCALES.values()):
        arguments = (
            "--data",
            "base/data.json",
            "--base-rehearsal",
            "base.jsonl",
            "--prepared",
            f"out{number}",
            "--metrics",
            f"out{number}/metrics.json",
        )
        done = subprocess.run(
            [sys.executable, "-m", "stages", "prepare", *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outs.append(digests(tmp_path / f"out{number}"))
    assert outs == [outs[0]] * len(LOCALES)
    metrics = files.read_json(tmp_path / "out0/metrics.json")
    assert set(metrics["domains"]) == {"é", "caf\ufffd", "家", "\ufffd", "🚀", "z"}
    with (tmp_path / "out0/train.jsonl").open(encoding="utf-8") as lines:
        sources = list(dict.fromkeys(json.loads(line)["source"].partition("#")[0] for line in lines))
    # Sorted by the bytes of the names.
    assert sources == [f"Gespräche/{name}.json" for name in ("caf\ufffd", "z", "é", "家", "\ufffd", "🚀")]
