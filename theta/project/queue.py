"""DVC's queue of experiments: put runs into it, start its worker, and learn what became of them.

The queue belongs to DVC: `dvc queue status` and `dvc queue logs NAME` show the same runs, which go on if this process
ends.
"""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from theta.errors import ProjectError
from theta.project.results import experiments
from theta.project.tools import dvc, environment, program

SECONDS_BETWEEN_LOOKS = 3.0
WAITING = ("Queued", "Running")
FAILED = "Failed"

_TASK = re.compile(r"[0-9a-f]{7}\s+(\S+)\s.*\s(Queued|Running|Success|Failed|Preparing)\s*")


def add(root: Path, name: str, settings: Mapping[str, str]) -> None:
    """Queue a run of the pipeline with other settings, as `dvc exp run --queue` does.

    Raises:
        ProjectError: DVC refuses, such as for a setting that does not exist.
    """
    options = [word for key, value in settings.items() for word in ("--set-param", f"{key}={value}")]
    dvc(root, "exp", "run", "--queue", "--name", name, *options)


def start(root: Path, jobs: int) -> None:
    """Start workers; where as many are running already, nothing happens.

    Raises:
        ProjectError: DVC refuses.
    """
    command = [*program("dvc"), "queue", "start", "--jobs", str(jobs)]
    # A worker keeps the output of the command that starts it open, so reading it would last as long as the worker.
    quiet = subprocess.DEVNULL
    started = subprocess.run(command, cwd=root, stdin=quiet, stdout=quiet, stderr=quiet, env=environment(), check=False)
    if started.returncode:
        raise ProjectError(f"`dvc queue start` failed in {root}; run it there to see why.")


def states(root: Path) -> dict[str, str]:
    """Return the state of each run of the queue by its name: Queued, Running, Success or Failed."""
    found = map(_TASK.fullmatch, dvc(root, "queue", "status").splitlines())
    return {each[1]: each[2] for each in found if each}


def wait(root: Path, names: Sequence[str], jobs: int) -> Iterator[dict[str, str]]:
    """Yield the states of these runs now and then until all have ended.

    A worker that has ended while a run still waits, as DVC's does after some idle seconds, is started again.
    """
    while True:
        known = states(root)
        now = {name: known.get(name, "Success" if name in experiments(root) else FAILED) for name in names}
        yield now
        waiting = [name for name, state in now.items() if state in WAITING]
        if not waiting:
            return
        if not any(state == "Running" for state in known.values()):
            start(root, jobs)
        time.sleep(SECONDS_BETWEEN_LOOKS)


def stop(root: Path, names: Sequence[str]) -> None:
    """Take these runs out of the queue, and interrupt those that are running; a training saves its state."""
    known = states(root)
    if queued := [name for name in names if known.get(name) == "Queued"]:
        dvc(root, "queue", "remove", *queued)
    if running := [name for name in names if known.get(name) == "Running"]:
        dvc(root, "queue", "kill", *running)
