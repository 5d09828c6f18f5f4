import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.imports import ROOT
from tests.support.project import git, tree
from theta.errors import ProjectError
from theta.project import copies
from theta.project.copies import copy_of, link, save_experiment
from theta.project.results import experiments, find

pytestmark = pytest.mark.slow

PIPELINE_IN_A_COPY = """\
import sys
from pathlib import Path
from theta.cli.errors import one_line
from theta.project.copies import copy_of, run, save_experiment
with one_line(), copy_of(Path(sys.argv[1])) as copy:
    (copy.folder / "params.yaml").write_text(f"train:\\n  seconds: {sys.argv[2]}\\n  epochs: 4\\n")
    run(copy, "repro")
    save_experiment(copy, "tried")
"""


def start(project: Path, seconds: float) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PIPELINE_IN_A_COPY, str(project), str(seconds)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(happened: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def copies_of(project: Path) -> list[str]:
    return sorted(path.name for path in (project / ".theta/copies").iterdir())


def test_a_copy_has_the_files_as_they_are_and_goes_away(project: Path) -> None:
    (project / "params.yaml").write_text("train:\n  seconds: 0.5\n")  # not committed
    (project / "stages/new.py").write_text("# git does not know it yet")
    (project / "other.txt").write_text("of no stage")
    before = tree(project)
    with copy_of(project) as copy:
        assert set(tree(copy.folder)) == set(before) - {"other.txt"}
        assert (copy.folder / "params.yaml").read_bytes() == before["params.yaml"]
        (copy.folder / "params.yaml").write_text("changed")
        assert git(copy.folder, "rev-parse", "HEAD") == git(project, "rev-parse", "HEAD")
    assert copies_of(project) == []
    assert tree(project) == before


def test_data_is_linked_and_not_copied(project: Path, tmp_path: Path) -> None:
    (project / "mine/sub").mkdir(parents=True)
    (project / "mine/sub/a.json").write_text("[]")
    link(project / "mine", tmp_path / "copy/mine")
    assert (tmp_path / "copy/mine/sub/a.json").samefile(project / "mine/sub/a.json")
    link(project / "wait.py", tmp_path / "copy/wait.py")
    assert (tmp_path / "copy/wait.py").samefile(project / "wait.py")


def test_without_a_commit_there_is_no_copy(project: Path) -> None:
    shutil.rmtree(project / ".git")
    git(project, "init", "--quiet")
    with pytest.raises(ProjectError, match=r"git init && git add"), copy_of(project):
        pass


def test_a_run_becomes_an_experiment_and_leaves_the_workspace(project: Path) -> None:
    before, head = tree(project), git(project, "rev-parse", "HEAD")
    running = start(project, 0.25)
    assert running.communicate(timeout=120)[1] == ""
    assert running.returncode == 0
    assert tree(project) == before | {"started": (project / "started").read_bytes()}
    assert git(project, "rev-parse", "HEAD") == head
    assert copies_of(project) == []
    found = find(project, "tried")
    assert found.settings["train.seconds"] == found.metrics["train.validation_loss"] == 0.25


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_reaches_the_stage_and_leaves_nothing(project: Path, number: signal.Signals) -> None:
    before = tree(project)
    running = start(project, 60)
    wait_for((project / "started").exists)
    time.sleep(0.3)  # until the stage sleeps
    running.send_signal(number)
    _, printed = running.communicate(timeout=60)
    assert running.returncode == 130, printed
    assert printed.splitlines()[-1] == "Interrupted."
    assert (project / "interrupted").exists()
    assert set(tree(project)) == {*before, "started", "interrupted"}
    assert (copies_of(project), experiments(project)) == ([], {})


def test_a_killed_run_is_swept_away_when_all_of_it_has_ended(project: Path) -> None:
    running = start(project, 4)
    wait_for((project / "started").exists)
    running.kill()
    running.wait(60)  # its stage goes on, and keeps the pipes open
    folder = Path((project / "started").read_text())
    copies._sweep(project / ".theta/copies")
    assert folder.is_dir()  # the stage is still at work in it
    wait_for((folder / "models/out.txt").exists)

    def swept() -> bool:
        copies._sweep(project / ".theta/copies")
        return not folder.exists()

    wait_for(swept)
    assert copies_of(project) == []
    running.communicate(timeout=60)


def test_an_experiment_needs_a_new_name(project: Path) -> None:
    for outcome in (None, ProjectError):
        with copy_of(project) as copy:
            (copy.folder / "params.yaml").write_text(f"train:\n  seconds: 1\n  epochs: {outcome is None}\n")
            (copy.folder / "models").mkdir()
            (copy.folder / "models/out.txt").write_text("x")
            (copy.folder / "metrics").mkdir()
            (copy.folder / "metrics/train.json").write_text("{}")
            if outcome:
                with pytest.raises(outcome):
                    save_experiment(copy, "a")
            else:
                save_experiment(copy, "a")
    assert set(experiments(project)) == {"a"}
