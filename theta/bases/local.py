"""Bases that are folders on this machine, named so that the name is valid in every copy of the project.

`dvc exp run --temp` and `--queue` work in a copy of the project without the files that git ignores. A relative name is
therefore looked up in the current folder and then in $DVC_ROOT, which is the original project.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from theta.errors import BaseModelError


def folders(base: str) -> list[Path]:
    """Return the existing folders that `base` may name, in order of preference."""
    return [folder for folder in _candidates(base) if folder.is_dir()]


def portable_name(base: str, folder: Path) -> str:
    """Return `folder` relative to the project, or `base` unchanged if the folder is outside of it."""
    root = next((root for root in _roots() if folder.is_relative_to(root)), None)
    return base if root is None else folder.relative_to(root).as_posix()


def refuse_missing(base: str) -> None:
    """Refuse a `base` that is not a folder and cannot be the name of a model on the hub.

    Raises:
        BaseModelError: `base` is a file, has the form of a path, or its first part is a folder.
    """
    if any(path.exists() for path in _candidates(base)):
        raise BaseModelError(f"model.base '{base}' is not a folder; name the folder that holds config.json.")
    first, _, rest = base.replace("\\", "/").partition("/")
    if base.startswith((".", "/", "~")) or "/" in rest or (rest and any((root / first).is_dir() for root in _roots())):
        looked_in = " and ".join(map(str, _roots()))
        raise BaseModelError(f"model.base '{base}': this folder does not exist (looked in {looked_in}).")


def refuse_cycle(base: str, outs: Sequence[Path]) -> None:
    """Refuse a `base` inside a folder that the pipeline writes, also through links and other spellings.

    Raises:
        BaseModelError: `base` is inside one; the message explains how to continue from such a model.
    """
    written = [(out, (root / out).resolve()) for root in _roots() for out in outs]
    for folder in _candidates(base):
        for out, path in written:
            if folder.resolve().is_relative_to(path):
                raise BaseModelError(
                    f"model.base '{base}' is in {out.as_posix()}, which this pipeline writes from its base: a cycle. "
                    f"Run `theta release`, which copies the model to models/theta_enhanced_YYYYMMDD/theta_final, and "
                    f"set model.base to that folder."
                )


def _candidates(base: str) -> list[Path]:
    path = Path(base).expanduser() if base.startswith("~/") else Path(base)
    return [root / path for root in _roots()]


def project() -> Path:
    """Return the folder of the project; from a temporary copy of it, that of the original."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd())


def _roots() -> list[Path]:
    return list(dict.fromkeys([Path.cwd(), project()]))
