"""Exponential moving averages of the learned weights (Polyak and Juditsky 1992), which are often better than the last.

Everything stays where it is on the device, since recorded steps read the weights at fixed addresses, and nothing waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Averages:
    """Averages of the weights that are learned, in float32; with a decay of 0 there are none, and all does nothing.

    Attributes:
        tensors: the averages, for the resume state.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        self._weights = [weight.detach() for weight in model.parameters() if weight.requires_grad] if decay else []
        self.tensors = [weight.to(torch.float32, copy=True) for weight in self._weights]

    def update(self, steps: int) -> None:
        """Take in the weights after so many steps.

        At first the decay is lower, (1 + steps) / (10 + steps), so that a short run does not average over its start.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for average, weight in zip(self.tensors, self._weights, strict=True):
            average.lerp_(weight.float(), 1 - decay)

    def put(self) -> None:
        """Overwrite the weights by their averages."""
        _copy(self.tensors, self._weights)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While the block runs, the averages stand in the place of the weights."""
        weights = [weight.clone() for weight in self._weights]
        self.put()
        try:
            yield
        finally:
            _copy(weights, self._weights)


def _copy(sources: list[torch.Tensor], targets: list[torch.Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
