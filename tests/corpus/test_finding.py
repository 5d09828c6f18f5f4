"""Finding files: which are read, which are passed over and why."""

import os
from pathlib import Path

import pytest

from theta.corpus.readers.finding import File, find
from theta.errors import DataError


def write(path: Path, content: str = "[]") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.json", "a.jsonl.gz", "deep/er/c.csv", "deep/UPPER.JSON", "deep/notes.txt"):
        write(tmp_path / "data" / name)
    for name in ("README.md", "LICENSE", ".hidden.json", ".dvc/cache.json", "b.json.dvc", "x.docx", "deep/run.py"):
        write(tmp_path / "data" / name)
    return tmp_path / "data"


def found(folder: Path, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    return [each.path.relative_to(folder).as_posix() for each in find(folder, include, exclude).files]


def passed_over(folder: Path) -> dict[str, str]:
    return dict(find(folder).passed_over)


def test_files_at_any_depth_are_found_in_order_of_their_names(folder: Path) -> None:
    assert found(folder) == ["a.jsonl.gz", "b.json", "deep/UPPER.JSON", "deep/er/c.csv", "deep/notes.txt"]


def test_every_other_file_is_named_with_the_reason(folder: Path) -> None:
    named = passed_over(folder)
    assert list(named) == ["LICENSE", "README.md", "deep/run.py", "x.docx"]
    assert named["README.md"] == named["LICENSE"] == "a text about the data"
    assert named["x.docx"] == "a word processor's document; save it as .txt"
    assert "its ending is none of .json" in named["deep/run.py"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (("b.json",), (), ["b.json"]),
        (("c.csv", "a.*"), (), ["a.jsonl.gz", "deep/er/c.csv"]),
        (("deep/*",), ("*.txt",), ["deep/UPPER.JSON", "deep/er/c.csv"]),
        ((), ("deep/*",), ["a.jsonl.gz", "b.json"]),
    ],
)
def test_patterns_match_names_and_paths(
    folder: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str]
) -> None:
    assert found(folder, include, exclude) == expected
    assert ("deep/er/c.csv" in expected) != ("deep/er/c.csv" in dict(find(folder, include, exclude).passed_over))


def test_folders_and_files_that_links_name_again_are_read_once(folder: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere/d.json")
    for name, target in {"a": ".", "z": ".", "linked": "../elsewhere", "deep/up": "..", "twin": "../elsewhere"}.items():
        (folder / name).symlink_to(target)
    (folder / "again.json").symlink_to("b.json")
    assert found(folder, ("*.json",)) == ["b.json", "linked/d.json"]
    named = passed_over(folder)
    assert named["again.json"] == "the same file as b.json"
    assert (
        named["a"] == named["z"] == named["deep/up"] == named["twin"] == "a link to a folder that is searched already"
    )


def test_links_to_nothing_and_pipes_are_named(folder: Path) -> None:
    (folder / "gone.json").symlink_to("nowhere")
    (folder / "self.json").symlink_to("self.json")
    os.mkfifo(folder / "pipe.json")
    named = passed_over(folder)
    assert named["gone.json"] == "a link to nothing"
    assert named["self.json"].startswith("it cannot be reached (")
    assert named["pipe.json"] == "neither a file nor a folder"


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_listed_is_named(folder: Path) -> None:
    (folder / "deep/er").chmod(0)
    try:
        assert passed_over(folder)["deep/er"].startswith("a folder that cannot be listed (Permission denied")
    finally:
        (folder / "deep/er").chmod(0o755)


def test_a_file_is_a_path_too_whatever_its_name(folder: Path) -> None:
    assert find(folder / "README.md").files == [File.at(folder / "README.md")]


def test_names_leave_out_the_root_and_control_characters(folder: Path) -> None:
    write(folder / "\x1b[31mred\n.json.gz")
    write(folder / os.fsdecode(b"caf\xe9.json"))
    files = find(Path("data"), root=folder.parent).files
    assert {each.path.parent.parent for each in files} <= {folder.parent, folder, folder / "deep"}
    assert (files[0].name, files[0].domain) == (r"data/\x1b[31mred\n.json.gz", r"\x1b[31mred\n")
    assert "data/caf\ufffd.json" in [each.name for each in files]


@pytest.mark.parametrize("name", ["missing", "missing.json"])
def test_a_missing_path_is_an_error_with_a_remedy(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name} does not exist; .* data\.path in params\.yaml"):
        find(tmp_path / name)


def test_a_folder_without_data_is_an_error_that_names_what_is_there(tmp_path: Path) -> None:
    write(tmp_path / "x.zip")
    with pytest.raises(DataError, match=r"holds no \.json.* to learn from \(x\.zip: a zip archive; unpack it\)"):
        find(tmp_path)


def test_a_pattern_that_matches_nothing_is_an_error_with_a_remedy(folder: Path) -> None:
    with pytest.raises(DataError, match=r"'linus\.json' matches none of the 5 files .* data\.include in params\.yaml"):
        find(folder, ["b.json", "linus.json"])


def test_a_pipe_is_no_path(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(DataError, match=r"pipe\.json is neither a file nor a folder"):
        find(tmp_path / "pipe.json")


def test_a_pattern_of_exclude_that_matches_nothing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[]")
    (tmp_path / "b.json").write_text("[]")
    assert find(tmp_path, exclude=["b.json", "c*"]).idle == ["c*"]
