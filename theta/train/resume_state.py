"""The resume state of a run: everything that the next step depends on.

    state.<digest>.pt            weights, optimizer, counters, records so far
    best.<digest>.safetensors    weights of the lowest validation loss
    last_good/                   weights before a loss that was not finite

The name of a file holds the digest of its bytes, so a flipped bit is found. Dropout is seeded by step and the order of
documents is planned ahead, so there is no generator state. Where the folder is: theta.train.resume_folder.
"""

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from theta.errors import TrainingError, reason
from theta.files import remove, replacing_file

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import GPT2LMHeadModel

PART_BYTES = 64 * 2**20
"""Bytes of a file that one thread hashes at a time."""


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
