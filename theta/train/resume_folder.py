"""The folders of resume states: named by what makes a run, and used by one run at a time.

    .theta/train/<run>-<number formats>/    what is in it: theta.train.resume_state
        lock                                locked while a process trains this run
        finished.json                       the run has ended; the MD5 of its checkpoint

DVC empties outs before a stage runs, so states are kept elsewhere. The name covers settings, tokens, base, code and
library versions, and the number formats: a state made with others is never found, so it is never resumed. What changes
a result by rounding only (device, threads, number of GPUs, microbatches) is not part of the name, so a run can continue
when it changes.

A finished state is removed only when DVC's cache holds the checkpoint: until then a full disk may lose the checkpoint.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta.errors import DataError
from theta.files import digest, read_json, remove, sha256, write_json

if TYPE_CHECKING:
    from theta.train.distributed import Ranks

UNFINISHED_KEPT = 2
"""Unfinished states of other runs that are kept, the newest ones; each is three times as large as the model."""

NAME = re.compile(r"[0-9a-f]{16}(-(float32|bfloat16)-(32|8|4)-(float32|bfloat16|float16))?")
"""Names of the folders; version 0.1 wrote no number formats."""

CONTENT = re.compile(r"lock|last_good|finished\.json|(state|best)\.([0-9a-f]{16}\.)?(pt|safetensors)|\..*\.partial")
"""Names of the entries of a state's folder."""


def key_of(settings: dict[str, Any], inputs: Sequence[Path]) -> str:
    """Return the part of a folder's name that identifies a run.

    Args:
        settings: of training.
        inputs: files that the run reads; their content counts.
    """
    package = Path(__file__).parent.parent
    packages = ("kernels", "model", "optim", "tokens", "train")
    code = sorted(path for name in packages for path in (package / name).glob("*.py"))
    content = {
        "settings": settings,
        "inputs": [sha256(path) for path in inputs],
        "code": {path.relative_to(package).as_posix(): sha256(path) for path in code},
        "versions": [version(name) for name in ("torch", "transformers")],
    }
    return digest(content)[:16]


def folder_of(key: str, formats: Sequence[str]) -> Path:
    """Return the folder of a run's state.

    Args:
        key: as `key_of` returns it.
        formats: number formats of the weights, the moments in bits, and the products.
    """
    return _parent() / "-".join([key, *formats])


def saved_formats(key: str) -> list[tuple[str, ...]]:
    """Return the number formats of the states of a run, as `folder_of` takes them."""
    return [tuple(path.parent.name.split("-")[1:]) for path in _parent().glob(f"{key}-*/state.*.pt")]


def of_other_formats(folder: Path) -> list[Path]:
    """States of the same run in other number formats, from which it cannot continue."""
    run = folder.name[:16]
    return [path.parent for path in folder.parent.glob(f"{run}-*/state.*.pt") if path.parent != folder]


@contextmanager
def claimed(folder: Path, ranks: "Ranks", say: Callable[[str], None]) -> Iterator[None]:
    """Claim the folder while the block runs; if another process trains the same run, wait until it has ended.

    Rank 0 claims it for all ranks, which wait together, so that none reads the state too early.
    """
    with ExitStack() as stack:
        told = False
        while ranks.any(ranks.first and not _claim(folder, stack)):
            if not told:
                say(f"Another process is training with the same settings ({folder}); waiting until it ends.")
            told = True
            time.sleep(1)
        if ranks.first:
            for leftover in folder.glob(".*.partial"):
                remove(leftover)
        yield


def _claim(folder: Path, stack: ExitStack) -> bool:
    """Try to lock the folder until the stack is closed; it is made if another process has just removed it."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as attempt:
        if attempt.enter_context(_lock(folder)) and (folder / "lock").exists():
            stack.push(attempt.pop_all())
            return True
    return False


def prune(folder: Path) -> None:
    """Remove unneeded states next to `folder`: those of finished runs with a cached checkpoint, and old ones."""
    forget_finished(folder.parent)
    others = [path for path in _states(folder.parent) if path != folder]
    for other in sorted(others, key=_modified)[:-UNFINISHED_KEPT]:
        _remove_unless_used(other)


def _modified(path: Path) -> float:
    """When a folder was last changed; 0 if another process has just removed it."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def finish(folder: Path, weights: Path) -> None:
    """Record that the run has ended and that `weights` is the weight file of its checkpoint."""
    with weights.open("rb") as content:
        write_json(folder / "finished.json", {"checkpoint_md5": hashlib.file_digest(content, "md5").hexdigest()})


def forget_finished(parent: Path | None = None) -> None:
    """Remove the states of finished runs whose checkpoint is in DVC's cache."""
    for folder in _states(parent or _parent()):
        with suppress(DataError):  # without a record that can be read, the run counts as unfinished
            if is_cached(str(read_json(folder / "finished.json", "checkpoint_md5")["checkpoint_md5"])):
                _remove_unless_used(folder)


def is_cached(md5: str) -> bool:
    """Whether DVC has cached a folder that holds a file with this MD5, and has recorded the folder.

    DVC writes the files of a folder first, then the list of its files, then the record: in dvc.lock, and in its run
    cache. A full disk or a kill may come in between.
    """
    cache = _cache()
    if not (cache / "files" / "md5" / md5[:2] / md5[2:]).is_file():
        return False
    records = [_root() / "dvc.lock", *(cache / "runs").glob("*/*/*")]
    recorded = "".join(path.read_text(encoding="utf-8", errors="replace") for path in records if path.is_file())
    lists = [path for path in (cache / "files" / "md5").glob("*/*.dir") if path.parent.name + path.name in recorded]
    return any(md5 in path.read_text(encoding="utf-8", errors="replace") for path in lists)


def _cache() -> Path:
    """The folder of DVC's cache, by its config files."""
    folder = _root() / ".dvc" / "cache"
    for name in ("config", "config.local"):
        config = ConfigParser(interpolation=None)
        config.read_string("\n".join(map(str.strip, _lines(_root() / ".dvc" / name))))
        if config.has_option("cache", "dir"):
            folder = _root() / ".dvc" / config.get("cache", "dir")
    return folder


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines() if file.is_file() else []


def _root() -> Path:
    """The root of the project; in `dvc exp run --temp` the working folder is a temporary copy, but DVC_ROOT is not."""
    return Path(os.environ.get("DVC_ROOT", "."))


def _parent() -> Path:
    """The folder of all states."""
    return _root() / ".theta" / "train"


def _states(parent: Path) -> list[Path]:
    """The folders of `parent` that are certainly resume states."""
    folders = [path for path in parent.glob("*") if NAME.fullmatch(path.name) and (path / "lock").is_file()]
    return [folder for folder in folders if all(map(CONTENT.fullmatch, _names(folder)))]


def _names(folder: Path) -> list[str]:
    """The names in a folder; none if another process has just removed it."""
    try:
        return [entry.name for entry in folder.iterdir()]
    except FileNotFoundError:
        return []


def _remove_unless_used(folder: Path) -> None:
    with suppress(FileNotFoundError), _lock(folder) as free:  # another process may remove it at the same time
        if free:
            remove(folder)


@contextmanager
def _lock(folder: Path) -> Iterator[bool]:
    """Whether this process could lock the folder; always, where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
