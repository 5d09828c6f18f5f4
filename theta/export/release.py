"""Releases: models/theta_enhanced_YYYYMMDD, the model of a run with all that is known about it; never changed again.

theta_final/       the exported model, from which a later run may start
rehearsal.jsonl    a sample of what it was taught, which that run rehearses; it may be private
metrics/           the figures of the run, its replies and its report
params.yaml        its settings, and dvc.lock, the digests of what it read and wrote
provenance.json    its data, settings and base, and theirs, back to the first base
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from datetime import date
from itertools import chain, count
from pathlib import Path
from typing import Any

from theta.bases.descriptors import MODEL_OF_RELEASE, PROVENANCE, REHEARSAL
from theta.errors import ExportError
from theta.export import rehearsal
from theta.files import digest, read_json, replacing_folder, write_json, writing
from theta.generate.folder import lacking

MODEL = MODEL_OF_RELEASE
METRICS = ("*.json", "replies.yaml", "report.html")
"""Files of the folder metrics that a release keeps; curves and images are in git."""
RECORDS = ("params.yaml", "dvc.lock")
PARTS = (REHEARSAL, PROVENANCE, *RECORDS, "metrics")
"""What a release holds beside the model."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
RESERVED = ("base", "checkpoint", "starter", MODEL, "exports", "gguf", "ctranslate2", "onnx")
"""Folders of models that hold something else."""


def path_of(output: Path, day: date, name: str | None) -> Path:
    """Return the folder of a new release: `output`/theta_enhanced_YYYYMMDD, with _2, _3, ... after the first of a day.

    Args:
        output: the folder of the releases.
        day: the date in the name.
        name: another name; None for that of the day.

    Raises:
        ExportError: the name cannot be that of a folder, or the folder exists.
    """
    if name is None:
        return free(output / f"theta_enhanced_{day:%Y%m%d}")
    if not NAME.fullmatch(name) or name in RESERVED:
        raise ExportError(f"--name is {name!r}; use letters, digits, '.', '_' and '-', and not {', '.join(RESERVED)}.")
    if (output / name).exists():
        raise ExportError(f"{output / name} already exists and was not changed; choose another --name.")
    return output / name


def numbered(name: str) -> Iterator[str]:
    """Yield `name`, NAME_2, NAME_3, ... without end."""
    return chain([name], (f"{name}_{number}" for number in count(2)))


def free(path: Path) -> Path:
    """Return `path`, or the first of path_2, path_3, ... that does not exist, nor its record of DVC."""
    return next(
        path.with_name(name)
        for name in numbered(path.name)
        if not path.with_name(name).exists() and not path.with_name(f"{name}.dvc").exists()
    )


def of_project(root: Path, target: Path, revision: str) -> Path:
    """Assemble a release from the outs of a project's pipeline, completely or not at all.

    Args:
        root: the project.
        target: the folder of the release, which must not exist.
        revision: the project's git revision.

    Returns:
        The folder of the model in it.

    Raises:
        ExportError: the model is missing or incomplete, or `target` exists.
        DataError: a file of the pipeline is missing or damaged.
        StorageError: the release cannot be written.
    """
    model = root / "models" / MODEL
    _check(model, target)
    made_by = read_json(root / "models/checkpoint" / PROVENANCE, "settings", "base")
    data = read_json(root / "models/base/data.json", "path", "files")
    with replacing_folder(target) as folder:
        _copy(model, folder / MODEL)
        rehearsal.write(root / "Datasets/prepared", folder, keeps_answers=bool(made_by["base"].get("fine_tuned")))
        for file in _matching(root / "metrics"):
            _copy(file, folder / "metrics" / file.name)
        for name in RECORDS:
            _copy(root / name, folder / name)
        write_json(folder / PROVENANCE, {**made_by, "data": about_data(data), "revision": revision})
    return target / MODEL


def of_folder(model: Path, target: Path) -> Path:
    """Copy a model, and what lies beside it if its folder is like a release; otherwise like `of_project`."""
    _check(model, target)
    with replacing_folder(target) as folder:
        _copy(model, folder / MODEL)
        if (model.parent / PROVENANCE).is_file():
            for part in PARTS:
                if (model.parent / part).exists():
                    _copy(model.parent / part, folder / part)
    return target / MODEL


def all_in(output: Path) -> list[Path]:
    """Return the folders of the releases, in the order of their names."""
    return sorted(path.parent.parent for path in output.glob(f"*/{MODEL}/config.json"))


def model_in(folder: Path) -> Path:
    """Return the folder of the model: `folder`, or the one in it if it is a release."""
    return folder / MODEL if (folder / MODEL).is_dir() else folder


def beside(model: Path, name: str) -> Path:
    """Return a folder for what is made from a model: beside it, or beside its release, which is never changed."""
    folder = model.parent
    return folder.with_name(f"{folder.name}_{name}") if (folder / PROVENANCE).is_file() else folder / name


def about_data(descriptor: dict[str, Any]) -> dict[str, Any]:
    """Sum up models/base/data.json: its path, the number of files, and a digest of all they hold."""
    files = descriptor["files"]
    facts = {"path": descriptor["path"], "files": len(files), "sha256": digest(files)}
    return {**facts, "revision": descriptor["revision"]} if "revision" in descriptor else facts


def _check(model: Path, target: Path) -> None:
    if not model.is_dir():
        raise ExportError(f"{model} is not a folder; run `dvc repro` to create models/theta_final.")
    if absent := lacking(model):
        raise ExportError(f"{model} lacks {', '.join(absent)}; run `dvc repro export` to write it completely.")
    if target.exists():
        raise ExportError(f"{target} already exists and was not changed; choose another name.")


def _matching(metrics: Path) -> Iterable[Path]:
    return sorted(file for pattern in METRICS for file in metrics.glob(pattern))


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder file by file: copytree would name all that failed in one message of thousands of signs.

    Modes are not copied, because DVC may keep its outs as read-only links.
    """
    for file in _files(source):
        copy = target / file.relative_to(source)
        with writing(copy):
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    yield from (file for file in sorted(source.rglob("*")) if file.is_file())
