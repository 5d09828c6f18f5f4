"""The resume state: everything that the next step depends on.

Dropout is seeded by step and the order of the documents is planned ahead, so there is no generator state to keep.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.errors import TrainingError, reason
from theta.files import replacing


@dataclass(slots=True)
class Progress:
    """Counters of a run.

    Attributes:
        step: steps done.
        best_loss: lowest validation loss so far, in nats per token.
        best_step: the step after which it was measured.
        stale_validations: validations since then.
        tokens_per_microbatch: lowered when memory ran out; 0 before the first step.
        loss_scale: what float16's gradients are multiplied by.
        records: what the run has yielded so far, as plain values.
    """

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    stale_validations: int = 0
    tokens_per_microbatch: int = 0
    loss_scale: float = 1.0
    records: list[dict[str, Any]] = field(default_factory=list)


def save_state(
    folder: Path,
    model: GPT2LMHeadModel,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    averages: Sequence[Tensor] = (),
) -> None:
    """Write the state; the previous one stays until the new one is whole.

    Raises:
        TrainingError: the disk is full or cannot be written.
    """
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "averages": list(averages),
        "progress": asdict(progress),
    }
    _write(folder / "state.pt", lambda temporary: torch.save(state, temporary))


def load_state(
    folder: Path, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, averages: Sequence[Tensor] = ()
) -> Progress:
    """Fill model, optimizer and averages from the state, if there is one; fresh progress otherwise.

    Raises:
        TrainingError: the state cannot be read.
    """
    file = folder / "state.pt"
    if not file.is_file():
        return Progress()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        for average, saved in zip(averages, state["averages"], strict=True):
            average.copy_(saved)
        return Progress(**state["progress"])
    except Exception as fault:  # half a file can fail in any way
        raise TrainingError(f"{file} cannot be resumed ({reason(fault)}); delete {folder} to start again.") from fault


def save_best(folder: Path, model: GPT2LMHeadModel) -> None:
    """Keep the present weights as the best so far.

    Raises:
        TrainingError: the disk is full or cannot be written.
    """
    _write(folder / "best.safetensors", lambda temporary: save_model(model, str(temporary)))


def load_best(folder: Path, model: GPT2LMHeadModel) -> None:
    """Fill the model with the best weights."""
    load_model(model, folder / "best.safetensors")


def _write(path: Path, write: Callable[[Path], None]) -> None:
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError, SafetensorError) as fault:
        raise TrainingError(
            f"{path} cannot be written ({reason(fault)}); make room on the disk and run `dvc repro`: it goes on from "
            "the last state that was written."
        ) from fault
