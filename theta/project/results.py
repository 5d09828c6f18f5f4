"""What a run was and what came of it, read alike from a release, an experiment, a git revision or the workspace.

All of them hold the same small files: params.yaml, dvc.lock, metrics/*.json and metrics/replies.yaml.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from theta.bases.descriptors import PROVENANCE
from theta.errors import ProjectError
from theta.export.release import model_in
from theta.project.tools import git, uses_git

WORKSPACE = "workspace"
STAGES = ("evaluate", "train", "export", "prepare", "tokenize")
"""The stages with metrics, those that tell most about the model first."""
BASE_AND_DATA = ("models/base/weights.json", "models/base/data.json")
"""Outs whose digests in dvc.lock tell whether two runs had the same base and the same data."""

Read = Callable[[str], str | None]
"""Returns the text of a file of a run, or None if the run has no such file."""


@dataclass(frozen=True, slots=True)
class Results:
    """A run.

    Attributes:
        settings: of params.yaml, by section and key, such as train.epochs.
        inputs: digests of the base and the data.
        metrics: figures by stage and name, such as evaluate.test.loss_nats_per_token.
        replies: the reply to each question of metrics/replies.yaml.
    """

    name: str
    settings: Mapping[str, Any]
    inputs: Mapping[str, Any]
    metrics: Mapping[str, Any]
    replies: Mapping[str, str]


def find(root: Path, name: str) -> Results:
    """Return the run of that name.

    Args:
        root: the project.
        name: the folder of a release or a name in models/, `workspace`, an experiment, or a git revision.

    Raises:
        ProjectError: there is no run of that name, or it holds no results.
    """
    read = _reader(root, name)
    settings, lock = _yaml(name, read, "params.yaml"), _yaml(name, read, "dvc.lock")
    metrics = {stage: json.loads(text) for stage in STAGES if (text := read(f"metrics/{stage}.json"))}
    if not settings or not metrics:
        raise ProjectError(f"{name} holds no results (params.yaml and metrics); run `dvc repro` and commit them.")
    return Results(
        name,
        dict(flat(settings)),
        _inputs(lock),
        dict(flat(metrics)),
        _replies(_yaml(name, read, "metrics/replies.yaml")),
    )


def summary(release: Path) -> dict[str, Any]:
    """Return the main figures of a release: what it was made from, and how well it answers."""
    read = _in_folder(release)
    made = json.loads(read(PROVENANCE) or "{}")
    metrics = {stage: json.loads(read(f"metrics/{stage}.json") or "{}") for stage in STAGES}
    answers = metrics["evaluate"].get("answers") or {}
    return {
        "base": made.get("base", {}).get("name"),
        "data": made.get("data", {}).get("path"),
        "conversations": metrics["prepare"].get("kept"),
        "answers": (answers.get("trained") or {}).get("share"),
        "new wordings": (answers.get("new_wordings") or {}).get("share"),
        "test loss": (metrics["evaluate"].get("test") or {}).get("loss_nats_per_token"),
        "chrF": (metrics["evaluate"].get("replies") or {}).get("chrf"),
        "MB": metrics["export"].get("megabytes"),
    }


def flat(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values with the keys of each path joined by dots."""
    for name, each in value.items():
        if isinstance(each, Mapping) and each:
            yield from flat(each, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", each


def experiments(root: Path) -> dict[str, str]:
    """Return the commit of each experiment of DVC, by its name."""
    if not uses_git(root):
        return {}
    lines = git(root, "for-each-ref", "--format=%(refname)\t%(objectname)", "refs/exps").splitlines()
    found = [re.fullmatch(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)\t(\w+)", line) for line in lines]
    return {each[1]: each[2] for each in found if each}


def _reader(root: Path, name: str) -> Read:
    if name == WORKSPACE:
        return _in_folder(root)
    for folder in (Path(name), root / name, root / "models" / name):
        if (folder / "params.yaml").is_file() or model_in(folder) != folder:
            return _in_folder(folder)
        if (folder.parent / "params.yaml").is_file() and folder.name == "theta_final":
            return _in_folder(folder.parent)
    if not uses_git(root):
        raise ProjectError(
            f"{name} is not a release, and without git there are no other runs; `theta releases` lists them."
        )
    commit = experiments(root).get(name, name)
    try:
        commit = git(root, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}")
    except ProjectError:
        raise ProjectError(
            f"{name} is not a release, an experiment or a git revision; `theta releases` and `dvc exp list` list them."
        ) from None
    held = set(git(root, "ls-tree", "-r", "--name-only", commit).splitlines())  # relative to the project
    return lambda file: git(root, "show", f"{commit}:./{file}") if file in held else None


def _in_folder(folder: Path) -> Read:
    return lambda file: (folder / file).read_text(encoding="utf-8") if (folder / file).is_file() else None


def _yaml(name: str, read: Read, file: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(read(file) or "")
    except YAMLError:
        raise ProjectError(f"{file} of {name} is not valid YAML; name another run, or make it again.") from None


def _inputs(lock: Any) -> dict[str, Any]:
    outs = ((lock or {}).get("stages") or {}).get("fetch", {}).get("outs", [])
    digests = {out["path"]: out.get("md5") for out in outs}
    return {Path(path).stem: digests[path] for path in BASE_AND_DATA if path in digests}


def _replies(page: Any) -> dict[str, str]:
    return {_question(entry): str(entry["reply"]) for entry in page or []}


def _question(entry: Mapping[str, Any]) -> str:
    return "\n".join(str(message["content"]) for message in entry["messages"] if message["role"] == "user")
