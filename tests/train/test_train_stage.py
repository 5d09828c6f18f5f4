"""The train stage as DVC runs it: killed, orphaned, and run twice."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from stages.fetch import fetch
from stages.prepare import prepare
from stages.tokenize import tokenize
from theta.files import read_json, sha256, write_json

ROOT = Path(__file__).resolve().parents[2]
STATE = "state.pt"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which everything before training is done, for twelve short conversations."""
    folder = tmp_path_factory.mktemp("project")
    items = [{"question": f"What is {i} plus one?", "answer": f"It is {i + 1}, {i + 1}."} for i in range(30)]
    write_json(folder / "Datasets" / "mine" / "sums.json", items)
    values = yaml.safe_load((ROOT / "params.yaml").read_text())
    values["model"]["base"] = "scratch:nano"
    values["data"] |= {"path": "Datasets/mine", "validation_fraction": 0.1, "test_fraction": 0.1}
    values["tokenizer"]["max_length"] = 64
    values["train"] |= {"epochs": 6, "tokens_per_step": 128, "steps_per_checkpoint": 2}
    values["train"] |= {"threads": 1, "precision": "float32"}
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        fetch()
        prepare()
        tokenize()
    return folder


@pytest.fixture(scope="module")
def uninterrupted(project: Path) -> str:
    """The digest of the weights of a run that nothing disturbs."""
    finish(project)
    return weights(project)


def begin(project: Path, wrapper: str = "", output: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start the stage in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DVC_ROOT": str(project)}
    command = [sys.executable, "-m", "stages", "train"]
    if wrapper:
        command = [sys.executable, "-c", wrapper, *command]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=output, stderr=output)


def finish(project: Path) -> None:
    """Run the stage to its end."""
    assert begin(project, output=subprocess.DEVNULL).wait(60) == 0


def weights(project: Path) -> str:
    return sha256(project / "models" / "checkpoint" / "model.safetensors")


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()


def has_state(project: Path) -> bool:
    return any((project / ".theta").rglob(STATE))


def test_two_runs_write_the_same_bytes_and_leave_no_state(project: Path, uninterrupted: str) -> None:
    metrics = read_json(project / "metrics" / "train.json")
    finish(project)
    assert weights(project) == uninterrupted
    assert read_json(project / "metrics" / "train.json") == metrics
    assert not has_state(project)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 1), (signal.SIGTERM, 1)])
def test_a_stopped_run_goes_on_to_the_same_weights(
    project: Path, uninterrupted: str, number: signal.Signals, code: int
) -> None:
    first = begin(project)
    wait_until(lambda: has_state(project) or first.poll() is not None)
    first.send_signal(number)
    _, errors = first.communicate(timeout=60)
    assert first.returncode == code
    assert has_state(project)
    assert b"Traceback" not in errors
    if number != signal.SIGKILL:
        assert f"({number.name} received); run the same command again".encode() in errors
    second = begin(project)
    output, _ = second.communicate(timeout=60)
    assert second.returncode == 0, output
    assert weights(project) == uninterrupted


def test_training_ends_when_its_parent_is_gone(project: Path, uninterrupted: str) -> None:
    """As when DVC is terminated: nothing tells the stage, it has to notice."""
    wrapper = "import subprocess as s, sys; child = s.Popen(sys.argv[1:]); print(child.pid, flush=True); child.wait()"
    parent = begin(project, wrapper)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    wait_until(lambda: has_state(project))
    parent.kill()
    parent.communicate(timeout=60)  # the child holds the pipe until it ends
    wait_until(lambda: not is_alive(child))
    assert has_state(project)
    finish(project)
    assert weights(project) == uninterrupted
