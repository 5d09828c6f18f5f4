"""Files are complete or absent, folders lose no files, and a full disk is one clear line."""

import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from theta import files
from theta.errors import DataError, StorageError

DEAD = 2**22 + 1
"""A process id above the kernel's maximum."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def make_folder(path: Path, *files: str) -> Path:
    path.mkdir()
    for name in files:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text("old")
    return path


def replace_folder(path: Path, *files_: str) -> None:
    with files.replacing_folder(path) as temporary:
        temporary.mkdir()
        for name in files_:
            (temporary / name).write_text("new")


# A file replaces only a file.


def test_a_file_replaces_a_file(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "one")
    files.write_text(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("through_link", [False, True])
def test_a_file_never_replaces_a_folder(tmp_path: Path, through_link: bool) -> None:
    folder = target = make_folder(tmp_path / "docs", "kept.md")
    if through_link:
        target = tmp_path / "link"
        target.symlink_to(folder)
    with pytest.raises(StorageError, match=r"is a folder, which a file must not replace; name a file"):
        files.write_json(target, {})
    assert (folder / "kept.md").read_text() == "old"
    assert target.is_dir()


@pytest.mark.parametrize("dangling", [False, True])
def test_a_link_to_a_file_is_replaced_and_not_followed(tmp_path: Path, dangling: bool) -> None:
    """DVC may keep an out as a link into its cache, which must not change."""
    cached = tmp_path / "cached"
    if not dangling:
        cached.write_text("cache")
    (tmp_path / "out").symlink_to(cached)
    files.write_text(tmp_path / "out", "new")
    assert not (tmp_path / "out").is_symlink()
    assert (tmp_path / "out").read_text() == "new"
    assert not cached.exists() if dangling else cached.read_text() == "cache"


def test_a_fault_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "old")

    def rows() -> Iterator[int]:
        yield 1
        raise ValueError("halfway")

    with pytest.raises(ValueError, match="halfway"):
        files.write_json_lines(tmp_path / "a", rows())
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


# A folder replaces only a folder that loses no files.


@pytest.mark.parametrize("exchange", [True, False], ids=["in one step", "set aside"])
def test_a_folder_replaces_one_with_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:  # as on a system without renameat2
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = make_folder(tmp_path / "model", "config.json")
    replace_folder(target, "config.json", "weights")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"config.json": "new", "weights": "new"}
    assert names(tmp_path) == ["model"]


def test_an_empty_folder_is_replaced(tmp_path: Path) -> None:
    replace_folder(make_folder(tmp_path / "model"), "config.json")
    assert names(tmp_path / "model") == ["config.json"]


def test_a_folder_with_other_files_is_not_changed(tmp_path: Path) -> None:
    target = make_folder(tmp_path / "home", "config.json", "letters/mother.txt")
    with pytest.raises(StorageError, match=r"home holds letters.*, which Theta did not write there; nothing was"):
        replace_folder(target, "config.json")
    assert (target / "letters" / "mother.txt").read_text() == "old"
    assert (target / "config.json").read_text() == "old"
    assert names(tmp_path) == ["home"]


@pytest.mark.parametrize("kind", ["file", "link", "dangling link"])
def test_a_folder_never_replaces_anything_else(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "model"
    if kind == "file":
        target.write_text("old")
    else:
        target.symlink_to(make_folder(tmp_path / "elsewhere") if kind == "link" else tmp_path / "nowhere")
    before = names(tmp_path)
    with pytest.raises(
        StorageError, match=rf"model is a {kind.removeprefix('dangling ')}, which a folder must not replace"
    ):
        replace_folder(target, "config.json")
    assert names(tmp_path) == before
    assert target.is_symlink() or target.read_text() == "old"


def test_a_failed_rename_puts_the_old_folder_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = make_folder(tmp_path / "model", "config.json")

    def rename(self: Path, to: Path) -> None:
        if self.name.endswith(".partial"):
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        os.rename(self, to)  # noqa: PTH104

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(StorageError, match="model cannot be written"):
        replace_folder(target, "config.json")
    assert (target / "config.json").read_text() == "old"
    assert names(tmp_path) == ["model"]


# Killed while writing: the child process kills itself at a named point.

KILLED = """
import os, signal, sys
from pathlib import Path
from theta import files

target, place = Path(sys.argv[1]), sys.argv[2]
kill = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
if place != "before the swap":
    files._exchange = lambda *_: False
with files.replacing_folder(target) as folder:
    folder.mkdir()
    (folder / "config.json").write_text("new")
    if place == "while writing":
        kill()
    if place == "before the swap":
        files._swap = kill
    if place == "between the renames":
        rename = Path.rename
        Path.rename = lambda self, to: kill() if self.name.endswith(".partial") else rename(self, to)
    if place == "after the renames":
        files.remove = kill
"""


def kill_at(place: str, target: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(target), place], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("place", "content"),
    [
        ("while writing", "old"),
        ("before the swap", "old"),
        ("between the renames", "old"),
        ("after the renames", "new"),
    ],
)
def test_a_killed_process_loses_nothing(tmp_path: Path, place: str, content: str) -> None:
    target = make_folder(tmp_path / "model", "config.json")
    kill_at(place, target)
    assert len(names(tmp_path)) > 1  # the temporary files
    with pytest.raises(ValueError, match="stop"), files.replacing_folder(target):
        raise ValueError("stop")  # the next process fails too, but it has removed them
    assert (target / "config.json").read_text() == content
    assert names(tmp_path) == ["model"]


def test_with_a_swap_the_folder_always_exists(tmp_path: Path) -> None:
    """A reader that checks as often as it can never finds the folder absent."""
    target = make_folder(tmp_path / "model", "config.json")
    if not files._exchange(make_folder(tmp_path / "a"), make_folder(tmp_path / "b")):
        pytest.skip("this file system cannot swap")
    script = "import os,sys\nwhile True:\n    os.stat(sys.argv[1])"
    with subprocess.Popen(
        [sys.executable, "-c", script, str(target / "config.json")], stderr=subprocess.PIPE
    ) as reader:
        for _ in range(100):
            replace_folder(target, "config.json")
        running = reader.poll() is None
        reader.kill()
    assert running


def test_a_growing_file_is_flushed_before_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[int] = []
    monkeypatch.setattr(files, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", lambda number: flushed.append(os.fstat(number).st_size))
    with (tmp_path / "growing").open("wb") as out, files.flushing(tmp_path / "growing"):
        deadline = time.monotonic() + 60
        while len(set(flushed)) < 3:
            assert time.monotonic() < deadline
            out.write(b"more")
            out.flush()
    assert flushed == sorted(flushed)


def test_a_disk_that_refuses_to_flush_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = threading.Event()

    def refuse(_: int) -> None:
        refused.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files, "FLUSH_SECONDS", 0.001)
    monkeypatch.setattr(os, "fsync", refuse)
    (tmp_path / "growing").write_bytes(b"some")
    with pytest.raises(OSError, match="Input/output error"), files.flushing(tmp_path / "growing"):
        assert refused.wait(60)


def test_only_temporary_files_of_dead_processes_and_this_name_are_removed(tmp_path: Path) -> None:
    swept = [f".out.{DEAD}.partial", f"..out.{DEAD}.partial.{DEAD}.partial"]
    kept = [
        f".out.{os.getppid()}.partial",  # of a running process
        f".another.{DEAD}.partial",
        f".out.{DEAD}.partial.md",
        ".out.partial",
        ".out.x.partial",
        f"out.{DEAD}.partial",
    ]
    for name in (*swept, *kept):
        (tmp_path / name).touch()
    files.write_text(tmp_path / "out", "new")
    assert names(tmp_path) == sorted([*kept, "out"])


def test_git_ignores_temporary_files() -> None:
    root = Path(__file__).parents[1]
    for name in ("models/.theta_final.12.partial", "metrics/.train.json.1.partial", "models/.checkpoint.3.aside"):
        done = subprocess.run(["git", "check-ignore", "-q", name], cwd=root, check=False)
        assert done.returncode in (0, 128), name  # 128: this is not a git repository


# A full or read-only disk.


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Simulate a full disk by a limit on the size of files."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def by_text(path: Path) -> None:
    files.write_text(path, "x" * 100_000)


def by_json_lines(path: Path) -> None:
    files.write_json_lines(path, ["x" * 1000] * 100)


def by_torch(path: Path) -> None:
    import torch

    with files.replacing_file(path) as temporary:
        torch.save(torch.zeros(50_000), temporary)


def by_safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    with files.replacing_file(path) as temporary:
        save_file({"a": torch.zeros(50_000)}, temporary)


def by_arrow(path: Path) -> None:
    from theta.tokens.store import Document, write

    write(path, [Document([1] * 50_000, [True] * 50_000, "a", "a#1", 3)])


def by_copy_into_a_folder(path: Path) -> None:
    with files.replacing_folder(path.parent / "folder") as temporary:
        temporary.mkdir()
        files.write_text(temporary / "out", "x" * 100_000)


@pytest.mark.parametrize("write", [by_text, by_json_lines, by_torch, by_safetensors, by_arrow, by_copy_into_a_folder])
def test_a_full_disk_is_one_line_that_names_the_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    expected = r"^[^\n]*/out cannot be written \([^\n]+\); make room on the disk and run the command again\.$"
    with largest_file(4096), pytest.raises(StorageError, match=expected) as raised:
        write(tmp_path / "out")
    assert ".partial" not in str(raised.value)
    assert names(tmp_path) == []


def test_a_full_disk_leaves_no_empty_folder(tmp_path: Path) -> None:
    with largest_file(4096), pytest.raises(StorageError):
        by_text(tmp_path / "new" / "deep" / "out")
    assert names(tmp_path) == []
    by_text(tmp_path / "new" / "deep" / "out")
    assert names(tmp_path / "new" / "deep") == ["out"]


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    files.write_text(tmp_path / "out", "old")
    with largest_file(4096), pytest.raises(StorageError):
        by_text(tmp_path / "out")
    assert (tmp_path / "out").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this machine does not let one mount")
    try:
        with pytest.raises(StorageError, match=r"out cannot be written \(No space left on device\); make room"):
            by_text(tmp_path / "out")
        assert names(tmp_path) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk")
def test_a_disk_that_is_read_only(tmp_path: Path) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=False).returncode:
        pytest.skip("this machine does not let one mount")
    try:
        for write in (files.write_text, lambda path, _: replace_folder(path)):
            with pytest.raises(StorageError, match=r"out cannot be written \(Read-only file system\); allow it, or"):
                write(tmp_path / "out", "text")
        with pytest.raises(StorageError, match=r"new/out cannot be written \(Read-only file system\)"):
            files.write_text(tmp_path / "new" / "out", "text")
    finally:
        subprocess.run(["umount", tmp_path], check=True)


@pytest.mark.parametrize(
    ("place", "words"), [("file/out", "its folder is a file"), ("file/folder/out", "Not a directory")]
)
def test_a_path_below_a_file(tmp_path: Path, place: str, words: str) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(StorageError, match=rf"{place} cannot be written \({words}.*\); allow it, or choose another"):
        files.write_text(tmp_path / place, "text")


def test_a_fault_of_reading_does_not_name_the_file_that_is_written(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), files.replacing_file(tmp_path / "out"):
        (tmp_path / "absent").read_text()


# Reading the files of the stages.


def test_an_empty_file_of_lines_holds_a_blank_one(tmp_path: Path) -> None:
    """DVC warns about every empty file, six times per run."""
    files.write_json_lines(tmp_path / "rows.jsonl", [])
    assert (tmp_path / "rows.jsonl").read_bytes() == b"\n"
    assert list(files.read_json_lines(tmp_path / "rows.jsonl")) == []


@pytest.mark.parametrize(
    "content", ['{"a": 1}\n{"a": 2', '{"a": 1}\nnonsense\n', '{"a": 1}\n[1]\n', '{"a": 1}\n{"b": 1}\n']
)
def test_a_damaged_line_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(content)
    with pytest.raises(
        DataError, match=r"rows\.jsonl, line 2, is not what Theta wrote \(.+\); run `dvc repro` to recreate"
    ):
        list(files.read_json_lines(path, lambda value: value["a"]))


def test_lines_that_are_not_text(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(b'"\xff"\n')
    with pytest.raises(DataError, match=r"rows\.jsonl is not UTF-8 text .*; run `dvc repro` to recreate it"):
        list(files.read_json_lines(tmp_path / "rows.jsonl"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[1, 2]", "has no kind and no name"),
        ("null", "has no kind and no name"),
        ('{"kind": 1}', "has no name"),
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
    ],
)
def test_unexpected_json_is_named(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(DataError, match=rf"a\.json {words}.*; run `dvc repro` to recreate it"):
        files.read_json(tmp_path / "a.json", "kind", "name")


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_pipe_is_not_replaced(tmp_path: Path, through_a_link: bool) -> None:
    """Nor is a device, such as /dev/null, which root could replace."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    path = tmp_path / "link" if through_a_link else pipe
    if through_a_link:
        path.symlink_to(pipe)
    with pytest.raises(StorageError, match=r"is not a file, and must not be replaced; name a file"):
        files.write_text(path, "text")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert sorted(each.name for each in tmp_path.iterdir()) == (["link", "pipe"] if through_a_link else ["pipe"])


@pytest.mark.parametrize("path", ["", ".", "/dev/no-such-device", "/proc/self/nothing"])
def test_what_cannot_be_a_file_is_refused_in_one_line(path: str) -> None:
    with pytest.raises(StorageError, match="must not"):
        files.write_text(Path(path), "text")


def test_lines_are_added_to_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "rows.jsonl"
    files.append_json_line(path, {"a": "é"})
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))  # as some editors leave it
    files.append_json_line(path, {"a": 2})
    assert path.read_bytes() == '{"a": "é"}\n{"a": 2}\n'.encode()


def test_a_line_that_cannot_be_added_is_one_line_of_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot be written"):
        files.append_json_line(tmp_path / "file" / "rows.jsonl", {})
