"""AdamW with decay on matrices only: torch's own for float32 weights, ours with stochastic rounding for bfloat16."""

import torch
from torch import Tensor, nn

from theta.train.plan import Plan
from theta.train.rounded_adamw import RoundedAdamW

Optimizer = torch.optim.AdamW | RoundedAdamW


def adamw(
    model: nn.Module,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    plan: Plan,
    seed: int,
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019). Biases and layer norms do not decay."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    if plan.weights == "float32":
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    return RoundedAdamW(groups, lr=learning_rate, betas=betas, moment_bits=plan.moment_bits, seed=seed)


def begin(optimizer: Optimizer, learning_rate: float) -> None:
    """Begin a step with this learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    if isinstance(optimizer, RoundedAdamW):
        optimizer.begin()


def apply(optimizer: Optimizer, factor: Tensor) -> None:
    """Update the weights by the gradients times `factor`, a scalar on the device; not at all if it is not finite."""
    if isinstance(optimizer, RoundedAdamW):
        optimizer.step(factor)
        return
    # What torch's own gradient scaler hands to fused optimizers: gradients are divided by the first, and a second
    # that is not zero skips the update.
    optimizer.grad_scale = factor.reciprocal()  # type: ignore[attr-defined]
    optimizer.found_inf = (~factor.isfinite()).float()  # type: ignore[attr-defined]
    optimizer.step()


def apply_to(optimizer: Optimizer, parameter: Tensor, factor: Tensor) -> None:
    """Update one parameter."""
    assert isinstance(optimizer, RoundedAdamW)
    optimizer.update(parameter, factor)
