"""What a training run works on, and what changes in its course."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import GPT2LMHeadModel

from theta.tokens.store import Store
from theta.train.averages import Averages
from theta.train.checkpoint import Progress
from theta.train.compute import Compute
from theta.train.gradients import Gradients
from theta.train.optimizer import Optimizer
from theta.train.settings import TrainSettings
from theta.train.update import Update
from theta.train.works import Works

Record = dict[str, Any]
"""What the loop yields, plain values that a resume state keeps: {"kind": "step" | "validation" | "memory", ...}."""


@dataclass(frozen=True, slots=True)
class Run:
    """What a training run works on.

    Attributes:
        model: trained in place; its output matrix is padded as `network.resize` does it.
        documents: the train split.
        validation: the validation split.
        resume: folder of the resume state.
        parent: process id of the parent that the run must not outlive.
    """

    model: GPT2LMHeadModel
    documents: Store
    validation: Store
    settings: TrainSettings
    compute: Compute
    resume: Path
    parent: int


@dataclass(slots=True)
class State:
    """What changes in the course of a run, beside the weights.

    Attributes:
        unread: records of steps under way, whose figures are still scalars on the device.
        clock: when the last of the others was read, in seconds.
    """

    compute: Compute
    optimizer: Optimizer
    gradients: Gradients
    update: Update
    works: Works
    progress: Progress
    averages: Averages
    unread: list[Record] = field(default_factory=list)
    clock: float = field(default_factory=time.perf_counter)

    def read(self, leave: int) -> list[Record]:
        """The records of the steps under way but the last `leave`, as plain values; waits for the device."""
        done, self.unread = self.unread[: len(self.unread) - leave], self.unread[len(self.unread) - leave :]
        for record in done:
            for name in ("loss", "gradient_norm"):
                record[name] = float(record[name])
            now = time.perf_counter()
            record["seconds"], self.clock = now - self.clock, now
        return done
