"""The folder of the project, and git and DVC as programs that run in it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from theta.errors import ProjectError

MARKS = ("dvc.yaml", "params.yaml", "stages/__main__.py", ".dvc")
"""What every project has."""


def find_root(start: Path) -> Path:
    """Return the project that `start` is in.

    Raises:
        ProjectError: neither `start` nor a folder above it is a project.
    """
    for folder in (start.resolve(), *start.resolve().parents):
        if all((folder / mark).exists() for mark in MARKS):
            return folder
    raise ProjectError(
        f"{start.absolute()} is not in a Theta project (a folder with {', '.join(MARKS)}): clone Theta's repository "
        "and run this there."
    )


def uses_git(root: Path) -> bool:
    """Whether the project is in a git repository that has a commit."""
    return _run(root, "git", "rev-parse", "--verify", "--quiet", "HEAD").returncode == 0


def git(root: Path, *arguments: str) -> str:
    """Run git in the project and return what it printed, without the line end.

    Raises:
        ProjectError: git refuses, or is not installed.
    """
    return _checked(root, "git", *arguments)


def dvc(root: Path, *arguments: str) -> str:
    """Run DVC in the project and return what it printed, without the line end.

    Raises:
        ProjectError: DVC refuses.
    """
    return _checked(root, *program("dvc"), *arguments)


def program(name: str) -> tuple[str, ...]:
    """Return the command that runs a program of this Python environment, such as dvc, whatever the PATH is."""
    return (sys.executable, "-m", name)


def environment(**changes: str) -> Mapping[str, str]:
    """Return the environment for DVC: its stages find the Python that runs now, also if no environment is active."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path, **changes}


def _checked(root: Path, *command: str) -> str:
    done = _run(root, *command)
    if done.returncode:
        name = " ".join(command[command.index("dvc") :] if "dvc" in command else command)
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        # DVC's line that begins with ERROR says what is wrong; git ends with it.
        why = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
        raise ProjectError(f"`{name}` failed in {root}: {why.removeprefix('ERROR: ').strip()}")
    return done.stdout.rstrip("\n")


def _run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            cwd=root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            env=environment(),
            check=False,
        )
    except FileNotFoundError:
        raise ProjectError(f"{command[0]} is not installed; install it and run this again.") from None
