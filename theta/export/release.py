"""A dated copy of an exported folder, from which later runs may start: models/theta_enhanced_YYYYMMDD/theta_final."""

import shutil
from datetime import date
from pathlib import Path

from theta.errors import ExportError
from theta.files import replacing_folder, writing
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
        StorageError: the copy cannot be written.
    """
    if not model.is_dir():
        raise ExportError(f"{model} is not a folder; `dvc repro` makes models/theta_final.")
    if absent := lacking(model):
        raise ExportError(f"{model} lacks {', '.join(absent)}; `dvc repro export` writes a whole folder.")
    target = output / f"theta_enhanced_{day:%Y%m%d}" / "theta_final"
    if target.exists():
        raise ExportError(f"{target} exists already and is left as it is; rename or remove {target.parent} first.")
    with replacing_folder(target) as temporary:
        # Not by copytree, which names the files that failed in one message of thousands of letters.
        temporary.mkdir()
        for file in sorted(model.rglob("*")):
            copy = temporary / file.relative_to(model)
            if file.is_dir():
                copy.mkdir()
            else:
                with writing(copy):
                    shutil.copyfile(file, copy)  # contents only: DVC may keep its outs as read-only links
    return target
