"""The inputs of a training run, and the state that changes while it runs."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.optim.adamw import Optimizer
from theta.optim.ema import EMA
from theta.optim.update import Gradients, Update
from theta.tokens.store import Store
from theta.train.compute import Compute
from theta.train.resume_state import Progress
from theta.train.row_work import RowWork
from theta.train.samples import Samples
from theta.train.settings import TrainSettings

Record = dict[str, Any]
"""A record that the loop yields, of plain values for the resume state: {"kind": "step" | "validation", ...}."""


@dataclass(frozen=True, slots=True)
class Run:
    """The inputs of a training run.

    Attributes:
        model: trained in place; its output matrix is padded as `network.resize` does it.
        samples: what the train split comes to in each epoch, followed by the documents for rehearsal.
        validation: the validation split; None if nothing is held back.
        resume: folder of the resume state.
        steps_per_checkpoint: steps between two resume states.
        parent: process id of the DVC that the run must not outlive, or None.
    """

    model: GPT2LMHeadModel
    samples: Samples
    validation: Store | None
    settings: TrainSettings
    compute: Compute
    resume: Path
    steps_per_checkpoint: int
    parent: int | None


@dataclass(slots=True)
class State:
    """Everything except the weights that changes during a run.

    Attributes:
        unread: records of steps that may still be running, with the figures that are being copied to the host.
        clock: time in seconds at which records were last read.
    """

    compute: Compute
    optimizer: Optimizer
    gradients: Gradients
    update: Update
    work: RowWork
    progress: Progress
    ema: EMA
    unread: list[tuple[Record, "Figures"]] = field(default_factory=list)
    clock: float = field(default_factory=time.perf_counter)

    def read(self, leave: int) -> list[Record]:
        """Read all unread records except the last `leave`, as plain values; this waits for the device."""
        done, self.unread = self.unread[: len(self.unread) - leave], self.unread[len(self.unread) - leave :]
        for record, figures in done:
            data, rehearsal, norm = figures.read()
            # The step divided its nats by all its learned tokens.
            tokens = record["learned_tokens"] + record["rehearsal_learned_tokens"]
            record["nats"], record["rehearsal_nats"] = data * tokens, rehearsal * tokens
            record["loss"], record["gradient_norm"] = data + rehearsal, norm
        now = time.perf_counter()
        for record, _ in done:  # steps that are read together share the time equally
            record["seconds"] = (now - self.clock) / len(done)
        self.clock = now
        return [record for record, _ in done]


class Figures:
    """The loss of a step in its two parts and its gradient norm, copied to the host as soon as they are known.

    If they were read from the device later, the copy would be queued after the next step, and the device would be idle
    while the host prepares the step after that.
    """

    def __init__(self, loss: Tensor, norm: Tensor) -> None:
        values = torch.cat([loss, norm.to(loss.dtype).reshape(1)])
        self._values = values.to("cpu", non_blocking=True)
        self._copied = torch.cuda.Event() if loss.is_cuda else None
        if self._copied:
            self._copied.record()

    def read(self) -> list[float]:
        """Return the loss of the data, the loss of rehearsal, and the norm; this waits until they are copied."""
        if self._copied:
            self._copied.synchronize()
        values: list[float] = self._values.tolist()
        return values
