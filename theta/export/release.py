"""A dated copy of an exported folder, which later runs may start from: models/theta_enhanced_YYYYMMDD/theta_final."""

import shutil
from datetime import date
from pathlib import Path

from theta.errors import ExportError
from theta.files import replacing
from theta.generate.folder import lacking


def release(model: Path, output: Path, day: date) -> Path:
    """Copy `model` to `output`/theta_enhanced_YYYYMMDD/theta_final, whole or not at all.

    Args:
        model: a folder that the export stage wrote.
        output: the folder of the releases, such as models.
        day: the date in the name.

    Returns:
        The new folder.

    Raises:
        ExportError: `model` is missing or not whole, or there is a release of that day.
    """
    if not model.is_dir():
        raise ExportError(f"{model} is not a folder; `dvc repro` makes models/theta_final.")
    if absent := lacking(model):
        raise ExportError(f"{model} lacks {', '.join(absent)}; `dvc repro export` writes a whole folder.")
    target = output / f"theta_enhanced_{day:%Y%m%d}" / "theta_final"
    if target.exists():
        raise ExportError(f"{target} exists already and is left as it is; rename or remove {target.parent} first.")
    with replacing(target) as temporary:
        # Contents only: DVC may keep its outs as read-only links into its cache.
        shutil.copytree(model, temporary, copy_function=shutil.copyfile)
    return target
