"""The folder of a resume state: named by what made it, used by one run at a time, and not left behind for ever."""

import os
from pathlib import Path

import pytest

from tests.support.runs import SETTINGS
from theta.errors import TrainingError
from theta.train.resume import OTHERS_KEPT, claimed, resume_folder

COMPUTE = {"device": "cpu", "precision": "float32", "threads": 1}


def test_whatever_changes_the_weights_changes_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    data = tmp_path / "data"
    data.write_text("a")
    settings = SETTINGS.model_dump()
    first = resume_folder(settings, COMPUTE, [data])
    others = {
        resume_folder({**settings, "learning_rate": 0.5}, COMPUTE, [data]),
        resume_folder(settings, {**COMPUTE, "threads": 2}, [data]),
        resume_folder(settings, {**COMPUTE, "precision": "bfloat16"}, [data]),
    }
    assert resume_folder({**settings, "steps_per_checkpoint": 9}, COMPUTE, [data]) == first
    data.write_text("b")
    others.add(resume_folder(settings, COMPUTE, [data]))
    assert len(others - {first}) == 4
    assert all(folder.is_relative_to(tmp_path / ".theta") for folder in others)


def test_two_runs_never_share_a_folder(tmp_path: Path) -> None:
    another = pytest.raises(TrainingError, match="Another process is training with the same settings")
    with claimed(tmp_path / "state"), another, claimed(tmp_path / "state"):
        pass
    with claimed(tmp_path / "state"):
        pass


def test_old_states_and_leftovers_go(tmp_path: Path) -> None:
    for age, name in enumerate(["newest", "second", "third", "oldest"]):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lock").touch()
        os.utime(tmp_path / name, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / ".state.pt.7.partial").write_text("half")
    with claimed(tmp_path / "oldest"), claimed(tmp_path / "mine") as mine:
        assert [path.name for path in mine.iterdir()] == ["lock"]
    left = {path.name for path in tmp_path.iterdir()}
    assert OTHERS_KEPT == 2
    assert left == {"mine", "oldest", "second", "newest"}, "the oldest is in use"
