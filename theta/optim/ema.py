"""An exponential moving average (EMA) of the learned weights (Polyak and Juditsky 1992), often better than the last.

The weights keep their addresses, at which CUDA graphs read them, and the host never waits for the device.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class EMA:
    """The average of the learned weights, in float32. With a decay of 0 no average is kept, and the methods do nothing.

    Attributes:
        tensors: the average of each learned weight, by its name; the resume state keeps them.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay = decay
        named = model.named_parameters() if decay else []
        self._weights = {name: weight.detach() for name, weight in named if weight.requires_grad}
        self.tensors = {name: weight.to(torch.float32, copy=True) for name, weight in self._weights.items()}

    def update(self, steps: int) -> None:
        """Include the weights after `steps` steps.

        At first the decay is lower, (1 + steps) / (10 + steps), so that a short run does not average over its start.
        """
        decay = min(self._decay, (1 + steps) / (10 + steps))
        for name, weight in self._weights.items():
            self.tensors[name].lerp_(weight.float(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Replace the weights with their average, rounded to their own number format, while the block runs."""
        kept = {name: weight.clone() for name, weight in self._weights.items()}
        self._fill(self.tensors)
        try:
            yield
        finally:
            self._fill(kept)

    def _fill(self, sources: dict[str, torch.Tensor]) -> None:
        for name, weight in self._weights.items():
            weight.copy_(sources[name])
