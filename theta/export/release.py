"""A dated copy of an exported folder, from which later runs may start: models/theta_enhanced_YYYYMMDD/theta_final."""

import shutil
from datetime import date
from pathlib import Path

from theta.errors import ExportError
from theta.files import replacing_folder, writing
from theta.generate.folder import lacking


def release(model: Path, output: Path, day: date) -> Path:
    """Copy `model` to `output`/theta_enhanced_YYYYMMDD/theta_final, completely or not at all.

    Args:
        model: a folder that the export stage wrote.
        output: the folder of the releases, such as models.
        day: the date in the name.

    Returns:
        The new folder.

    Raises:
        ExportError: `model` is missing or incomplete, or there is already a release of that day.
        StorageError: the copy cannot be written.
    """
    if not model.is_dir():
        raise ExportError(f"{model} is not a folder; run `dvc repro` to create models/theta_final.")
    if absent := lacking(model):
        raise ExportError(f"{model} lacks {', '.join(absent)}; run `dvc repro export` to write it completely.")
    target = output / f"theta_enhanced_{day:%Y%m%d}" / "theta_final"
    if target.exists():
        raise ExportError(f"{target} already exists and was not changed; rename or remove {target.parent} first.")
    with replacing_folder(target) as temporary:
        # copytree would name all files that failed in a single message of thousands of characters.
        temporary.mkdir()
        for file in sorted(model.rglob("*")):
            copy = temporary / file.relative_to(model)
            if file.is_dir():
                copy.mkdir()
            else:
                with writing(copy):
                    shutil.copyfile(file, copy)  # without modes: DVC may keep its outs as read-only links
    return target
