"""AdamW for bfloat16 weights on a GPU, with moments in 32, 8 or 4 bits. The arithmetic is in `theta.kernels.adamw`."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from theta.machine.devices import to_device
from theta.optim.moments import FEWEST_CODED, WEIGHTS_PER_SCALE

EPS = 1e-8

LONGEST_SMALL = 2**14
"""A tensor of at most this many weights is updated together with others, if its moments have 32 bits."""


class RoundedAdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter 2019) that rounds new weights stochastically.

    A step calls `begin` and then updates each parameter. Everything that changes from step to step is stored on the
    device, so an update can be recorded once and replayed.

    Args:
        groups: groups of parameters with their `weight_decay`.
        lr: learning rate; the loop sets it in each group before a step.
        betas: decay of the moments of the gradient and of its square.
        moment_bits: 32, 8 or 4 bits for each moment; small tensors always have 32.
        seed: of the rounding. Every step and tensor has its own noise, which a resumed run repeats.
    """

    def __init__(
        self, groups: Iterable[dict[str, Any]], *, lr: float, betas: tuple[float, float], moment_bits: int, seed: int
    ) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "step": 0})
        self._betas, self._seed = betas, seed
        parameters = [(parameter, group) for group in self.param_groups for parameter in group["params"]]
        device = parameters[0][0].device
        self._step_seed = torch.zeros((), dtype=torch.int32, device=device)
        self._numbers = {id(group): torch.zeros(3, device=device) for group in self.param_groups}
        self._of = {p: (self._numbers[id(group)], _mix(seed, number)) for number, (p, group) in enumerate(parameters)}
        for parameter, _ in parameters:  # now, so that a lack of memory shows before the first step
            self.state[parameter] = _new_state(parameter, moment_bits)
        self._small = {parameter.dtype: _Table(device) for parameter, _ in parameters}

    def begin(self) -> None:
        """Begin a step: put the numbers of this step on the device."""
        beta1, beta2 = self._betas
        for group in self.param_groups:
            group["step"] += 1
            step, lr = group["step"], group["lr"]
            numbers = [lr / (1 - beta1**step), 1 - lr * group["weight_decay"], (1 - beta2**step) ** -0.5]
            _overwrite(self._numbers[id(group)], torch.tensor(numbers))
        _overwrite(self._step_seed, torch.tensor(_mix(self._seed, self.param_groups[0]["step"]), dtype=torch.int32))

    def step(self, factor: Tensor) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            factor: gradients are multiplied by this float32 scalar on the device; NaN changes nothing.
        """
        learned = [parameter for parameter in self._of if parameter.grad is not None]
        for dtype, table in self._small.items():
            self._update_small([p for p in learned if self._is_small(p) and p.dtype == dtype], table, factor)
        for parameter in learned:
            if not self._is_small(parameter):
                self.update(parameter, factor)

    def _is_small(self, parameter: Tensor) -> bool:
        """Whether it is updated together with others: 200 vectors take longer to launch one by one than to update."""
        return parameter.numel() <= LONGEST_SMALL and "first_scale" not in self.state[parameter]

    def _update_small(self, parameters: Sequence[Tensor], table: "_Table", factor: Tensor) -> None:
        """Update small parameters of one type in one launch."""
        from theta.kernels import adamw as kernel

        if not parameters:
            return
        rows = []
        for parameter in parameters:
            state, (numbers, salt) = self.state[parameter], self._of[parameter]
            assert parameter.grad is not None
            tensors = (parameter, parameter.grad, state["first"], state["second"], numbers)
            rows.append([*(tensor.data_ptr() for tensor in tensors), salt, parameter.numel()])
        block, dtype = kernel.ROWS * kernel.WIDTH, parameters[0].dtype
        shape = {"BLOCK": block, "TYPE": kernel.TYPES[dtype], "ROUND": dtype == torch.bfloat16}
        grid = (len(rows), -(-max(parameter.numel() for parameter in parameters) // block))
        kernel.step_small[grid](
            table.of(rows), factor, self._step_seed, EPS, *self._betas, **shape, num_warps=kernel.WARPS
        )

    @torch.no_grad()
    def update(self, parameter: Tensor, factor: Tensor) -> None:
        """Update one parameter by its gradient times `factor`."""
        from theta.kernels import adamw as kernel

        state, gradient = self.state[parameter], parameter.grad
        assert gradient is not None
        numbers, salt = self._of[parameter]
        tensors = (parameter, gradient.contiguous(), state["first"], state["second"])
        rest = (factor, numbers, self._step_seed, salt, parameter.numel(), EPS, *self._betas)
        rounded = parameter.dtype == torch.bfloat16
        if "first_scale" not in state:
            block = kernel.ROWS * kernel.WIDTH
            grid = (-(-parameter.numel() // block),)
            kernel.step_plain[grid](*tensors, *rest, BLOCK=block, ROUND=rounded, num_warps=kernel.WARPS)
            return
        scales = (state["first_scale"], state["second_scale"])
        grid = (-(-scales[0].numel() // kernel.ROWS),)
        run = kernel.step_8bit if state["first"].dtype == torch.int8 else kernel.step_4bit
        shape = {"ROWS": kernel.ROWS, "WIDTH": WEIGHTS_PER_SCALE, "ROUND": rounded, "num_warps": kernel.WARPS}
        run[grid](*tensors, *scales, *rest, **shape)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the state as saved; torch's own method would convert the moments to the number format of the weights."""
        parameters = list(self._of)
        for number, state in state_dict["state"].items():
            for name, value in state.items():
                self.state[parameters[number]][name].copy_(value)
        for group, saved in zip(self.param_groups, state_dict["param_groups"], strict=True):
            group["step"] = saved["step"]


class _Table:
    """Rows of numbers on a device, copied there only when they change."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._rows, self._copy = device, list[list[int]](), torch.empty(0)

    def of(self, rows: list[list[int]]) -> Tensor:
        """Return the rows as an int64 tensor."""
        if rows != self._rows:
            self._rows, self._copy = rows, to_device(torch.tensor(rows), self._device)
        return self._copy


def _new_state(parameter: Tensor, bits: int) -> dict[str, Tensor]:
    """Return zero moments, flat: float32 [count], or codes with their scales, float32 [blocks]."""
    count, device = parameter.numel(), parameter.device
    if bits == 32 or count < FEWEST_CODED:
        return {name: torch.zeros(count, device=device) for name in ("first", "second")}
    blocks = -(-count // WEIGHTS_PER_SCALE)
    # 8 bits take a byte for each weight; with 4 bits the two halves of a block share their bytes.
    codes = count if bits == 8 else blocks * WEIGHTS_PER_SCALE // 2
    return {
        "first": torch.zeros(codes, dtype=torch.int8 if bits == 8 else torch.uint8, device=device),
        "second": torch.zeros(codes, dtype=torch.uint8, device=device),
        "first_scale": torch.zeros(blocks, device=device),
        "second_scale": torch.zeros(blocks, device=device),
    }


def _overwrite(target: Tensor, values: Tensor) -> None:
    target.copy_(to_device(values, target.device))


def _mix(seed: int, number: int) -> int:
    """Combine two numbers into a seed below 2**31."""
    return (seed * 0x5851F42D + number * 0x14057B7E + 0x2545F491) % (2**31 - 1)
