"""The resume state: everything that the next step depends on, outside DVC's outs, keyed by what made it.

    .theta/train/<fingerprint>/state.pt           weights, optimizer, counters, records so far
    .theta/train/<fingerprint>/best.safetensors   weights of the lowest validation loss

DVC empties outs before a stage runs, so the state lies elsewhere. The fingerprint covers settings, tokens, base
and code: a state made by others is never found, let alone resumed. Dropout is seeded by step and the order of the
documents is planned ahead, so there is no generator state to keep.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from transformers import GPT2LMHeadModel

from theta.errors import TrainingError
from theta.files import digest, replacing, sha256


@dataclass(slots=True)
class Progress:
    """Counters of a run.

    Attributes:
        step: steps done.
        best_loss: lowest validation loss so far, in nats per token.
        best_step: the step after which it was measured.
        stale_validations: validations since then.
        records: what the run has yielded so far, as plain values.
    """

    step: int = 0
    best_loss: float = float("inf")
    best_step: int = 0
    stale_validations: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


def resume_folder(settings: dict[str, Any], threads: int, inputs: Sequence[Path]) -> Path:
    """Where the resume state of a run lies: a name made of settings, the bytes of the inputs, and the code."""
    package = Path(__file__).parent.parent
    code = sorted(path for name in ("model", "tokens", "train") for path in (package / name).glob("*.py"))
    content = {
        "settings": settings,
        "threads": threads,
        "inputs": [sha256(path) for path in inputs],
        "code": {path.relative_to(package).as_posix(): sha256(path) for path in code},
        "torch": torch.__version__,
    }
    # In `dvc exp run --temp` the working tree is a copy that is thrown away; DVC_ROOT is the real one.
    return Path(os.environ.get("DVC_ROOT", ".")) / ".theta" / "train" / digest(content)[:16]


def save_state(path: Path, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write the state; the previous one stays until the new one is whole.

    Raises:
        TrainingError: the disk is full or cannot be written.
    """
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "progress": asdict(progress)}
    _write(path / "state.pt", lambda temporary: torch.save(state, temporary))


def load_state(path: Path, model: GPT2LMHeadModel, optimizer: torch.optim.Optimizer) -> Progress:
    """Fill model and optimizer from the state, if there is one; fresh progress otherwise.

    Raises:
        TrainingError: the state cannot be read.
    """
    file = path / "state.pt"
    if not file.is_file():
        return Progress()
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return Progress(**state["progress"])
    except (RuntimeError, OSError, KeyError, ValueError, EOFError) as fault:
        reason = str(fault).splitlines()[0]
        raise TrainingError(f"{file} cannot be resumed ({reason}); delete {path} to start again.") from fault


def save_best(path: Path, model: GPT2LMHeadModel) -> None:
    """Keep the present weights as the best so far.

    Raises:
        TrainingError: the disk is full or cannot be written.
    """
    _write(path / "best.safetensors", lambda temporary: save_model(model, str(temporary)))


def load_best(path: Path, model: GPT2LMHeadModel) -> None:
    """Fill the model with the best weights."""
    load_model(model, path / "best.safetensors")


def _write(path: Path, write: Any) -> None:
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError) as fault:
        reason = str(fault).splitlines()[0]
        raise TrainingError(
            f"{path} cannot be written ({reason}); make room on the disk and run `dvc repro`: it goes on from the "
            "last state that was written."
        ) from fault
