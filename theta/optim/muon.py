"""Muon for the matrices of the blocks: each update is the nearest orthogonal matrix to the mean of the gradients."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor

from theta.machine.devices import to_device

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the polynomial that brings all singular values close to 1 (Jordan et al. 2024)."""
EPS = 1e-7
ROOT_MEAN_SQUARE = 0.2
"""Of an update at a learning rate of 1, as AdamW's usually is (Liu et al. 2025, Muon is Scalable for LLM Training)."""
MOST_TOGETHER = 2**24
"""Weights whose updates are computed at once; more would only take memory."""


class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024), with updates of the size of AdamW's, so that both have one learning rate.

    torch's own has no factor for the gradients, waits for the device, and rounds bfloat16 weights to the nearest. This
    one is called like `RoundedAdamW`, and an update can be recorded like its updates.

    Args:
        groups: groups of matrices with their `weight_decay`.
        lr: learning rate; the loop sets it in each group before a step.
        products: the number format of the products that make an update orthogonal.
        seed: of the rounding of bfloat16 weights; every step and matrix has its own noise.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, products: torch.dtype, seed: int) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "step": 0})
        self._products, self._seed = products, seed
        parameters = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        device = parameters[0][0].device
        self._step_seed = torch.zeros((), dtype=torch.int64, device=device)
        self._numbers = {id(group): torch.zeros(2, device=device) for group in self.param_groups}
        self._of = {parameter: (self._numbers[id(group)], salt) for salt, (parameter, group) in enumerate(parameters)}
        for parameter, _ in parameters:  # now, so that a lack of memory shows before the first step
            self.state[parameter] = {"momentum": torch.zeros_like(parameter, dtype=torch.float32)}

    def begin(self) -> None:
        """Begin a step: put the numbers of this step on the device."""
        for group in self.param_groups:
            group["step"] += 1
            numbers = torch.tensor([group["lr"], 1 - group["lr"] * group["weight_decay"]])
            self._numbers[id(group)].copy_(to_device(numbers, self._step_seed.device))
        self._step_seed.fill_((self._seed << 24) + self.param_groups[0]["step"])

    def step(self, factor: Tensor) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient.

        Args:
            factor: gradients are multiplied by this float32 scalar on the device; NaN changes nothing.
        """
        for group in self.param_groups:
            learned = sorted((each for each in group["params"] if each.grad is not None), key=lambda each: each.shape)
            for _, alike in groupby(learned, key=lambda each: each.shape):
                for parameters in _pieces(list(alike)):
                    self._update(parameters, factor)

    def update(self, parameter: Tensor, factor: Tensor) -> None:
        """Update one matrix by its gradient times `factor`."""
        self._update([parameter], factor)

    @torch.no_grad()
    def _update(self, parameters: Sequence[Tensor], factor: Tensor) -> None:
        """Update matrices of one shape and one group."""
        good = factor.isfinite()
        factor = torch.where(good, factor, 0)
        steps = [self._with_momentum(parameter, factor, good) for parameter in parameters]
        rate, kept = self._numbers_of(parameters[0], good)
        rate = rate * -ROOT_MEAN_SQUARE * max(parameters[0].shape) ** 0.5
        for parameter, update in zip(parameters, orthogonal(torch.stack(steps)), strict=True):
            if parameter.dtype == torch.float32:
                parameter.mul_(kept).add_(update * rate)
            else:
                noise = self._noise(parameter)
                parameter.copy_(_rounded(parameter.float() * kept + update * rate, noise).where(good, parameter))

    def _with_momentum(self, parameter: Tensor, factor: Tensor, good: Tensor) -> Tensor:
        """Include the gradient in its mean; return both mixed once more, as Nesterov's momentum has it."""
        momentum = self.state[parameter]["momentum"]
        assert parameter.grad is not None
        gradient = torch.where(good, parameter.grad * factor, momentum)
        momentum.lerp_(gradient, 1 - MOMENTUM)
        return gradient.lerp(momentum, MOMENTUM).to(self._products)

    def _numbers_of(self, parameter: Tensor, good: Tensor) -> tuple[Tensor, Tensor]:
        """Return the learning rate and what weight decay leaves of a weight; 0 and 1 if nothing may change."""
        rate, kept = self._of[parameter][0]
        return rate * good, torch.where(good, kept, 1)

    def _noise(self, parameter: Tensor) -> Tensor:
        """Return 16 random bits for each weight, int32, which follow from the seed, the step and the matrix."""
        mixed = torch.arange(parameter.numel(), device=parameter.device) + (self._step_seed << 32)
        mixed = mixed + (self._of[parameter][1] * 0x9E3779B97F4A7C15) % 2**63
        for shift, multiplier in ((30, -0x40A7B892E31B1A47), (27, -0x6B2FB644ECCEEE15)):  # SplitMix64's
            mixed = (mixed ^ (mixed >> shift)) * multiplier
        return (mixed >> 40 & 0xFFFF).to(torch.int32).view(parameter.shape)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state as saved; torch's own method would convert the means to the number format of the weights."""
        for number, state in state_dict["state"].items():
            self.state[list(self._of)[number]]["momentum"].copy_(state["momentum"])
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group["step"] = saved["step"]


def _pieces(parameters: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
    """Divide matrices of one shape into pieces of at most `MOST_TOGETHER` weights, or one matrix."""
    count = max(1, MOST_TOGETHER // parameters[0].numel())
    for begin in range(0, len(parameters), count):
        yield parameters[begin : begin + count]


def orthogonal(matrices: Tensor) -> Tensor:
    """Return nearly orthogonal matrices with the singular vectors of the given ones, [count, rows, columns].

    Five Newton-Schulz iterations bring every singular value that is not tiny to between 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if is_tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + EPS)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x


def _rounded(values: Tensor, noise: Tensor) -> Tensor:
    """Round float32 values to bfloat16, up or down by chance, so that small updates are not lost on average."""
    return ((values.view(torch.int32) + noise) & -0x10000).view(torch.float32).bfloat16()
