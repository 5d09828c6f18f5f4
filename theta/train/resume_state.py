"""The resume state of a run: everything that the next step depends on, in a folder outside DVC's outs.

    .theta/train/<run>-<number formats>/state.<sha256>.pt            weights, optimizer, counters, records so far
    .theta/train/<run>-<number formats>/best.<sha256>.safetensors    weights of the lowest validation loss
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta.errors import TrainingError, reason
from theta.files import digest, read_json, remove, replacing_file, sha256, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import GPT2LMHeadModel

UNFINISHED_KEPT = 2
"""Unfinished states of other runs that are kept, the newest ones; each is three times as large as the model."""

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


def folder_of(settings: dict[str, Any], formats: Sequence[str], inputs: Sequence[Path]) -> Path:
    """Return the folder of a run's state.

    Args:
        settings: of training.
        formats: number formats of the weights, the moments in bits, and the products.
        inputs: files that the run reads; their content is part of the name.
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
    return _root() / ".theta" / "train" / "-".join([digest(content)[:16], *formats])


def of_other_formats(folder: Path) -> list[Path]:
    """States of the same run in other number formats, from which it cannot continue."""
    run = folder.name[:16]
    return [path.parent for path in folder.parent.glob(f"{run}-*/state.*.pt") if path.parent != folder]


@contextmanager
def claimed(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Claim the folder while the block runs. If another process trains the same run, wait until it has ended."""
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder) as free:
        if not free:
            say(f"Another process is training with the same settings ({folder}); waiting until it ends.")
    with _lock(folder, wait=True):
        for leftover in folder.glob(".*.partial"):
            remove(leftover)
        yield


def prune(folder: Path) -> None:
    """Remove unneeded states next to `folder`: those of finished runs with a cached checkpoint, and old ones."""
    forget_finished(folder.parent)
    others = [path for path in _states(folder.parent) if path != folder]
    others.sort(key=lambda path: path.stat().st_mtime)
    for other in others[:-UNFINISHED_KEPT]:
        _remove_unless_used(other)


def forget_finished(parent: Path | None = None) -> None:
    """Remove the states of finished runs whose checkpoint is in DVC's cache."""
    for folder in _states(parent or _root() / ".theta" / "train"):
        finished = folder / "finished.json"
        if finished.is_file():
            md5 = str(read_json(finished)["checkpoint_md5"])
            if (_root() / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).is_file():
                _remove_unless_used(folder)


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
    target = new.replace(folder / f"{name}.{sha256(new)[:16]}{suffix}")
    for older in folder.glob(f"{name}.*{suffix}"):
        if older != target:
            remove(older)


def _newest(folder: Path, name: str, suffix: str) -> Path | None:
    """Return the newest file of this name after checking its bytes; None if there is none."""
    files = sorted(folder.glob(f"{name}.*{suffix}"), key=lambda path: path.stat().st_mtime_ns)
    if not files:
        return None
    if sha256(files[-1])[:16] != files[-1].name.split(".")[1]:
        raise _damaged(files[-1], "its bytes are not those that were written")
    return files[-1]


def _damaged(file: Path, why: str) -> TrainingError:
    return TrainingError(f"{file} cannot be resumed ({why}); delete {file.parent} to start again.")


def _root() -> Path:
    """The root of the project; in `dvc exp run --temp` the working folder is a temporary copy, but DVC_ROOT is not."""
    return Path(os.environ.get("DVC_ROOT", "."))


def _states(parent: Path) -> list[Path]:
    """The folders of `parent` that are certainly resume states."""
    folders = [path for path in parent.glob("*") if NAME.fullmatch(path.name) and (path / "lock").is_file()]
    return [folder for folder in folders if all(CONTENT.fullmatch(entry.name) for entry in folder.iterdir())]


def _remove_unless_used(folder: Path) -> None:
    with _lock(folder) as free:
        if free:
            remove(folder)


@contextmanager
def _lock(folder: Path, *, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process could lock the folder; always True where the system has no such locks."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield True
        return
    with (folder / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
