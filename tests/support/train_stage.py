"""The train stage in a process of its own, for tests that stop it."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from theta.files import sha256

ROOT = Path(__file__).resolve().parents[2]
STATE = "state.*.pt"

HUNG_SECONDS = 600
"""A stage that takes longer counts as hung. On two cores two ranks took 25 seconds at a load of 3, and 78 at a load of
12, where a limit of 60 had failed."""


TO_TWO = ("--checkpoint", "two/checkpoint", "--metrics", "two/train.json", "--curves", "two/curves")
"""Options of the stage that keep its outs apart from those of the project."""


def begin(project: Path, *options: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Start the stage in a process of its own; `wrapper` are arguments of Python that run the rest of the line."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", "DVC_ROOT": str(project)}
    command = [sys.executable, *wrapper, "-m", "stages", "train", *options]
    return subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def end_of(stage: subprocess.Popen[bytes]) -> tuple[int, bytes, bytes]:
    """Wait until the stage has ended; return its exit code, its output and its errors."""
    try:
        output, errors = stage.communicate(timeout=HUNG_SECONDS)
    except subprocess.TimeoutExpired:
        stage.kill()
        raise
    return stage.returncode, output, errors


def finish(project: Path, *options: str) -> bytes:
    """Run the stage to its end, and forget the finished state, so that the next run trains again; return its output."""
    code, output, errors = end_of(begin(project, *options))
    assert code == 0, errors.decode()
    [finished] = (project / ".theta").rglob("finished.json")
    shutil.rmtree(finished.parent)
    return output


def weights(project: Path) -> str:
    return sha256(project / "models" / "checkpoint" / "model.safetensors")


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HUNG_SECONDS
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
