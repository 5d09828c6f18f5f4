"""Releases in DVC and in the GTO registry: DVC keeps the folder, git its record, and a tag of GTO names the version.

models/NAME.dvc    what DVC tracks, in a commit of its own
theta@v2.0.0       the version of the artifact `theta` of dvc.yaml, a git tag at that commit
"""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from theta.errors import ProjectError, reason
from theta.export.release import of_folder, of_project
from theta.files import remove
from theta.project.tools import dvc, git, uses_git

FINAL = "models/theta_final"
ARTIFACT = "theta"
"""The artifact of dvc.yaml whose versions are registered."""


def release(root: Path, model: Path, target: Path) -> str | None:
    """Make a release in a project; DVC tracks it, and the registry knows it if it holds the project's own model.

    Args:
        root: the project.
        model: the folder of the model: that of the pipeline, or another one, such as a result of `theta finetune`.
        target: the folder of the release, inside the project.

    Returns:
        The version, such as v2.0.0; None without git, and for another model.

    Raises:
        ProjectError: the pipeline is not up to date, or DVC, git or GTO refuses.
        ExportError, DataError, StorageError: as `theta.export.release.of_project`.
    """
    is_own = model.resolve() == (root / FINAL).resolve()
    if is_own:
        check_up_to_date(root)
        of_project(root, target, git(root, "rev-parse", "HEAD") if uses_git(root) else "unknown")
    else:
        of_folder(model, target)
    return _record(root, target.resolve(), register=is_own)


def check_up_to_date(root: Path) -> None:
    """Refuse a project whose model is not what its settings, data and code make, or whose commit does not say so.

    Raises:
        ProjectError: a stage would run, or a tracked file has changes that no commit holds.
    """
    status: Mapping[str, list[object]] = json.loads(dvc(root, "status", "--json") or "{}")
    changed = [
        name
        for name, why in status.items()
        if not name.endswith(".dvc") and [each for each in why if each != "always changed"]
    ]
    if changed:
        raise ProjectError(
            f"The pipeline is not up to date ({', '.join(changed)} would run); run `dvc repro`, then release."
        )
    if uses_git(root):
        _check_committed(root)


def _check_committed(root: Path) -> None:
    lines = git(root, "status", "--porcelain", "--untracked-files=no", "--", ".").splitlines()
    if lines:
        names = [line[3:] for line in lines]
        shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        raise ProjectError(
            f"The changes to {shown} are not committed; a release names the commit that made it. Run "
            "`git add --update && git commit --message 'What is new'`, then release."
        )
    git(root, "var", "GIT_COMMITTER_IDENT")  # git says here, and not after the copy, that it does not know the user


def _record(root: Path, folder: Path, *, register: bool) -> str | None:
    """Let DVC track a new release, commit its record, and register the version.

    If a program refuses, the release is removed again, so that it exists completely or not at all.

    Args:
        root: the project.
        folder: the release.
        register: whether the commit's `models/theta_final` is the model of the release.
    """
    name = folder.relative_to(root).as_posix()
    committed = git(root, "rev-parse", "HEAD") if uses_git(root) else None
    paths = [f"{name}.dvc", (folder.parent / ".gitignore").relative_to(root).as_posix()]
    try:
        dvc(root, "add", "--quiet", name)
        if committed is None:
            return None
        git(root, "add", "--", *paths)
        git(root, "commit", "--quiet", "--message", f"Release {name}", "--", *paths)
        return _register(root, name) if register else None
    except BaseException:
        _undo(root, folder, paths, committed)
        raise


def _undo(root: Path, folder: Path, paths: Sequence[str], committed: str | None) -> None:
    """Take back what was done for a release, also where one of the programs refuses that, too."""
    with suppress(ProjectError):
        if committed:
            git(root, "reset", "--quiet", "--soft", committed)
    with suppress(ProjectError):
        dvc(root, "remove", "--quiet", paths[0])  # and its line in .gitignore
    with suppress(ProjectError):
        if committed:
            git(root, "reset", "--quiet", "--", *paths)
    remove(root / paths[0])
    remove(folder)


def versions(root: Path) -> dict[str, str]:
    """Return the version of each release that was registered, by the path of the release."""
    if not uses_git(root):
        return {}
    tags = git(root, "for-each-ref", "--format=%(refname:short)\t%(contents:subject)", "refs/tags")
    found = {}
    for line in tags.splitlines():
        tag, _, subject = line.partition("\t")
        if version := re.search(rf"(?:^|=){ARTIFACT}@(v\d+\.\d+\.\d+)$", tag):
            found[subject] = version[1]
    return found


def _register(root: Path, name: str) -> str:
    """Register the next version of the artifact at HEAD; the message of its tag is the path of the release."""
    from gto import api
    from gto.exceptions import GTOException

    top = Path(git(root, "rev-parse", "--show-toplevel"))
    below = root.resolve().relative_to(top.resolve()).as_posix()
    artifact = ARTIFACT if below == "." else f"{below}:{ARTIFACT}"
    version = None if versions(root) else "v1.0.0"
    try:
        made = api.register(str(top), artifact, "HEAD", version=version, message=name, bump_major=version is None)
    except GTOException as fault:
        raise ProjectError(f"GTO could not register {name}: {reason(fault)}") from None
    return str(made.version)
