"""Where gradients lie: on a GPU in one piece of memory, so that they are measured and added up at once."""

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
        self._places: dict[nn.Parameter, Tensor] = {}
        self._whole = None
        if in_place:
            self._whole, parts = _one_piece(parameters)
            self._places = dict(zip(parameters, parts, strict=True))
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._put_in_place)

    def clear(self) -> None:
        """Forget the gradients that there are."""
        for parameter in self._parameters:
            parameter.grad = None

    def _put_in_place(self, parameter: nn.Parameter) -> None:
        """Copy a first gradient to its place, where later ones are added to it; cheaper than adding it to zeros."""
        place = self._places[parameter]
        if parameter.grad is not place:
            assert parameter.grad is not None
            place.copy_(parameter.grad)
            parameter.grad = place

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


def _one_piece(parameters: Sequence[nn.Parameter]) -> tuple[Tensor, list[Tensor]]:
    """One tensor of zeros, and the part of it for the gradient of each parameter."""
    sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
    whole = parameters[0].new_zeros(sum(sizes), requires_grad=False)
    parts = zip(parameters, whole.split(sizes), strict=True)
    return whole, [part[: parameter.numel()].view_as(parameter) for parameter, part in parts]
