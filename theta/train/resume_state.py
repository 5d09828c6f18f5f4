"""The resume state of a run: everything that the next step depends on, in a folder outside DVC's outs.

    .theta/train/<run>-<number formats>/state.<digest>.pt            weights, optimizer, counters, records so far
    .theta/train/<run>-<number formats>/best.<digest>.safetensors    weights of the lowest validation loss
    .theta/train/<run>-<number formats>/last_good/                   weights before a loss that was not finite
    .theta/train/<run>-<number formats>/finished.json                the run has ended; the MD5 of its checkpoint

DVC empties outs before a stage runs, so the state is kept elsewhere. The name covers settings, tokens, base, code and
library versions, and the number formats: a state made with others is never found, so it is never resumed. What changes
a result by rounding only (device, threads, number of GPUs, microbatches) is not part of the name, so a run can continue
when it changes. Dropout is seeded by step and the order of documents is planned ahead, so there is no generator state.

A finished state is removed only when DVC's cache holds the checkpoint: until then a full disk may lose the checkpoint.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta.errors import DataError, TrainingError, reason
from theta.files import digest, read_json, remove, replacing_file, sha256, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import GPT2LMHeadModel

    from theta.train.distributed import Ranks

UNFINISHED_KEPT = 2
"""Unfinished states of other runs that are kept, the newest ones; each is three times as large as the model."""

PART_BYTES = 64 * 2**20

NAME = re.compile(r"[0-9a-f]{16}(-(float32|bfloat16)-(32|8|4)-(float32|bfloat16|float16))?")
"""Names of the folders; version 0.1 wrote no number formats."""

CONTENT = re.compile(r"lock|last_good|finished\.json|(state|best)\.([0-9a-f]{16}\.)?(pt|safetensors)|\..*\.partial")
"""Names of the entries of a state's folder."""


@dataclass(slots=True)
class Progress:
    """Counters of a run.

    Attributes:
        step: steps done.
        best_loss: lowest validation loss so far, in nats per token.
        best_step: the step after which it was measured.
        stale_validations: validations since then.
        tokens_per_microbatch: of the last step; lowered when memory ran out; 0 before the first step.
        tokens_chosen: the tokens of a microbatch that the run began with.
        loss_scale: factor of the gradients in float16; 1 in other formats.
        records: the records yielded so far, as plain values.
    """

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    stale_validations: int = 0
    tokens_per_microbatch: int = 0
    tokens_chosen: int = 0
    loss_scale: float = 1.0
    records: list[dict[str, Any]] = field(default_factory=list)


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


def finish(folder: Path, weights: Path) -> None:
    """Record that the run has ended and that `weights` is the weight file of its checkpoint."""
    with weights.open("rb") as content:
        write_json(folder / "finished.json", {"checkpoint_md5": hashlib.file_digest(content, "md5").hexdigest()})


def save_state(
    folder: Path,
    model: "GPT2LMHeadModel",
    optimizer: "torch.optim.Optimizer",
    progress: Progress,
    ema: Mapping[str, "Tensor"],
) -> None:
    """Write the state; the previous one stays until the new one is complete.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    import torch

    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "ema": dict(ema),
        "progress": asdict(progress),
    }
    _write(folder, "state", ".pt", lambda temporary: torch.save(state, temporary))


def load_state(
    folder: Path, model: "GPT2LMHeadModel", optimizer: "torch.optim.Optimizer", ema: Mapping[str, "Tensor"]
) -> Progress:
    """Load the state, if there is one, into model, optimizer and EMA; otherwise return fresh progress.

    Raises:
        TrainingError: the state cannot be read, or its bytes are not those that were written.
    """
    import torch

    file = _newest(folder, "state", ".pt")
    if file is None:
        return Progress()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for name, average in ema.items():
            average.copy_(state["ema"][name])
        return Progress(**state["progress"])
    except Exception as fault:  # a truncated file can fail in any way
        raise _damaged(file, reason(fault)) from fault


def forget_state(folder: Path) -> None:
    """Remove the state, but not the weights that were kept."""
    for file in folder.glob("state.*.pt"):
        remove(file)


def save_best(folder: Path, tensors: Mapping[str, "Tensor"]) -> None:
    """Keep these weights as the best so far.

    Raises:
        StorageError: the disk is full or cannot be written.
    """
    from safetensors.torch import save_file

    _write(folder, "best", ".safetensors", lambda temporary: save_file(dict(tensors), temporary))


def load_best(folder: Path) -> dict[str, "Tensor"]:
    """Return the best weights.

    Raises:
        TrainingError: they are missing, or their bytes are not those that were written.
    """
    from safetensors.torch import load_file

    file = _newest(folder, "best", ".safetensors")
    if file is None:
        raise TrainingError(f"{folder} holds no best weights; delete it to start again.")
    return load_file(file)


def _write(folder: Path, name: str, suffix: str, write: Callable[[Path], None]) -> None:
    """Write a file whose name holds its digest, then remove its predecessors."""
    new = folder / f"{name}{suffix}"
    with replacing_file(new) as temporary:
        write(temporary)
    target = new.replace(folder / f"{name}.{_fingerprint(new)}{suffix}")
    for older in folder.glob(f"{name}.*{suffix}"):
        if older != target:
            remove(older)


def _newest(folder: Path, name: str, suffix: str) -> Path | None:
    """Return the newest file of this name after checking its bytes; None if there is none."""
    files = sorted(folder.glob(f"{name}.*{suffix}"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        return None
    if _fingerprint(files[-1]) != files[-1].name.split(".")[1]:
        raise _damaged(files[-1], "its bytes are not those that were written")
    return files[-1]


def _fingerprint(file: Path) -> str:
    """A digest of a file's bytes, 16 hexadecimal digits; parts are hashed in parallel, since states are large."""

    def of_part(start: int) -> bytes:
        with file.open("rb") as content:
            content.seek(start)
            return hashlib.sha256(content.read(PART_BYTES)).digest()

    with ThreadPoolExecutor() as threads:
        parts = threads.map(of_part, range(0, file.stat().st_size, PART_BYTES))
        return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _damaged(file: Path, why: str) -> TrainingError:
    return TrainingError(f"{file} cannot be resumed ({why}); delete {file.parent} to start again.")


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
