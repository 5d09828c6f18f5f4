"""Muon against torch's own, and what it adds to it: a factor, rounding by chance, and a state that goes on."""

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.runs import new_optimizer
from theta.model import network
from theta.optim.muon import MOMENTUM, ROOT_MEAN_SQUARE, Muon, orthogonal

SHAPES = ((24, 72), (24, 24), (24, 96), (96, 24), (24, 72))
ON_GPU = (pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"))
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]


def new(weights: list[Tensor], **changes: Any) -> Muon:
    groups = [{"params": weights, "weight_decay": 0.1}]
    return Muon(groups, **{"lr": 0.01, "products": torch.bfloat16, "seed": 1, **changes})


def weights_of(device: str = "cpu", dtype: torch.dtype = torch.float32) -> list[Tensor]:
    torch.manual_seed(0)
    return [(0.1 * torch.randn(shape)).to(device, dtype).requires_grad_() for shape in SHAPES]


def give_gradients(weights: list[Tensor], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for weight in weights:
        weight.grad = torch.randn(weight.shape, generator=generator).to(weight.device, weight.dtype)


def advance(optimizer: Muon, factor: float = 1.0) -> None:
    optimizer.begin()
    optimizer.step(torch.tensor(factor, device=optimizer.param_groups[0]["params"][0].device))


@pytest.mark.parametrize("device", DEVICES)
def test_it_is_torchs_muon(device: str) -> None:
    ours, theirs = weights_of(device), weights_of(device)
    begin = [weight.detach().clone() for weight in ours]
    optimizer = new(ours)
    reference = torch.optim.Muon(theirs, lr=0.01, weight_decay=0.1, momentum=MOMENTUM, adjust_lr_fn="match_rms_adamw")
    for step in range(5):
        give_gradients(ours, step)
        give_gradients(theirs, step)
        advance(optimizer)
        reference.step()
    for one, other, first in zip(ours, theirs, begin, strict=True):
        moved = (other - first).norm()
        assert (one - other).norm() < 0.02 * moved  # the products are in bfloat16, here of several matrices at once


def test_an_update_has_the_size_of_adamws_and_the_singular_vectors_of_the_gradient() -> None:
    torch.manual_seed(0)
    gradients = torch.randn(3, 20, 60)
    updates = orthogonal(gradients)
    left, _, right = torch.linalg.svd(gradients, full_matrices=False)
    values = torch.diagonal(left.mT @ updates @ right.mT, dim1=1, dim2=2)
    assert values.min() > 0.6
    assert values.max() < 1.3
    size = updates.square().mean().sqrt() * ROOT_MEAN_SQUARE * 60**0.5
    assert 0.7 * ROOT_MEAN_SQUARE < size < 1.3 * ROOT_MEAN_SQUARE


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_factor_that_is_not_finite_changes_nothing(device: str, dtype: torch.dtype) -> None:
    weights = weights_of(device, dtype)
    optimizer = new(weights)
    give_gradients(weights, 0)
    advance(optimizer)
    before = [weight.detach().clone() for weight in weights]
    momentum = [optimizer.state[weight]["momentum"].clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.full_like(weight, torch.inf)
    advance(optimizer, torch.nan)
    assert all(torch.equal(one, other) for one, other in zip(weights, before, strict=True))
    kept = [optimizer.state[weight]["momentum"] for weight in weights]
    assert all(torch.equal(one, other) for one, other in zip(kept, momentum, strict=True))


def test_bfloat16_weights_are_rounded_without_a_bias() -> None:
    """An update that is a hundredth of the distance between two numbers still moves the mean."""
    weights = [torch.ones(64, 64).bfloat16().requires_grad_()]
    exact = [torch.ones(64, 64).requires_grad_()]
    ours, reference = new(weights, lr=1e-4), new(exact, lr=1e-4)
    for step in range(50):
        give_gradients(weights, step)
        exact[0].grad = weights[0].grad.float()  # type: ignore[union-attr]
        advance(ours)
        advance(reference)
    moved, wanted = weights[0].detach().float() - 1, exact[0].detach() - 1
    assert moved.mean() == pytest.approx(float(wanted.mean()), rel=0.15)
    assert moved.unique().numel() > 1


def test_one_matrix_after_the_other_is_all_at_once() -> None:
    together, alone = weights_of(), weights_of()
    one, other = new(together), new(alone)
    for step in range(3):
        give_gradients(together, step)
        give_gradients(alone, step)
        advance(one, 0.5)
        other.begin()
        for weight in alone:
            other.update(weight, torch.tensor(0.5))
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_loaded_state_goes_on_to_the_bit(dtype: torch.dtype) -> None:
    weights = weights_of(dtype=dtype)
    optimizer = new(weights)
    for step in range(2):
        give_gradients(weights, step)
        advance(optimizer)
    copies = [weight.detach().clone().requires_grad_() for weight in weights]
    resumed = new(copies)
    resumed.load_state_dict(optimizer.state_dict())
    for members, each in ((weights, optimizer), (copies, resumed)):
        give_gradients(members, 2)
        advance(each)
    assert all(torch.equal(one, other) for one, other in zip(weights, copies, strict=True))


def test_it_learns_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = network.new(2, 2, 32, seed=0, vocabulary_size=60)
    adamw, muon = new_optimizer(model, kind="muon", weight_decay=0.1, layer_decay=0.5).state_dict()
    assert len(muon["state"]) == 2 * 4
    assert sum(len(group["params"]) for group in adamw["param_groups"]) == len(list(model.parameters())) - 2 * 4
    assert [group["scale"] for group in muon["param_groups"]] == [1.0, 0.5]
