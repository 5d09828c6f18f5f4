"""Models of the Hugging Face hub, read from this machine's cache or downloaded file by file.

A model that was fetched once needs no network again: a commit never changes, and a branch or tag stays at the commit
of the first fetch. Only the files that Theta reads are downloaded; huggingface_hub shows their progress.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from theta.errors import BaseModelError

PINNED = {
    "gpt2": "607a30d783dfa663caf39e06633721c8d4cfcd7e",
    "gpt2-medium": "6dcaa7a952f72f9298047fd5137cd6e4f05f41da",
    "gpt2-large": "32b71b12589c2f8d625668d2335a01cac3249519",
    "gpt2-xl": "15ea56dee5df4983c59b2538573817e1667135e2",
}
"""Commits of OpenAI's four models, under their short names and as `openai-community/gpt2`, ..."""

OWNER = "openai-community/"
CONFIG = "config.json"
SECONDS_FOR_AN_ANSWER = 5
"""Time to wait for an answer of the hub, unless HF_HUB_ETAG_TIMEOUT is set."""


class Repository:
    """The files of one model at one commit.

    Attributes:
        commit: the full commit hash.
    """

    def __init__(self, name: str, revision: str | None) -> None:
        """Find the commit in the cache, or ask the hub for it.

        Args:
            name: name of the model, such as gpt2 or someone/model.
            revision: commit, tag or branch; None for the pinned commit, or `main` for a model without one.

        Raises:
            BaseModelError: the hub cannot be reached, refuses access, or has no such model or revision.
        """
        self._revision = revision or PINNED.get(name.removeprefix(OWNER), "main")
        self._base = name
        with self._faults_in_one_line():
            spellings = _spellings(name)
            self._name = next((each for each in spellings if _cached(each, self._revision, CONFIG)), name)
            config = _cached(self._name, self._revision, CONFIG) or _download(self._name, self._revision, CONFIG)
            self.commit = config.parent.name

    def file(self, name: str) -> Path | None:
        """Return the local path of a file of the model; None if the model has no such file.

        Raises:
            BaseModelError: the file cannot be downloaded.
        """
        from huggingface_hub import errors

        with self._faults_in_one_line():
            if _known_absent(self._name, self.commit, name):
                return None
            try:
                return _cached(self._name, self.commit, name) or _download(self._name, self.commit, name)
            except errors.RemoteEntryNotFoundError:
                return None

    @contextmanager
    def _faults_in_one_line(self) -> Iterator[None]:
        try:
            yield
        except Exception as fault:  # the errors of the transport differ between releases of huggingface_hub
            raise BaseModelError(_reason(fault, self._base, self._revision)) from fault


def cached_folders(name: str, commit: str) -> list[Path]:
    """Return the folders of this machine's cache with files of a commit, without asking the hub."""
    configs = [_cached(each, commit, CONFIG) for each in _spellings(name)]
    return [config.parent for config in configs if config]


def _spellings(name: str) -> list[str]:
    """The name as given, then the other name of OpenAI's models: other tools cache them under either name."""
    short = name.removeprefix(OWNER)
    return [name, *({short, OWNER + short} - {name})] if short in PINNED else [name]


def _cached(name: str, revision: str, file: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(name, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def _known_absent(name: str, revision: str, file: str) -> bool:
    from huggingface_hub import _CACHED_NO_EXIST, try_to_load_from_cache

    return try_to_load_from_cache(name, file, revision=revision) is _CACHED_NO_EXIST


def _download(name: str, revision: str, file: str) -> Path:
    from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    # The metadata come first because this request fails at once; hf_hub_download retries an unreachable hub for 25 s.
    # If the file does not exist, hf_hub_download raises the error, as it also records that in the cache.
    is_set = constants.HF_HUB_ETAG_TIMEOUT != constants.DEFAULT_ETAG_TIMEOUT
    seconds = constants.HF_HUB_ETAG_TIMEOUT if is_set else SECONDS_FOR_AN_ANSWER
    with suppress(errors.RemoteEntryNotFoundError):
        get_hf_file_metadata(hf_hub_url(name, file, revision=revision), timeout=seconds)
    return Path(hf_hub_download(name, file, revision=revision))


def _reason(fault: Exception, base: str, revision: str) -> str:
    """One line with the fault and the remedy."""
    from huggingface_hub import constants, errors

    hub, cache = constants.ENDPOINT, constants.HF_HUB_CACHE
    elsewhere = "set model.base to a local folder or to scratch:mini"
    reasons: list[tuple[type[Exception], str]] = [
        (errors.HFValidationError, "is neither a folder nor a name that a hub can have; give one such as gpt2-medium"),
        (errors.GatedRepoError, f"is gated: accept its terms at {hub}/{base}, run `hf auth login`, and try again"),
        (errors.RepositoryNotFoundError, f"is neither a folder nor a model at {hub}; correct model.base, or run "
         f"`hf auth login` if the model is private"),
        (errors.RevisionNotFoundError, f"has no revision '{revision}' at {hub}; set model.revision to one of its "
         f"commits, tags or branches, or to null"),
        (errors.RemoteEntryNotFoundError, f"at {hub} has no {CONFIG}; Theta reads models that transformers saved"),
        (errors.OfflineModeIsEnabled, f"is not complete in the cache {cache}, and HF_HUB_OFFLINE is set; unset it to "
         f"download from {hub}, or {elsewhere}"),
    ]  # fmt: skip
    text = next((text for kind, text in reasons if isinstance(fault, kind)), "")
    if isinstance(fault, OSError) and fault.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        text = f"does not fit in {cache} ({fault.strerror}); free some space, or set HF_HOME to another disk"
    if not text:
        detail = f"{type(fault).__name__}: {(str(fault).splitlines() or [''])[0]}"
        text = f"could not be fetched from {hub} ({detail}); check the connection and HF_ENDPOINT, or {elsewhere}"
    return f"model.base '{base}' {text}."
