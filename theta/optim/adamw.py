"""AdamW with decay on matrices only: torch's own for float32 weights, ours with stochastic rounding for bfloat16."""

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.optim.rounded_adamw import RoundedAdamW

Optimizer = torch.optim.AdamW | RoundedAdamW


def adamw(
    model: GPT2LMHeadModel,
    *,
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    moment_bits: int | None,
    seed: int,
    layer_decay: float = 1.0,
) -> Optimizer:
    """Return AdamW (Loshchilov and Hutter 2019) for a model. Biases and layer norms do not decay.

    Args:
        model: parameters that need no gradient are left out.
        moment_bits: bits of each of the two moments, 32, 8 or 4, for weights in bfloat16, which are rounded
            stochastically; None selects torch's own AdamW, for weights in float32.
        layer_decay: the learning rate of a layer as a fraction of that of the layer above it.
    """
    layers = model.config.n_layer
    members: dict[tuple[float, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** _layers_above(name, layers)
            members.setdefault((scale, parameter.dim() >= 2), []).append(parameter)
    groups = [
        {"params": members[scale, decays], "scale": scale, "weight_decay": weight_decay if decays else 0.0}
        for scale, decays in sorted(members, reverse=True)
    ]
    if moment_bits is None:
        return torch.optim.AdamW(groups, lr=learning_rate, betas=betas, fused=True)
    return RoundedAdamW(groups, lr=learning_rate, betas=betas, moment_bits=moment_bits, seed=seed)


def _layers_above(name: str, layers: int) -> int:
    """Count the layers above the one that a parameter belongs to; the embeddings are below all blocks.

    The final layer norm belongs to the last block. The output matrix is the token embedding, so it is below all blocks.
    """
    match name.removeprefix("transformer.").split("."):
        case "h", block, *_:
            return layers - 1 - int(block)
        case "wte" | "wpe", *_:
            return layers
    return 0


def begin(optimizer: Optimizer, learning_rate: float) -> None:
    """Begin a step with this learning rate, which is scaled for each layer."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["scale"]
    if isinstance(optimizer, RoundedAdamW):
        optimizer.begin()


def apply(optimizer: Optimizer, factor: Tensor) -> None:
    """Update the weights by the gradients times `factor`, a scalar on the device; NaN changes nothing."""
    if isinstance(optimizer, RoundedAdamW):
        optimizer.step(factor)
        return
    # torch's own gradient scaler sets these for fused optimizers: gradients are divided by the first, and a nonzero
    # second one skips the update.
    optimizer.grad_scale = factor.reciprocal()  # type: ignore[attr-defined]
    optimizer.found_inf = (~factor.isfinite()).float()  # type: ignore[attr-defined]
    optimizer.step()


def apply_to(optimizer: Optimizer, parameter: Tensor, factor: Tensor) -> None:
    """Update one parameter by its gradient times `factor`, a scalar on the device."""
    assert isinstance(optimizer, RoundedAdamW)
    optimizer.update(parameter, factor)
