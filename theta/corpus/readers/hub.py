"""Datasets of the Hugging Face hub: hf://datasets/NAME[@revision][/config][:split].

`datasets` tells which files a config and a split have; they are downloaded as they are, and read as local files are.
A commit never changes, so a dataset that was fetched once needs no network again.
"""

import errno
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

from theta.corpus.readers.finding import File, Found
from theta.errors import DataError, reason

SCHEME = "hf://datasets/"
DEFAULT_SPLIT = "train"
"""The split that is read where data.path names none, because a dataset's other splits are there to measure with."""
SECONDS_FOR_AN_ANSWER = 10
_FORM = re.compile(
    r"(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[^/:]+))?(?:/(?P<config>[^/:]+))?(?::(?P<split>[\w.-]+))?"
)

Descriptor = dict[str, Any]


class Reference(NamedTuple):
    """What data.path names."""

    name: str
    revision: str | None
    config: str | None
    split: str | None


def parse(path: str) -> Reference:
    """Return the parts of a data.path that begins with SCHEME.

    A name of one part, such as squad, with a config needs a revision: squad@main/plain_text. "/" in a revision is
    written %2F.

    Raises:
        DataError: it has another form.
    """
    found = _FORM.fullmatch(path.removeprefix(SCHEME))
    if found is None:
        raise DataError(
            f"data.path '{path}' is not of the form {SCHEME}NAME[@revision][/config][:split]; correct it in "
            "params.yaml."
        )
    revision = found["revision"]
    return Reference(found["name"], unquote(revision) if revision else None, found["config"], found["split"])


def resolve(path: str, known: Descriptor | None) -> Descriptor:
    """Return the commit and the files of a dataset, after downloading those that are not cached.

    Args:
        path: data.path, which begins with SCHEME.
        known: what this function returned before, on this machine: if it is of the same path and its files are still
            cached, the hub is not asked.

    Raises:
        DataError: the dataset, its revision, config or split does not exist, or cannot be fetched.
    """
    reference = parse(path)
    if known and known.get("path") == path and _are_cached(known):
        return known
    try:
        builder, commit = _builder(reference)
        splits = _files_by_split(builder, reference, commit)
        split = _split(path, reference, splits)
        for name in splits[split]:
            _download(reference.name, commit, name)
    except DataError:
        raise
    except Exception as fault:  # datasets, huggingface_hub and fsspec each have errors of their own
        raise DataError(_reason(fault, path, reference)) from fault
    return {
        "kind": "hub",
        "path": path,
        "name": reference.name,
        "revision": commit,
        "config": builder.config.name,
        "split": split,
        "other_splits": sorted(splits.keys() - {split}),
        "files": splits[split],
    }


def locate(descriptor: Mapping[str, Any]) -> Found:
    """Return the files of a descriptor in the cache of this machine.

    Raises:
        DataError: one is not there.
    """
    name, commit = descriptor["name"], descriptor["revision"]
    files = []
    for each in descriptor["files"]:
        path = _cached(name, commit, each)
        if path is None:
            raise DataError(f"{SCHEME}{name}/{each} is not on this machine; run `dvc repro -f fetch`.")
        files.append(File(path, f"{SCHEME}{name}/{each}", name.rpartition("/")[2]))
    return Found(files, [])


def _builder(reference: Reference) -> tuple[Any, str]:
    from datasets import DownloadConfig, load_dataset_builder
    from huggingface_hub import HfApi

    commit = HfApi().dataset_info(reference.name, revision=reference.revision, timeout=SECONDS_FOR_AN_ANSWER).sha
    builder = load_dataset_builder(
        SCHEME + reference.name, reference.config, revision=commit, download_config=DownloadConfig(max_retries=1)
    )
    return builder, str(commit)


def _files_by_split(builder: Any, reference: Reference, commit: str) -> dict[str, list[str]]:
    """The names of the files of each split, relative to the repository."""
    beginning = f"{SCHEME}{reference.name}@{commit}/"
    return {
        str(split): [str(each).removeprefix(beginning) for each in files]
        for split, files in (builder.config.data_files or {}).items()
    }


def _split(path: str, reference: Reference, splits: Mapping[str, Sequence[str]]) -> str:
    split = reference.split or (DEFAULT_SPLIT if DEFAULT_SPLIT in splits else next(iter(splits), ""))
    if split not in splits:
        raise DataError(
            f"data.path '{path}': the dataset has no split '{split}'; its splits are {', '.join(sorted(splits))}."
        )
    return split


def _are_cached(descriptor: Descriptor) -> bool:
    return all(_cached(descriptor["name"], descriptor["revision"], name) for name in descriptor["files"])


def _cached(name: str, commit: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=commit, repo_type="dataset")
    return Path(path) if isinstance(path, str) else None


def _download(name: str, commit: str, file: str) -> None:
    from huggingface_hub import hf_hub_download

    if _cached(name, commit, file) is None:
        hf_hub_download(name, file, revision=commit, repo_type="dataset")


def _reason(fault: Exception, path: str, reference: Reference) -> str:
    """One line with the fault and the remedy."""
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError
    from huggingface_hub import constants, errors

    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    reasons: list[tuple[Any, str]] = [
        (errors.HFValidationError, "has no name that a hub can have; give one such as owner/name"),
        (errors.GatedRepoError, f"is gated: accept its terms at {hub}/datasets/{reference.name}, run `hf auth login`, "
         "and try again"),
        (errors.RepositoryNotFoundError, f"is not a dataset at {hub}; correct the name, or run `hf auth login` if it "
         "is private"),
        (errors.RevisionNotFoundError, f"has no revision '{reference.revision}' at {hub}; name one of its commits, "
         "tags or branches"),
        (errors.OfflineModeIsEnabled, f"is not complete in the cache {cache}, and HF_HUB_OFFLINE is set; unset it to "
         f"download from {hub}"),
        (DataFilesNotFoundError | EmptyDatasetError, "holds no files that `datasets` can read; download it, and name "
         "its folder"),
        (ValueError, f"cannot be used ({reason(fault)})"),
    ]  # fmt: skip
    text = next((text for kind, text in reasons if isinstance(fault, kind)), "")
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text = f"does not fit in {cache} ({fault.strerror}); free some space, or set HF_HOME to another disk"
    if not text:
        text = (
            f"could not be fetched from {hub} ({type(fault).__name__}: {reason(fault)}); check the connection and "
            "HF_ENDPOINT, or set data.path to local files"
        )
    return f"data.path '{path}' {text}."
