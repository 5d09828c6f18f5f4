"""Send a model elsewhere: to a model hub, into a folder, or with DVC to a remote. Only `theta_final` itself is sent.

What lies beside it in a release, such as the conversations for rehearsal, may be private and stays here.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from theta.bases.descriptors import PROVENANCE, REHEARSAL
from theta.errors import ExportError, reason
from theta.files import replacing_folder, writing
from theta.generate.folder import lacking

CARD = "README.md"
PRIVATE = (REHEARSAL, PROVENANCE)
"""Files that are never sent, also where somebody has put them into the model's folder."""


@dataclass(frozen=True, slots=True)
class File:
    """A file that would be sent: its path in the model's folder, and its size in bytes."""

    name: str
    size: int


def contents(model: Path) -> list[File]:
    """Return the files of a model that would be sent.

    Raises:
        ExportError: the folder is missing or incomplete, or holds a file that may be private.
    """
    if not model.is_dir():
        raise ExportError(f"{model} is not a folder; name a model, such as models/theta_final.")
    if absent := [*lacking(model), *([] if (model / CARD).is_file() else [CARD])]:
        raise ExportError(f"{model} lacks {', '.join(absent)}; run `dvc repro export` to write it completely.")
    found = [path for path in sorted(model.rglob("*")) if path.is_file()]
    if private := [path.name for path in found if path.name in PRIVATE]:
        raise ExportError(f"{model} holds {', '.join(private)}, which may be private; move it out of the folder.")
    return [File(path.relative_to(model).as_posix(), path.stat().st_size) for path in found]


def check_card(model: Path) -> None:
    """Refuse a model card that a hub would refuse, or that names no licence.

    Raises:
        ExportError: the front matter of README.md is not valid, or it has no license.
    """
    front = front_matter((model / CARD).read_text(encoding="utf-8"), model / CARD)
    if not isinstance(front.get("license"), str):
        raise ExportError(
            f"{model / CARD} names no licence, so nobody may use the model; set export.license in params.yaml to its "
            "identifier, such as mit or cc-by-4.0, and run `dvc repro`."
        )
    from huggingface_hub import ModelCardData

    try:
        ModelCardData(**front, ignore_metadata_errors=False)
    except (TypeError, ValueError) as fault:
        raise ExportError(f"{model / CARD} has front matter that a hub refuses ({reason(fault)}).") from None


def front_matter(card: str, path: Path) -> dict[str, Any]:
    """Return the YAML between the first two lines of dashes.

    Raises:
        ExportError: there is none, or it is not a mapping.
    """
    _, _, rest = card.partition("---\n")
    text, found, _ = rest.partition("\n---\n")
    try:
        front = YAML(typ="safe", pure=True).load(text) if found and card.startswith("---\n") else None
    except YAMLError as fault:
        raise ExportError(f"{path}: its front matter is not valid YAML ({reason(fault)}).") from None
    if not isinstance(front, dict):
        raise ExportError(f"{path} does not begin with front matter (---); run `dvc repro export` to write it again.")
    return front


def to_folder(model: Path, target: Path) -> None:
    """Copy the files into a new folder.

    Raises:
        ExportError: the folder exists.
        StorageError: it cannot be written.
    """
    if target.exists():
        raise ExportError(f"{target} already exists and was not changed; name another folder.")
    with replacing_folder(target) as folder:
        for file in contents(model):
            with writing(folder / file.name):
                (folder / file.name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model / file.name, folder / file.name)


def to_hub(model: Path, name: str, *, private: bool, message: str) -> str:
    """Upload the files in one commit to a repository of the Hugging Face hub, which is made if need be.

    Args:
        name: of the repository, such as someone/my-assistant.
        private: whether a new repository is.
        message: of the commit.

    Returns:
        The address of the commit.

    Raises:
        ExportError: the hub cannot be reached or refuses.
    """
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    api = HfApi()
    try:
        api.create_repo(name, private=private, exist_ok=True)
        files = [CommitOperationAdd(file.name, model / file.name) for file in contents(model)]
        return str(api.create_commit(name, files, commit_message=message).commit_url)
    except ExportError:
        raise
    except Exception as fault:  # the errors of the transport differ between releases of huggingface_hub
        raise ExportError(
            f"{name} could not be published at {constants.ENDPOINT} ({type(fault).__name__}: {reason(fault)}); check "
            "the name, the connection and `hf auth login`."
        ) from fault
