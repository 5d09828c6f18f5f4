"""A real project: this repository's pipeline in a repository of its own, with a tiny base and a few conversations."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

from tests.support.imports import ROOT

CONVERSATIONS = {
    "What is a kernel?": "The part of a system that talks to the hardware.",
    "What is DNS?": "DNS turns names into addresses.",
    "How do I list files?": "Use ls.",
    "Who are you?": "An assistant of few words.",
    "What is a shell?": "A program that reads commands.",
    "What is a port?": "A number that names a service.",
    "What is a fork?": "A copy of a process.",
    "How do I leave vim?": "Type :q and press Enter.",
    "What is a commit?": "A saved state of a project.",
    "What is a cache?": "A place for what is used again.",
}
FILES = (
    "dvc.yaml", "params.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", ".dvc/plots.html",
    "models/.gitignore",
)  # fmt: skip
SETTINGS: dict[str, dict[str, object]] = {
    "model": {"base": "scratch:nano"},
    "data": {"path": "Datasets/conversations", "validation_fraction": 0.1, "test_fraction": 0.1},
    "tokenizer": {"max_length": 64},
    "train": {"epochs": 1, "tokens_per_step": 64, "learning_rate": 1e-3},
    "generation": {"max_length": 8},
    "evaluate": {"replies": 1},
    "machine": {"device": "cpu", "devices": 1, "threads": 1},
}


def make(root: Path) -> Path:
    """Create the project and commit it; nothing has run."""
    for name in ("theta", "stages"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    data = root / "Datasets/conversations/it.json"
    data.parent.mkdir(parents=True)
    data.write_text(json.dumps([{"question": q, "answer": a} for q, a in CONVERSATIONS.items()]))
    change(root, SETTINGS)
    git(root, "init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "x", "user.email": "x@example.org", "commit.gpgsign": "false"}.items():
        git(root, "config", key, value)
    commit(root, "Begin")
    return root


def change(root: Path, settings: dict[str, dict[str, object]]) -> None:
    """Change settings in params.yaml."""
    yaml = YAML()
    params = yaml.load(root / "params.yaml")
    for section, values in settings.items():
        params[section].update(values)
    yaml.dump(params, root / "params.yaml")


def commit(root: Path, message: str) -> None:
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--message", message)


def git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def run(root: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run dvc, gto or theta in the project, with the project's own code."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    code = root if (root / "theta").is_dir() else ROOT
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(code)}
    environment.pop("DVC_ROOT", None)
    words = [sys.executable, "-m", *command] if command[0] in ("dvc", "theta") else list(command)
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


def tree(root: Path) -> dict[str, bytes]:
    """All files of the project but those of git, of DVC and of what Theta remembers."""
    hidden = {".git", ".dvc", ".theta", "__pycache__"}
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not hidden & set(path.relative_to(root).parts)
    }
