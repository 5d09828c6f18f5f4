"""Copies of a project in which a pipeline runs, so that the workspace stays as it is whatever happens.

    .theta/copies/PID/       a clone with the workspace's files; DVC's cache is that of the project
    .theta/copies/PID.lock   locked by the process, and by what it started

`dvc exp run --temp` runs in a copy, too. But to make it, it resets the workspace and keeps the changes in a stash,
where a kill leaves them; and its copy lacks the files that git ignores. Here the workspace is only read. What an
interrupted run has done is elsewhere already, finished stages in DVC's cache and the state of the training in
.theta/train, so the copy is thrown away, and the next run makes a new one and goes on.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import psutil

from theta.errors import ProjectError
from theta.files import remove, writing
from theta.machine.process import SIGNALS
from theta.project.tools import dvc, environment, git, program, uses_git

CODE = ("theta", "stages")
"""Folders of which new files are copied, too, before git knows them."""

SECONDS_BETWEEN_LOOKS = 0.05


@dataclass(frozen=True, slots=True)
class Copy:
    """A copy of a project.

    Attributes:
        root: the project.
        folder: the copy of it.
        lock: the descriptor of a file that is locked as long as a process works in the copy.
    """

    root: Path
    folder: Path
    lock: int


@contextmanager
def copy_of(root: Path) -> Iterator[Copy]:
    """Yield a copy of a project's tracked files as they are in the workspace, and remove it at the end.

    Raises:
        ProjectError: the project is not in a git repository with a commit, or git or DVC refuses.
        StorageError: the copy cannot be written.
    """
    if not uses_git(root):
        raise ProjectError(
            f"{root} is not in a git repository with a commit, which experiments need; run `git init && git add . && "
            "git commit --message Theta` there."
        )
    copies = root / ".theta" / "copies"
    copies.mkdir(parents=True, exist_ok=True)
    _sweep(copies)
    place = copies / str(os.getpid())
    with _locked(place.with_suffix(".lock")) as lock:
        try:
            yield Copy(root, _clone(root, place), lock)
        finally:
            remove(place)


def run(copy: Copy, *arguments: str) -> None:
    """Run DVC in the copy, with its output on the terminal.

    A signal that this process receives goes on to DVC and its stage, of which a training saves its state.

    Raises:
        ProjectError: DVC ended with an error, which it has printed.
        KeyboardInterrupt: a signal ended the run.
    """
    command = [*program("dvc"), *arguments]
    # A stage looks for bases and data, and keeps its resume state, in the project that DVC_ROOT names.
    environ = environment(DVC_ROOT=str(copy.root))
    with (
        subprocess.Popen(
            command, cwd=copy.folder, env=environ, stdin=subprocess.DEVNULL, process_group=0, pass_fds=[copy.lock]
        ) as child,
        _passed_on(child.pid) as received,
    ):
        code = child.wait()
        if received:
            _wait_for_group(child.pid)
    if received:
        raise KeyboardInterrupt
    if code:
        raise ProjectError("The pipeline stopped, as the lines above say; the workspace was not changed.")


def save_experiment(copy: Copy, name: str) -> None:
    """Save what the copy holds as an experiment of the project, with the project's last commit as its baseline.

    Raises:
        ProjectError: DVC or git refuses.
    """
    # The target leaves out releases, which are not in the copy. Metrics that git does not know yet must be named.
    dvc(copy.folder, "exp", "save", "--name", name, "--include-untracked", "metrics", "dvc.yaml")
    references = git(copy.folder, "for-each-ref", "--format=%(refname)", "refs/exps").splitlines()
    reference = next(each for each in references if each.endswith(f"/{name}"))
    git(copy.root, "fetch", "--quiet", "--no-tags", str(copy.folder), f"{reference}:{reference}")


def link(source: Path, target: Path) -> None:
    """Make a file or a folder of the project available in the copy, as links to the same content where possible."""
    for file in [source] if source.is_file() else (path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        with writing(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            remove(place)
            try:
                os.link(file, place)
            except OSError:  # on another disk, or without such links
                shutil.copyfile(file, place)


def _clone(root: Path, place: Path) -> Path:
    """Clone the repository, and write the workspace's files into the clone; return the project in it."""
    top = Path(git(root, "rev-parse", "--show-toplevel"))
    git(root, "clone", "--quiet", "--local", "--no-checkout", str(top), str(place))
    git(place, "reset", "--quiet")
    names = git(top, "ls-files", "-z").split("\0")
    project = place / root.resolve().relative_to(top.resolve())
    names += git(root, "ls-files", "-z", "--full-name", "--others", "--exclude-standard", "--", *CODE).split("\0")
    for name in filter(None, names):
        if os.path.lexists(top / name):
            _copy_file(top / name, place / name)
    for key, usual in {"user.name": "theta", "user.email": "theta@localhost"}.items():
        git(place, "config", key, git(root, "config", "--default", usual, "--get", key))
    local = root / ".dvc" / "config.local"
    if local.is_file():
        _copy_file(local, project / ".dvc" / "config.local")
    dvc(project, "config", "--local", "cache.dir", dvc(root, "cache", "dir"))
    dvc(project, "config", "--local", "core.autostage", "true")
    return project


def _copy_file(source: Path, target: Path) -> None:
    if source.is_dir() and not source.is_symlink():  # a submodule
        return
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Lock a file as long as this process, or one that inherited the descriptor, is running."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        _try_to_lock(lock)
        yield lock
    finally:
        remove(path)
        os.close(lock)


def _try_to_lock(lock: int) -> bool:
    import fcntl

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(copies: Path) -> None:
    """Remove the copies of processes that were killed, unless what they started is still running."""
    for path in copies.glob("*.lock"):
        lock = os.open(path, os.O_RDWR)
        try:
            if _try_to_lock(lock):
                remove(path.with_suffix(""))
                remove(path)
        finally:
            os.close(lock)


@contextmanager
def _passed_on(group: int) -> Iterator[Sequence[int]]:
    """Pass signals on to a group of processes while the block runs; yield a list of those that came.

    Ctrl-C interrupts, another signal terminates. A second one terminates in any case, and a third one kills.
    """
    received: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        first = signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
        steps = (first, signal.SIGTERM, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.killpg(group, steps[min(len(received), len(steps) - 1)])
        received.append(number)

    # Ignored signals stay ignored: nohup ignores SIGHUP.
    numbers = [number for name in SIGNALS if signal.getsignal(number := getattr(signal, name)) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, pass_on) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _wait_for_group(group: int) -> None:
    """Wait until no process of a group is at work: a stage outlives DVC while it saves its state."""
    while any(_is_at_work(process, group) for process in psutil.process_iter()):
        time.sleep(SECONDS_BETWEEN_LOOKS)


def _is_at_work(process: psutil.Process, group: int) -> bool:
    # A process that has ended may stay in the table: not every container has an init that removes it.
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, PermissionError, psutil.Error):
        return False
