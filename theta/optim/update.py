"""From gradients to new weights: the norm, clipping, and the optimizer's update, without waiting for the device.

The factor that clips a gradient stays on the device and goes into the optimizer's own pass over it. When a norm is not
finite the factor is not a number, the optimizer then changes nothing, and so it stays: the weights are those
before the bad step, whenever the host comes to read of it.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from theta.optim.adamw import Optimizer, apply, apply_to
from theta.optim.gradients import Gradients
from theta.train.compute import Compute


class UpdateAfterBackward:
    """The usual way: all gradients, then one update."""

    def __init__(self, gradients: Gradients, optimizer: Optimizer, max_gradient_norm: float, compute: Compute) -> None:
        self._gradients, self._optimizer, self._ranks = gradients, optimizer, compute.ranks
        self._clip = _Clip(max_gradient_norm, compute.device)

    def finish(self, scale: float = 1) -> Tensor:
        """Update the weights by the gradients, which are `scale` times too large; return their true norm."""
        self._ranks.add_up(self._gradients.tensors())
        norm = self._gradients.norm() / scale
        apply(self._optimizer, self._clip.factor(norm) / scale)
        return norm

    def forget(self) -> None:
        """Go on after a norm that was not finite."""
        self._clip = _Clip(self._clip.longest, self._clip.device)


class UpdateInBackward:
    """Each parameter as soon as backward has its gradient, which is then dropped: no two gradients are ever held.

    The norm of the whole gradient is known only when it is too late to clip by it, so each parameter's gradient
    is clipped to the longest norm by itself. (Fused backward: Lv et al. 2023, LOMO.)
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], optimizer: Optimizer, max_gradient_norm: float, compute: Compute
    ) -> None:
        self._optimizer, self._ranks = optimizer, compute.ranks
        self._clip = _Clip(max_gradient_norm, compute.device)
        self._squares = torch.zeros((), device=compute.device)
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._update)

    def _update(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self._ranks.add_up([parameter.grad])
        norm = torch.linalg.vector_norm(parameter.grad, dtype=torch.float32)
        apply_to(self._optimizer, parameter, self._clip.factor(norm))
        parameter.grad = None
        self._squares += norm.square()

    def finish(self, scale: float = 1) -> Tensor:  # noqa: ARG002 - only bfloat16 comes here, which needs no scale
        """The norm of the whole gradient; the weights are updated already."""
        norm = self._squares.sqrt()
        self._squares.zero_()
        return norm

    def forget(self) -> None:
        """Nothing: there is no loss scale to go on with."""


Update = UpdateAfterBackward | UpdateInBackward


class _Clip:
    """The factor that shortens a gradient to the longest norm, from the first bad norm on not a number."""

    def __init__(self, longest: float, device: torch.device) -> None:
        self.longest, self.device = longest, device
        self._good = torch.ones((), device=device)

    def factor(self, norm: Tensor) -> Tensor:
        """A float32 scalar on the device."""
        self._good.copy_(torch.where(norm.isfinite(), self._good, torch.nan))
        return (self.longest / (norm.float() + 1e-6)).clamp(max=1) * self._good
