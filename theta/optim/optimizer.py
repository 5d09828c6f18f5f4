"""The optimizer of a run: AdamW; or Muon for the matrices of the blocks, and AdamW for everything else."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import GPT2LMHeadModel

from theta.optim.muon import Muon
from theta.optim.rounded_adamw import RoundedAdamW

Part = torch.optim.AdamW | RoundedAdamW | Muon
Groups = list[dict[str, Any]]


class Optimizer:
    """One or two optimizers that update different weights of a model in the same step."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = parts
        self._of = {each: part for part in parts for group in part.param_groups for each in group["params"]}

    def begin(self, learning_rate: float) -> None:
        """Begin a step with this learning rate, which is scaled for each layer."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = learning_rate * group["scale"]
            if not isinstance(part, torch.optim.AdamW):
                part.begin()

    def apply(self, factor: Tensor) -> None:
        """Update the weights by the gradients times `factor`, a scalar on the device; NaN changes nothing."""
        for part in self._parts:
            if isinstance(part, torch.optim.AdamW):
                # torch's own gradient scaler sets these for fused optimizers: gradients are divided by the first, and
                # a nonzero second one skips the update.
                part.grad_scale = factor.reciprocal()  # type: ignore[attr-defined]
                part.found_inf = (~factor.isfinite()).float()  # type: ignore[attr-defined]
                part.step()
            else:
                part.step(factor)

    def apply_to(self, parameter: Tensor, factor: Tensor) -> None:
        """Update one parameter by its gradient times `factor`."""
        part = self._of[parameter]
        assert not isinstance(part, torch.optim.AdamW)
        part.update(parameter, factor)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the state of each part."""
        return [part.state_dict() for part in self._parts]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Load what `state_dict` returned."""
        for part, state in zip(self._parts, states, strict=True):
            part.load_state_dict(state)


def new(
    model: GPT2LMHeadModel,
    *,
    kind: Literal["adamw", "muon"],
    learning_rate: float,
    weight_decay: float,
    betas: tuple[float, float],
    moment_bits: int | None,
    products: torch.dtype,
    seed: int,
    layer_decay: float = 1.0,
) -> Optimizer:
    """Return the optimizer of a model. Biases and layer norms do not decay.

    Args:
        model: parameters that need no gradient are left out.
        kind: "adamw" (Loshchilov and Hutter 2019) for all weights; "muon" (Jordan et al. 2024) for the matrices of the
            blocks, and AdamW for the embeddings and the vectors.
        betas: AdamW's.
        moment_bits: bits of each of AdamW's two moments, 32, 8 or 4, for weights in bfloat16, which are rounded
            stochastically; None selects torch's own AdamW, for weights in float32.
        products: number format of Muon's products.
        layer_decay: the learning rate of a layer as a fraction of that of the layer above it.
    """
    layers = model.config.n_layer
    members: dict[tuple[bool, float, bool], list[Tensor]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** _layers_above(name, layers)
            by_muon = kind == "muon" and parameter.dim() == 2 and name.startswith("transformer.h.")
            members.setdefault((by_muon, scale, parameter.dim() >= 2), []).append(parameter)

    def groups(by_muon: bool) -> Groups:
        return [
            {"params": members[muon, scale, decays], "scale": scale, "weight_decay": weight_decay if decays else 0.0}
            for muon, scale, decays in sorted(members, reverse=True)
            if muon == by_muon
        ]

    parts: list[Part] = []
    if moment_bits is None:
        parts += [torch.optim.AdamW(groups(by_muon=False), lr=learning_rate, betas=betas, fused=True)]
    else:
        rest = groups(by_muon=False)
        parts += [RoundedAdamW(rest, lr=learning_rate, betas=betas, moment_bits=moment_bits, seed=seed)]
    if matrices := groups(by_muon=True):
        parts += [Muon(matrices, lr=learning_rate, products=products, seed=seed)]
    return Optimizer(parts)


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
