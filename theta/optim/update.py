"""From gradients to new weights: the norm, clipping, and the optimizer's update, without waiting for the device.

The factor that clips a gradient stays on the device and is applied in the optimizer's own pass over the gradient. If a
norm is not finite, the factor becomes and stays NaN, and the optimizer changes nothing. So the weights remain those
before the bad step until the host reads the norm.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from theta.optim.adamw import Optimizer, apply, apply_to

AddUp = Callable[[Iterable[Tensor]], None]
"""Replaces each tensor with its sum over the processes that train together."""

ALIGNMENT = 64
"""Each gradient begins at a multiple of this many elements, which suits wide loads."""


class Gradients:
    """The gradients of some parameters, which are all on one device.

    Args:
        in_place: keep them in one piece of memory from the start, so that one call measures or sums all of them.
            CUDA graphs need this, since they write to fixed addresses. Otherwise backward allocates them anew.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], in_place: bool) -> None:
        self._parameters = parameters
        self.device = parameters[0].device
        self._places: dict[nn.Parameter, Tensor] = {}
        self._whole = None
        if in_place:
            self._whole, parts = _one_piece(parameters)
            self._places = dict(zip(parameters, parts, strict=True))
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._put_in_place)

    def clear(self) -> None:
        """Drop all gradients."""
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
        """Return all gradients, in one tensor or several."""
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
    """Return one tensor of zeros, and the part of it for the gradient of each parameter."""
    sizes = [-(-parameter.numel() // ALIGNMENT) * ALIGNMENT for parameter in parameters]
    whole = parameters[0].new_zeros(sum(sizes), requires_grad=False)
    parts = zip(parameters, whole.split(sizes), strict=True)
    return whole, [part[: parameter.numel()].view_as(parameter) for parameter, part in parts]


class UpdateAfterBackward:
    """Computes all gradients first, then updates all weights: the usual way.

    Args:
        max_gradient_norm: a longer gradient is scaled down to this norm.
        add_up: sums the gradients over all processes.
    """

    def __init__(self, gradients: Gradients, optimizer: Optimizer, max_gradient_norm: float, add_up: AddUp) -> None:
        self._gradients, self._optimizer, self._add_up = gradients, optimizer, add_up
        self._clip = _Clip(max_gradient_norm, gradients.device)

    def finish(self, scale: float = 1) -> Tensor:
        """Update the weights by the gradients, which are `scale` times too large, and return their true norm."""
        self._add_up(self._gradients.tensors())
        norm = self._gradients.norm() / scale
        apply(self._optimizer, self._clip.factor(norm) / scale)
        return norm

    def forget(self) -> None:
        """Allow updates again after a norm that was not finite."""
        self._clip = _Clip(self._clip.max_norm, self._clip.device)


class UpdateInBackward:
    """Updates each parameter as soon as backward has its gradient, then drops the gradient.

    No two gradients are held at once. The norm of the whole gradient is known only when it is too late to clip by it,
    so the gradient of each parameter is clipped by its own norm. (Fused backward: Lv et al. 2023, LOMO.)

    Args:
        max_gradient_norm: a longer gradient of a parameter is scaled down to this norm.
        add_up: sums a gradient over all processes.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], optimizer: Optimizer, max_gradient_norm: float, add_up: AddUp
    ) -> None:
        self._optimizer, self._add_up = optimizer, add_up
        self._clip = _Clip(max_gradient_norm, parameters[0].device)
        self._squares = torch.zeros((), device=parameters[0].device)
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._update)

    def _update(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._add_up([parameter.grad])
        norm = torch.linalg.vector_norm(parameter.grad, dtype=torch.float32)
        apply_to(self._optimizer, parameter, self._clip.factor(norm))
        parameter.grad = None
        self._squares += norm.square()

    def finish(self, scale: float = 1) -> Tensor:  # noqa: ARG002 - only for bfloat16, which needs no scale
        """Return the norm of the whole gradient; the weights are already updated."""
        norm = self._squares.sqrt()
        self._squares.zero_()
        return norm

    def forget(self) -> None:
        """Do nothing: there is no loss scale to lower."""


Update = UpdateAfterBackward | UpdateInBackward


class _Clip:
    """The factor that scales a gradient down to the maximum norm; NaN from the first norm that is not finite."""

    def __init__(self, max_norm: float, device: torch.device) -> None:
        self.max_norm, self.device = max_norm, device
        self._good = torch.ones((), device=device)

    def factor(self, norm: Tensor) -> Tensor:
        """Return the factor for a gradient of this norm, a float32 scalar on the device."""
        self._good.copy_(torch.where(norm.isfinite(), self._good, torch.nan))
        return (self.max_norm / (norm.float() + 1e-6)).clamp(max=1) * self._good
