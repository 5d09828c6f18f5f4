"""What the GPU keeps of the rows between steps: the cache of keys and values, and what the choice of tokens needs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from theta.generate.engine import Row
from theta.generate.shape import Shape
from theta.generate.weights import Weights
from theta.kernels.sampling import FRACTIONS, LONGEST, STATE, WHOLE

PADDING = 64
"""The logits have a multiple of this many columns, as fast matrix products want it."""


@dataclass(frozen=True, slots=True)
class State:
    """Tensors with an entry for each slot, and one more slot for the rows that only fill up a step.

    The tensors by rows are described in `theta.kernels.sampling`.
    """

    cache: Tensor
    """[layers, slots + 1, 2, heads, positions, head width]"""
    state: Tensor
    whole: Tensor
    fractions: Tensor
    noise: Tensor
    replies: Tensor
    written: Tensor
    """The replies once more, in the host's memory."""
    marks: Tensor
    never: Tensor
    """[columns], 1 for ids that never come."""

    @property
    def slots(self) -> int:
        """Slots for rows."""
        return len(self.state) - 1

    @classmethod
    def new(cls, weights: Weights, shape: Shape, never: Sequence[int], slots: int) -> "State":
        """Return the state of slots without rows."""
        device, dtype = weights.tokens.device, weights.tokens.dtype
        columns = -(-shape.vocabulary // PADDING) * PADDING
        suppressed = torch.zeros(columns, dtype=torch.int8)
        suppressed[list(never)] = 1
        longest = LONGEST
        fractions = torch.tensor([[1.0, 1.0, 1.0]], device=device).repeat(slots + 1, 1)
        return cls(
            cache=torch.empty(
                (shape.layers, slots + 1, 2, shape.heads, shape.positions, shape.head), dtype=dtype, device=device
            ),
            state=torch.zeros((slots + 1, len(STATE)), dtype=torch.int32, device=device),
            whole=torch.ones((slots + 1, len(WHOLE)), dtype=torch.int32, device=device),
            fractions=fractions[:, : len(FRACTIONS)].contiguous(),
            noise=torch.zeros((slots + 1, longest), device=device),
            replies=torch.zeros((slots + 1, longest), dtype=torch.int32, device=device),
            written=torch.zeros((slots + 1, longest), dtype=torch.int32, pin_memory=device.type == "cuda"),
            marks=torch.full((slots + 1, columns), -1, dtype=torch.int16, device=device),
            never=suppressed.to(device),
        )

    def grown(self, weights: Weights, shape: Shape, never: Sequence[int], slots: int) -> "State":
        """Return a state of more slots with the rows of this one, which no step may still be writing."""
        larger = State.new(weights, shape, never, slots)
        larger.cache[:, : self.slots] = self.cache[:, :-1]
        for field in fields(self):
            if field.name not in ("cache", "never"):
                getattr(larger, field.name)[: self.slots] = getattr(self, field.name)[:-1]
        return larger


def set_rows(state: State, rows: Sequence[Row]) -> None:
    """Write the rows' parameters, random numbers and last prompt ids into their slots."""
    if not rows:
        return
    settings = [row.settings for row in rows]
    noise = np.zeros((len(rows), state.noise.shape[1]), np.float32)
    for place, row in enumerate(rows):
        noise[place, : row.room] = row.noise
    device = state.state.device
    slots = to_device([row.slot for row in rows], device)
    first = [(row.prompt[-1], len(row.prompt) - 1, 0, 0) for row in rows]
    whole = [[getattr(each, name) for name in WHOLE] for each in settings]
    fractions = [[getattr(each, name) for name in FRACTIONS] for each in settings]
    state.state[slots] = to_device(first, device, torch.int32)
    state.whole[slots] = to_device(whole, device, torch.int32)
    state.fractions[slots] = to_device(fractions, device)
    state.noise[slots] = to_device(noise, device)
    state.marks[slots] = -1


def to_device(values: Any, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Return values as a tensor on a device, without waiting until it has done what it was given before."""
    tensor = torch.as_tensor(values, dtype=dtype)
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor
