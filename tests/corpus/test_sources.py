"""What data.path names, described by content and found again."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from theta import files
from theta.corpus import sources
from theta.corpus.readers import hub
from theta.corpus.readers.hub import Reference
from theta.errors import DataError


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    files.write_text(Path("mine/a.json"), "[1]")
    files.write_text(Path("mine/b/c.txt"), "text")
    files.write_text(Path("mine/d.zip"), "PK")
    return tmp_path / "project"


def describe(path: str, *include: str) -> dict[str, Any]:
    return sources.describe(path, include, [], digest=files.sha256, known=None)


def test_a_folder_is_described_by_the_content_of_its_files(project: Path) -> None:
    described = describe("mine")
    assert described == {
        "kind": "local",
        "path": "mine",
        "files": [
            {"name": "mine/a.json", "bytes": 3, "sha256": files.sha256(Path("mine/a.json"))},
            {"name": "mine/b/c.txt", "bytes": 4, "sha256": files.sha256(Path("mine/b/c.txt"))},
        ],
        "passed_over": [["d.zip", "a zip archive; unpack it"]],
    }
    assert [each.name for each in sources.locate("mine", described, [], []).files] == ["mine/a.json", "mine/b/c.txt"]


def test_the_description_changes_with_content_and_names_but_not_with_files_left_out(project: Path) -> None:
    before, chosen = describe("mine"), describe("mine", "a.json")
    files.write_text(Path("mine/b/c.txt"), "tExt")
    assert describe("mine") != before
    files.write_text(Path("mine/b/c.txt"), "text")
    assert describe("mine") == before
    files.write_text(Path("mine/new.json"), "[2]")
    assert describe("mine") != before
    assert describe("mine", "a.json")["files"] == chosen["files"]


def test_a_dataset_of_the_hub_is_that_which_was_described(project: Path) -> None:
    described = {"kind": "hub", "path": "hf://datasets/ann/chats", "name": "ann/chats", "revision": "0" * 40}
    with pytest.raises(DataError, match=r"data\.path is hf://datasets/ann/cats, and fetch described .*run `dvc repro`"):
        sources.locate("hf://datasets/ann/cats", described, [], [])
    with pytest.raises(DataError, match=r"hf://datasets/ann/chats/a\.jsonl is not on this machine; run `dvc repro -f"):
        sources.locate("hf://datasets/ann/chats", {**described, "files": ["a.jsonl"]}, [], [])


def test_a_copy_of_the_project_reads_the_data_of_the_original(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = describe("mine")
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(project))
    assert describe("mine") == described
    found = sources.locate("mine", described, [], [])
    assert next((each.name, each.path) for each in found.files) == ("mine/a.json", project / "mine/a.json")


@pytest.mark.slow
def test_data_that_dvc_tracks_is_restored_or_the_command_is_named(project: Path) -> None:
    for arguments in (["init", "--no-scm", "-q"], ["add", "-q", "mine"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)
    described = describe("mine")
    files.remove(Path("mine"))
    assert describe("mine/b") == {
        **described,
        "path": "mine/b",
        "files": described["files"][1:],
        "passed_over": [],
    }
    files.remove(Path("mine"))
    assert describe("mine") == described
    files.remove(Path("mine"))
    files.remove(Path(".dvc/cache"))
    with pytest.raises(DataError, match=r"mine is not here, and DVC cannot restore it .*run `dvc pull mine\.dvc`\."):
        describe("mine")


@pytest.mark.slow
def test_a_file_of_a_folder_that_dvc_tracks_is_restored(project: Path) -> None:
    for arguments in (["init", "--no-scm", "-q"], ["add", "-q", "mine/a.json"]):
        subprocess.run([sys.executable, "-m", "dvc", *arguments], check=True, capture_output=True)
    described = describe("mine")
    files.remove(Path("mine/a.json"))
    assert describe("mine") == described
    files.remove(Path("mine/a.json"))
    files.remove(Path(".dvc/cache"))
    assert ["a.json", "tracked by DVC, but not here; run `dvc pull`"] in describe("mine")["passed_over"]


def test_a_file_that_cannot_be_read_has_no_digest(project: Path) -> None:
    def digest(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    described = sources.describe("mine", [], [], digest=digest, known=None)
    assert [each["sha256"] for each in described["files"]] == [None, None]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("hf://datasets/squad", Reference("squad", None, None, None)),
        ("hf://datasets/ann/chats", Reference("ann/chats", None, None, None)),
        ("hf://datasets/ann/chats@v1/en:test", Reference("ann/chats", "v1", "en", "test")),
        ("hf://datasets/ann/chats/en", Reference("ann/chats", None, "en", None)),
        ("hf://datasets/ann/chats:test", Reference("ann/chats", None, None, "test")),
        ("hf://datasets/squad@main/plain", Reference("squad", "main", "plain", None)),
        (
            "hf://datasets/ann/chats@refs%2Fconvert%2Fparquet",
            Reference("ann/chats", "refs/convert/parquet", None, None),
        ),
    ],
)
def test_the_parts_of_a_dataset_of_the_hub(path: str, expected: Reference) -> None:
    assert hub.parse(path) == expected


@pytest.mark.parametrize("path", ["hf://datasets/", "hf://models/gpt2", "hf://datasets/a/b/c/d", "hf://datasets/a:b:c"])
def test_a_path_of_another_form_is_refused(path: str) -> None:
    with pytest.raises(DataError, match=r"is not of the form hf://datasets/NAME\[@revision\]\[/config\]\[:split\]"):
        hub.parse(path)
