"""The folder of a resume state: its name covers its origin, one run at a time uses it, and its removal is safe."""

import json
import os
import shutil
import threading
from hashlib import md5
from pathlib import Path

import pytest

from tests.support.runs import SETTINGS
from theta.train import resume_folder
from theta.train.distributed import ALONE
from theta.train.resume_folder import (
    claimed,
    folder_of,
    forget_finished,
    key_of,
    of_other_formats,
    prune,
    saved_formats,
)

FORMATS = ("float32", "32", "bfloat16")
RUN = "0123456789abcdef"


@pytest.fixture
def states(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all states in a project."""
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    folder = tmp_path / ".theta" / "train"
    folder.mkdir(parents=True)
    return folder


def new_state(states: Path, name: str, age_seconds: int = 0) -> Path:
    """A folder in the form in which training leaves it."""
    folder = states / name
    folder.mkdir()
    (folder / "lock").touch()
    (folder / "state.0123456789abcdef.pt").write_bytes(b"a state")
    os.utime(folder, (1_000_000 - age_seconds, 1_000_000 - age_seconds))
    return folder


def test_everything_that_changes_the_weights_changes_the_folder(tmp_path: Path, states: Path) -> None:
    data = tmp_path / "data"
    data.write_text("a")
    settings = SETTINGS.model_dump()
    key = key_of(settings, [data])
    assert key_of(settings, [data]) == key
    assert key_of({**settings, "learning_rate": 0.5}, [data]) != key
    assert folder_of(key, FORMATS).parent == states
    assert folder_of(key, FORMATS) != folder_of(key, ("float32", "32", "float32"))
    data.write_text("b")
    assert key_of(settings, [data]) != key


def test_a_second_run_waits_until_the_first_has_ended(states: Path) -> None:
    folder, said, order = states / f"{RUN}-float32-32-float32", list[str](), list[str]()

    def second() -> None:
        with claimed(folder, ALONE, said.append):
            order.append("second")

    waiting = threading.Thread(target=second)
    with claimed(folder, ALONE, said.append):
        waiting.start()
        while not said:
            pass
        order.append("first")
    waiting.join(timeout=60)
    assert order == ["first", "second"]
    assert said == [f"Another process is training with the same settings ({folder}); waiting until it ends."]


def test_leftovers_of_a_killed_write_are_removed(states: Path) -> None:
    folder = new_state(states, RUN)
    (folder / ".state.7.partial").write_text("half")
    with claimed(folder, ALONE, print):
        assert not list(folder.glob("*.partial"))
        assert list(folder.glob("state.*.pt"))


def test_old_states_of_other_runs_are_removed_but_not_one_in_use(states: Path) -> None:
    names = [f"{digit * 16}-float32-32-float32" for digit in "abcd"]
    for age, name in enumerate(names):
        new_state(states, name, age)
    mine = new_state(states, RUN)
    with claimed(states / names[3], ALONE, print):
        prune(mine)
    assert {path.name for path in states.iterdir()} == {RUN, names[0], names[1], names[3]}


@pytest.mark.parametrize("name", ["photos", "0123456789abcdeg", f"{RUN}-float32", "deadbeefdeadbeef"])
def test_folders_of_others_are_never_removed(states: Path, name: str) -> None:
    """Neither folders with other names, nor folders with such a name that hold files which training does not write."""
    for age in range(4):
        new_state(states, f"{age}" * 16, age)
    theirs = new_state(states, name, age_seconds=1000)
    (theirs / "thesis.odt").write_text("years of work")
    (theirs / "finished.json").write_text('{"checkpoint_md5": "00"}')
    prune(new_state(states, RUN))
    forget_finished()
    assert (theirs / "thesis.odt").is_file()


def in_cache(cache: Path, content: bytes) -> str:
    """Put a file into DVC's cache, and return its MD5."""
    digest = md5(content).hexdigest()
    (cache / "files" / "md5" / digest[:2]).mkdir(parents=True, exist_ok=True)
    (cache / "files" / "md5" / digest[:2] / digest[2:]).write_bytes(content)
    return digest


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_finished_state_is_removed_when_dvc_has_recorded_the_checkpoint(
    tmp_path: Path, states: Path, elsewhere: bool
) -> None:
    """A full disk or a kill may come between any two of DVC's writes; the state is needed until the last one."""
    folder, checkpoint = new_state(states, RUN), tmp_path / "model.safetensors"
    checkpoint.write_bytes(b"weights")
    (tmp_path / ".dvc").mkdir()
    cache = tmp_path / "shared" if elsewhere else tmp_path / ".dvc" / "cache"
    if elsewhere:
        (tmp_path / ".dvc" / "config").write_text("[core]\n    analytics = false\n[cache]\n    dir = ../shared\n")
    resume_folder.finish(folder, checkpoint)
    forget_finished()
    assert folder.is_dir()
    weights_md5 = in_cache(cache, b"weights")
    forget_finished()
    assert folder.is_dir()
    entries = json.dumps([{"md5": weights_md5, "relpath": "model.safetensors"}]).encode()
    list_md5 = md5(entries).hexdigest() + ".dir"
    list_file = cache / "files" / "md5" / list_md5[:2] / list_md5[2:]
    list_file.parent.mkdir(parents=True, exist_ok=True)
    list_file.write_bytes(entries)
    forget_finished()
    assert folder.is_dir()
    (tmp_path / "dvc.lock").write_text(f"outs:\n- path: models/checkpoint\n  md5: {list_md5}\n")
    forget_finished()
    assert not folder.exists()


@pytest.mark.parametrize("content", ["", "{}", "[]", "null"])
def test_a_damaged_record_counts_as_unfinished(states: Path, content: str) -> None:
    folder = new_state(states, RUN)
    (folder / "finished.json").write_text(content)
    forget_finished()
    assert folder.is_dir()


def test_a_folder_that_another_process_removes_is_not_an_error(states: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age in range(6):
        new_state(states, f"{age}" * 16, age)
    mine = new_state(states, RUN)
    found = resume_folder._states(states)
    monkeypatch.setattr(resume_folder, "_states", lambda _parent: found)
    for folder in found:
        if folder != mine:
            shutil.rmtree(folder)
    prune(mine)
    assert [path.name for path in states.iterdir()] == [RUN]


def test_saved_formats_are_those_of_the_run(states: Path) -> None:
    new_state(states, f"{RUN}-bfloat16-8-bfloat16")
    new_state(states, "fedcba9876543210-float32-32-float32")
    assert saved_formats(RUN) == [("bfloat16", "8", "bfloat16")]


def test_a_state_in_other_number_formats_is_found(states: Path) -> None:
    other = new_state(states, f"{RUN}-bfloat16-8-bfloat16")
    new_state(states, "fedcba9876543210-bfloat16-8-bfloat16")
    assert of_other_formats(states / f"{RUN}-float32-32-bfloat16") == [other]
