"""AdamW with stochastic rounding against torch's: on a GPU, or in Triton's interpreter with TRITON_INTERPRET=1."""

import io
import os
from typing import Any

import pytest
import torch

from theta.optim.moments import state_bytes
from theta.optim.rounded_adamw import RoundedAdamW

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = torch.device("cpu" if INTERPRETED else "cuda")
SHAPE = (70, 67)  # not a multiple of any block

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not (INTERPRETED or torch.cuda.is_available()), reason="needs a CUDA device"),
]


def new(parameter: torch.nn.Parameter, bits: int, **changes: Any) -> RoundedAdamW:
    options = {"lr": 1e-2, "betas": (0.9, 0.95), "moment_bits": bits, "seed": 1, **changes}
    return RoundedAdamW([{"params": [parameter], "weight_decay": 0.1}], **options)


def step(optimizer: RoundedAdamW, factor: float) -> None:
    optimizer.begin()
    optimizer.step(torch.tensor(factor, device=DEVICE))


@pytest.mark.parametrize(
    ("dtype", "bits", "tolerance"),
    [
        (torch.float32, 32, 1e-5),
        (torch.bfloat16, 32, 0.03),
        (torch.float32, 8, 0.06),
        (torch.bfloat16, 8, 0.06),
        (torch.bfloat16, 4, 0.4),
    ],
)
def test_updates_are_close_to_those_of_torch_and_not_biased(dtype: torch.dtype, bits: int, tolerance: float) -> None:
    torch.manual_seed(0)
    ours = torch.nn.Parameter((0.1 * torch.randn(SHAPE, device=DEVICE)).to(dtype))
    exact = torch.nn.Parameter(ours.detach().float())
    begin = exact.detach().clone()
    optimizer, reference = new(ours, bits), torch.optim.AdamW([exact], lr=1e-2, betas=(0.9, 0.95), weight_decay=0.1)
    size = torch.exp(0.8 * torch.randn(SHAPE, device=DEVICE))
    for _ in range(12):
        gradient = ((torch.randn(SHAPE, device=DEVICE) + 0.5) * size).to(dtype)
        ours.grad, exact.grad = gradient, 0.5 * gradient.float()
        step(optimizer, 0.5)
        reference.step()
    difference, update = ours.detach().float() - exact.detach(), exact.detach() - begin
    assert difference.norm() < tolerance * update.norm()
    assert difference.mean().abs() < 0.03 * update.abs().mean()


def test_small_tensors_are_updated_together_as_each_alone() -> None:
    torch.manual_seed(0)
    sizes = {7: torch.float32, 1024: torch.bfloat16, 3000: torch.bfloat16, 1025: torch.float32}
    begin = [torch.randn(length, device=DEVICE).to(dtype) for length, dtype in sizes.items()]
    results = []
    for together in (True, False):
        weights = [torch.nn.Parameter(tensor.clone()) for tensor in begin]
        groups = [{"params": weights[:2], "weight_decay": 0.1}, {"params": weights[2:], "weight_decay": 0.0}]
        optimizer = RoundedAdamW(groups, lr=1e-2, betas=(0.9, 0.95), moment_bits=32, seed=1)
        for number in range(3):
            optimizer.begin()
            for weight in weights:
                weight.grad = torch.sin(torch.arange(len(weight), device=DEVICE) + number).to(weight.dtype)
            factor = torch.tensor(0.5, device=DEVICE)
            if together:
                optimizer.step(factor)
            else:
                for weight in weights:
                    optimizer.update(weight, factor)
        results.append(weights)
    for weight, alone, first in zip(*results, begin, strict=True):
        assert torch.equal(weight, alone)
        assert not torch.equal(weight, first)


def test_updates_smaller_than_a_step_of_bfloat16_are_not_lost() -> None:
    weight = torch.nn.Parameter(torch.ones(64, 128, device=DEVICE, dtype=torch.bfloat16))
    optimizer = new(weight, 32, lr=1e-4)
    optimizer.param_groups[0]["weight_decay"] = 0.0
    weight.grad = torch.ones_like(weight)
    for _ in range(20):
        step(optimizer, 1.0)
    assert 1 - weight.float().mean().item() == pytest.approx(20e-4, rel=0.1)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_a_factor_of_nan_changes_nothing(bits: int) -> None:
    weight = torch.nn.Parameter(torch.randn(SHAPE, device=DEVICE).bfloat16())
    optimizer = new(weight, bits)
    weight.grad = torch.randn_like(weight)
    step(optimizer, 1.0)
    before = [weight.detach().clone(), *(tensor.clone() for tensor in optimizer.state[weight].values())]
    step(optimizer, float("nan"))
    for old, tensor in zip(before, [weight, *optimizer.state[weight].values()], strict=True):
        assert torch.equal(old, tensor)


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_its_state_resumes_to_the_bit_and_takes_the_bytes_that_plans_count(bits: int) -> None:
    torch.manual_seed(0)
    weight = torch.nn.Parameter(torch.randn(128, 128, device=DEVICE).bfloat16())
    weight.grad = torch.randn_like(weight)
    optimizer = new(weight, bits)
    step(optimizer, 1.0)
    file = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "weight": weight.detach()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    copy = torch.nn.Parameter(saved["weight"])
    copy.grad = weight.grad.clone()
    resumed = new(copy, bits)
    resumed.load_state_dict(saved["optimizer"])
    step(optimizer, 1.0)
    step(resumed, 1.0)
    assert torch.equal(weight, copy)
    held = sum(tensor.numel() * tensor.element_size() for tensor in optimizer.state[weight].values())
    assert held == state_bytes(weight.numel(), bits)
