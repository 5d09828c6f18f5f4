"""Where gradients lie: on a GPU in one piece of memory, so that they are cleared, measured and added up at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ALIGNMENT = 64
"""Each gradient begins at a multiple of so many elements, which suits wide loads."""


class Gradients:
    """The gradients of some parameters.

    Args:
        in_place: keep them in one piece of memory from the start, which recorded work asks for: it writes to where
            they were. Else backward makes them anew.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], in_place: bool) -> None:
        self._parameters = parameters
        self._whole = _one_piece(parameters) if in_place else None

    def clear(self) -> None:
        """Forget the gradients that there are."""
        if self._whole is not None:
            self._whole.zero_()
            return
        for parameter in self._parameters:
            parameter.grad = None

    def tensors(self) -> list[Tensor]:
        """All gradients, in one tensor or several."""
        if self._whole is not None:
            return [self._whole]
        return [parameter.grad for parameter in self._parameters if parameter.grad is not None]

    def norm(self) -> Tensor:
        """Euclidean norm of the whole gradient, a float32 scalar on the device."""
        if self._whole is not None:
            norm: Tensor = torch.linalg.vector_norm(self._whole, dtype=torch.float32)
            return norm
        return torch.nn.utils.get_total_norm(self.tensors())


def _one_piece(parameters: Sequence[nn.Parameter]) -> Tensor:
    """One tensor of zeros, of which each parameter's gradient is a part."""
    sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
    whole = parameters[0].new_zeros(sum(sizes), requires_grad=False)
    for parameter, part in zip(parameters, whole.split(sizes), strict=True):
        parameter.grad = part[: parameter.numel()].view_as(parameter)
    return whole
